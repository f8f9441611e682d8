"""What was published is taken out again, and nothing else: not another's model, not what its user has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth_ext.core.errors import Problem
from dreambooth_ext.core.system.files import read_json, write_json
from dreambooth_ext.host.errors import Refusal
from dreambooth_ext.host.publishing.model_files import CLIP, publish
from dreambooth_ext.host.publishing.unpublish import is_published, take_out
from tests.host.asking import Asked

EVERYTHING = ["cat-clip", "cat.json", "cat.preview.png", "cat.safetensors", "cat.yaml"]


@pytest.fixture
def artifact(tmp_path) -> Path:
    """A model with everything that can lie beside one."""
    folder = tmp_path / "запуск 1" / "artifacts"
    (folder / f"cat{CLIP}" / "inner").mkdir(parents=True)
    (folder / f"cat{CLIP}" / "inner" / "config.json").write_text("{}", encoding="utf-8")
    (folder / "cat.safetensors").write_bytes(b"weights 1")
    (folder / "cat.yaml").write_text('model:\n  version: "/a/place of the run"\n', encoding="utf-8")
    (folder / "cat.preview.png").write_bytes(b"png")
    write_json(folder / "cat.json", {"notes": "кот"})
    return folder / "cat.safetensors"


@pytest.fixture
def published(artifact, tmp_path) -> Path:
    folder = tmp_path / "my models"
    folder.mkdir()
    (folder / "dog.safetensors").write_bytes(b"somebody's")
    return publish(artifact, folder, run="r1", name="cat")


def names(published: Path) -> list[str]:
    return sorted(path.name for path in published.parent.iterdir() if path.name != "dog.safetensors")


def test_everything_goes_and_the_run_keeps_its_own(artifact, published):
    before = sorted(path.name for path in artifact.parent.iterdir())
    assert names(published) == EVERYTHING and is_published(artifact, published, "r1")
    assert sorted(take_out(artifact, published, "r1")) == EVERYTHING
    assert names(published) == [] and (published.parent / "dog.safetensors").exists()
    assert sorted(path.name for path in artifact.parent.iterdir()) == before
    assert artifact.read_bytes() == b"weights 1"
    publish(artifact, published.parent, run="r1", name="cat")  # and it can come back
    assert names(published) == EVERYTHING


@pytest.mark.parametrize("copied", [False, True])
def test_a_model_that_was_changed_or_is_not_this_runs_stays(artifact, published, copied):
    if copied:  # another disk, where no link is possible
        published.unlink()
        published.write_bytes(artifact.read_bytes())
    with pytest.raises(Refusal, match="is not this run's model"):
        take_out(artifact, published, "r2")
    published.unlink()
    published.write_bytes(b"weights 2")  # of the same size
    with pytest.raises(Refusal, match="was changed"):
        take_out(artifact, published, "r1")
    published.with_suffix(".json").unlink()
    with pytest.raises(Refusal, match="is not this run's model"):
        take_out(artifact, published, "r1")
    assert names(published) == [name for name in EVERYTHING if name != "cat.json"]
    published.unlink()
    with pytest.raises(Refusal, match="no longer exists"):
        take_out(artifact, published, "r1")


def test_sidecars_that_the_user_changed_stay(artifact, published):
    write_json(published.with_suffix(".json"), {**read_json(published.with_suffix(".json")), "preferred weight": 0.7})
    (published.parent / "cat.preview.png").write_bytes(b"a better one")
    (published.parent / f"cat{CLIP}" / "inner" / "added.json").write_text("{}", encoding="utf-8")
    assert sorted(take_out(artifact, published, "r1")) == ["cat.safetensors", "cat.yaml"]
    assert names(published) == ["cat-clip", "cat.json", "cat.preview.png"]
    left = read_json(published.with_suffix(".json"))
    assert left == {"notes": "кот", "preferred weight": 0.7}  # no mark: a model of that name is not ours any more


# --- by the API


@pytest.fixture
def asked(tmp_path) -> Asked:
    return Asked(tmp_path)


def made(asked: Asked, file: str = "mine.safetensors"):
    run = asked.run()
    (run.artifacts / file).write_bytes(b"weights")
    about = {"kind": "checkpoint", "name": Path(file).stem, "file": file, "step": 4, "final": True}
    run.events.append("artifact", **about, path=str(run.artifacts / file), size=7)
    path = asked.post(f"runs/{run.id}/publish", {"artifact": file}).json()["path"]
    run.events.append("published", name=about["name"], step=4, file=file, path=path)
    return run, Path(path)


def test_into_the_webui_and_out_of_it(asked):
    run, path = made(asked)
    (found,) = asked.get(f"runs/{run.id}/artifacts").json()["artifacts"]
    assert found["published"] == str(path) and found["selected"] is False
    asked.host.base = str(path)
    assert asked.get(f"runs/{run.id}/artifacts").json()["artifacts"][0]["selected"] is True
    answer = asked.post(f"runs/{run.id}/unpublish", {"artifact": "mine.safetensors"})
    assert answer.status == 200 and not path.exists()
    assert sorted(answer.json()["removed"]) == ["mine.json", "mine.safetensors"]
    assert answer.json()["revision"] == asked.get("state").json()["revision"] == 2
    (found,) = asked.get(f"runs/{run.id}/artifacts").json()["artifacts"]
    assert found["published"] is None and found["selected"] is False
    assert asked.post(f"runs/{run.id}/unpublish", {"artifact": "mine.safetensors"}).status == 404
    for wrong in ("../config.json", "none", "", "/etc/passwd"):
        assert asked.post(f"runs/{run.id}/unpublish", {"artifact": wrong}).status == 404, wrong
    assert asked.post(f"runs/{run.id}/unpublish", {"artifact": 5}).status == 422


def test_what_is_needed_or_lies_elsewhere_stays(asked, tmp_path):
    run, path = made(asked)

    def refused() -> str:
        answer = asked.post(f"runs/{run.id}/unpublish", {"artifact": "mine.safetensors"})
        assert answer.status == 409 and path.exists() and answer.json()["remedy"]
        return answer.json()["error"]

    asked.host.needs = lambda path: Problem("publishing.in_use", file=path.name, host="The host")
    assert "uses the checkpoint" in refused()
    del asked.host.needs
    other = asked.run("other", "queued", base_model=str(path))
    asked.dispatcher.ids.append(other.id)
    assert f"The run {other.id} trains on mine.safetensors" in refused()
    asked.dispatcher.ids.clear()
    away = tmp_path / "elsewhere" / path.name  # where `train --output-dir` put it, say
    away.parent.mkdir()
    for file in (path, path.with_suffix(".json")):
        (away.parent / file.name).write_bytes(file.read_bytes())
    run.events.append("published", name="mine", step=4, file="mine.safetensors", path=str(away))
    assert "is not a folder of" in refused() and away.exists()
