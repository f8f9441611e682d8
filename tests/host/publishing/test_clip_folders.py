"""The CLIP folders of models in a WebUI: none below its checkpoints, each there for as long as a model needs it."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.runs.job_options import JobOptions
from dreambooth_ext.host.hosts import publishing_targets
from dreambooth_ext.host.hosts.folder_host import FolderHost
from dreambooth_ext.host.publishing import clip_folders, staging
from dreambooth_ext.host.publishing import model_files as publishing
from dreambooth_ext.host.publishing.model_files import publish
from dreambooth_ext.host.publishing.publisher import Publisher, Terminal
from dreambooth_ext.host.publishing.unpublish import take_out
from tests.dying import dying


def made(folder: Path, name: str, clip: str = "1") -> Path:
    """A run's model whose yaml names a CLIP folder beside it."""
    beside = folder / f"{name}-clip"
    beside.mkdir(parents=True)
    (beside / "config.json").write_text(clip, encoding="utf-8")
    version = json.dumps(str(beside), ensure_ascii=False)
    (folder / f"{name}.yaml").write_text(f"model:\n  params:\n    version: {version}\n", encoding="utf-8")
    (folder / f"{name}.safetensors").write_bytes(f"weights of {name}".encode())
    return folder / f"{name}.safetensors"


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    return tmp_path / "мой webui" / "models" / "Stable-diffusion"


def folders(checkpoints: Path) -> list[Path]:
    """What the WebUI would show a button for."""
    return [path for path in checkpoints.rglob("*") if path.is_dir()]


def named(model: Path) -> Path:
    found = clip_folders.shared_by(model.with_suffix(".yaml"))
    assert found is not None
    return found


def kept(checkpoints: Path) -> list[Path]:
    return [path for path in checkpoints.with_name(clip_folders.SHELF).iterdir() if path.is_dir()]


def test_models_share_one_folder_outside_the_checkpoints(tmp_path, checkpoints):
    cat, dog, fox = (made(tmp_path / name, name, clip) for name, clip in (("cat", "1"), ("dog", "1"), ("fox", "2")))
    placed = {it.stem: publish(it, checkpoints, run=it.stem, name=it.stem) for it in (cat, dog, fox)}
    assert folders(checkpoints) == []
    assert named(placed["cat"]) == named(placed["dog"]) and named(placed["cat"]).is_dir()
    assert (named(placed["dog"]) / "config.json").read_text("utf-8") == "1"
    assert (named(placed["fox"]) / "config.json").read_text("utf-8") == "2"
    shared, own = named(placed["cat"]), named(placed["fox"])
    assert f"{clip_folders.SHELF}/{shared.name}" not in take_out(cat, placed["cat"], "cat")
    assert (shared / "config.json").is_file() and placed["dog"].is_file()
    assert f"{clip_folders.SHELF}/{own.name}" in take_out(fox, placed["fox"], "fox") and not own.exists()
    take_out(dog, placed["dog"], "dog")
    assert kept(checkpoints) == [] and list(checkpoints.iterdir()) == []
    assert (cat.with_name("cat-clip") / "config.json").is_file()  # the run's own


def test_a_host_with_checkpoints_elsewhere_keeps_them_with_its_data(tmp_path):
    place = publish(made(tmp_path / "run", "cat"), tmp_path / "disk", run="r", name="cat", data=tmp_path / "data")
    assert named(place).parent == tmp_path / "data" / clip_folders.SHELF and folders(tmp_path / "disk") == []


class Elsewhere(FolderHost):
    """A host whose checkpoints are on another disk (--ckpt-dir)."""

    def folders(self) -> dict[str, Path]:
        return {"checkpoint": self.folder.parent / "disk"}


def test_what_a_run_announces_goes_by_whose_folder_it_is(tmp_path):
    """The host's own, wherever it is, and another WebUI's keep theirs away; any other is one folder for its user."""
    run = run_folder.create(tmp_path / "runs", RunConfig(name="cat"), JobOptions().as_dict())
    made(run.artifacts, "cat")
    event = run.events.append("artifact", kind="checkpoint", name="cat", file="cat.safetensors", step=4, final=True)
    publisher, other = Publisher(Elsewhere(tmp_path / "data")), tmp_path / "other" / publishing_targets.CHECKPOINTS
    assert named(publisher.publish(run, event, False)).parent == tmp_path / "data" / clip_folders.SHELF
    assert named(publisher.publish(run, event, False, other)).parent == other.with_name(clip_folders.SHELF)
    assert folders(tmp_path / "disk") == folders(other) == []
    for host in (Elsewhere(tmp_path / "data"), Terminal()):
        placed = Publisher(host).publish(run, event, False, tmp_path / "mine")
        assert folders(placed.parent) == [tmp_path / "mine" / "cat-clip"]
        assert str(tmp_path / "mine" / "cat-clip") in placed.with_suffix(".yaml").read_text(encoding="utf-8")


def test_a_folder_that_a_moved_model_needs_or_a_user_has_changed_stays(tmp_path, checkpoints):
    cat, dog = made(tmp_path / "1", "cat"), made(tmp_path / "2", "dog", "2")
    first, second = (publish(it, checkpoints, run="r", name=it.stem) for it in (cat, dog))
    (checkpoints / "favourites").mkdir()
    shutil.copy(first.with_suffix(".yaml"), checkpoints / "favourites" / "kitten.yaml")
    shared, changed = named(first), named(second)
    (changed / "mine.txt").write_text("x", encoding="utf-8")
    take_out(cat, first, "r")
    take_out(dog, second, "r")
    assert shared.is_dir() and (changed / "mine.txt").is_file()


def test_what_a_yaml_names_elsewhere_is_never_deleted(tmp_path, checkpoints):
    cat = made(tmp_path / "run", "cat")
    placed = publish(cat, checkpoints, run="r", name="cat")
    precious = tmp_path / clip_folders.SHELF / "photos"
    precious.mkdir(parents=True)
    text = placed.with_suffix(".yaml").read_text(encoding="utf-8")
    text = clip_folders.LINE.sub(lambda line: line[1] + json.dumps(str(precious)), text)
    placed.with_suffix(".yaml").write_text(text, encoding="utf-8")
    take_out(cat, placed, "r")
    assert precious.is_dir() and not placed.exists()


@pytest.fixture
def of_an_earlier_version(tmp_path, checkpoints, monkeypatch) -> Path:
    """A model that was published when CLIP folders still lay beside models."""
    monkeypatch.setattr(clip_folders, "shelf_for", lambda folder, data: None)
    placed = publish(made(tmp_path / "run", "cat"), checkpoints, run="r", name="cat")
    monkeypatch.undo()
    assert folders(checkpoints) == [checkpoints / "cat-clip"]
    return placed


def test_the_folder_of_an_earlier_publication_goes_when_it_is_renewed(tmp_path, checkpoints, of_an_earlier_version):
    assert publish(tmp_path / "run" / "cat.safetensors", checkpoints, run="r", name="cat") == of_an_earlier_version
    assert folders(checkpoints) == [] and named(of_an_earlier_version).is_dir()


def test_the_folder_of_an_earlier_publication_goes_with_its_model(tmp_path, checkpoints, of_an_earlier_version):
    take_out(tmp_path / "run" / "cat.safetensors", of_an_earlier_version, "r")
    assert list(checkpoints.iterdir()) == []


def test_a_model_that_needs_another_or_none_lets_the_old_one_go(tmp_path, checkpoints):
    old, new = made(tmp_path / "1", "cat"), made(tmp_path / "2", "cat", "2")
    plain = made(tmp_path / "3", "cat")
    shutil.rmtree(plain.with_name("cat-clip"))
    plain.with_suffix(".yaml").unlink()
    publish(old, checkpoints, run="r", name="cat")
    placed = publish(new, checkpoints, run="r", name="cat")
    assert kept(checkpoints) == [named(placed)] and (named(placed) / "config.json").read_text("utf-8") == "2"
    publish(plain, checkpoints, run="r", name="cat")
    assert kept(checkpoints) == []


def test_a_damaged_folder_is_mended_and_a_whole_one_not_written_again(tmp_path, checkpoints):
    cat = made(tmp_path / "run", "cat")
    file = named(publish(cat, checkpoints, run="r", name="cat")) / "config.json"
    before = file.stat().st_ino, file.stat().st_mtime_ns
    publish(cat, checkpoints, run="r", name="cat")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before
    file.write_text("", encoding="utf-8")
    publish(cat, checkpoints, run="r", name="cat")
    assert file.read_text(encoding="utf-8") == "1"


def faults(checkpoints: Path) -> list[str]:
    """Of the models that are there: each has the CLIP folder that its yaml names, with the content for it."""
    found = [f"{path} is below the checkpoints" for path in folders(checkpoints) if not path.name.startswith(".tmp-")]
    for model in checkpoints.glob("*.safetensors"):
        expected = "2" if b"new" in model.read_bytes() else "1"
        config = named(model) / "config.json"
        if not config.is_file() or config.read_text(encoding="utf-8") != expected:
            found.append(f"{model.name} has no CLIP folder of its content")
    return found


@pytest.mark.parametrize("verb", ["publish", "take out"])
def test_who_dies_at_any_operation_leaves_models_that_load(tmp_path, monkeypatch, verb):
    ends = dying(monkeypatch)
    old, dog, new = made(tmp_path / "1", "cat"), made(tmp_path / "2", "dog"), made(tmp_path / "3", "cat", "2")
    new.write_bytes(b"new weights")
    for k in range(1000):
        checkpoints = tmp_path / str(k) / "models" / "Stable-diffusion"
        placed = publish(old, checkpoints, run="r", name="cat")
        if k % 2:
            publish(dog, checkpoints, run="r", name="dog")
        if verb == "publish":
            ended = ends(k, publish, new, checkpoints, run="r", name="cat")
        else:
            ended = ends(k, take_out, old, placed, "r")
        if ended:
            break
        gc.collect()  # the lock of the dead
        assert faults(checkpoints) == []
        staging.sweep(checkpoints, publishing.check_ours)
        assert faults(checkpoints) == []
        publish(new, checkpoints, run="r", name="cat")
        assert faults(checkpoints) == [] and not list(checkpoints.rglob(".tmp-*"))
        assert not list(checkpoints.with_name(clip_folders.SHELF).glob(".tmp-*"))
    assert k > (20 if verb == "publish" else 3)
