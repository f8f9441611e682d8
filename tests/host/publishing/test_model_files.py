"""Published models are whole, replace what we published, and nothing else."""

from __future__ import annotations

import gc
import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.system import files
from dreambooth_ext.core.system.files import read_json, write_json
from dreambooth_ext.host.hosts.publishing_targets import webui_folder
from dreambooth_ext.host.publishing import model_files as publishing
from dreambooth_ext.host.publishing import staging
from dreambooth_ext.host.publishing.model_files import publish
from tests.dying import dying


@pytest.fixture
def artifact(tmp_path):
    """A model with all sidecars, in a folder whose name asks for trouble."""
    folder = tmp_path / "запуск 1" / "artifacts"
    folder.mkdir(parents=True)
    (folder / "cat.safetensors").write_bytes(b"weights 1")
    (folder / "cat.yaml").write_text("model: {}", encoding="utf-8")
    (folder / "cat.preview.png").write_bytes(b"png")
    write_json(folder / "cat.json", {"notes": "кот", "activation text": "skscat"})
    return folder / "cat.safetensors"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my models"


def test_everything_arrives_and_nothing_else(artifact, folder):
    path = publish(artifact, folder, run="r1", name="cat")
    assert path == folder / "cat.safetensors" and path.read_bytes() == b"weights 1"
    assert sorted(p.name for p in folder.iterdir()) == ["cat.json", "cat.preview.png", "cat.safetensors", "cat.yaml"]
    described = read_json(folder / "cat.json")
    assert described["activation text"] == "skscat"
    assert described["dreambooth_ext"] == {"run": "r1", "name": "cat", "file": "cat.safetensors"}


def test_a_host_may_have_words_of_its_own_for_families(artifact, folder):
    """Forge Neo's cards are shown by its presets' names."""
    write_json(artifact.with_suffix(".json"), {"sd version": "SD1"})
    publish(artifact, folder, run="r1", name="cat")
    assert read_json(folder / "cat.json")["sd version"] == "SD1"
    publish(artifact, folder, run="r1", name="cat", versions={"SD1": "sd", "SDXL": "xl"})
    assert read_json(folder / "cat.json")["sd version"] == "sd"


def test_publishing_again_replaces_and_keeps_what_the_user_added(artifact, folder):
    publish(artifact, folder, run="r1", name="cat")
    write_json(folder / "cat.json", {**read_json(folder / "cat.json"), "vae": "nice.vae", "notes": "edited"})
    artifact.with_name("cat.safetensors.new").write_bytes(b"weights 2")
    os.replace(artifact.with_name("cat.safetensors.new"), artifact)
    artifact.with_name("cat.yaml").unlink()
    publish(artifact, folder, run="r2", name="cat")
    assert (folder / "cat.safetensors").read_bytes() == b"weights 2"
    assert not (folder / "cat.yaml").exists()
    described = read_json(folder / "cat.json")
    assert described["vae"] == "nice.vae" and described["notes"] == "кот"
    assert described["dreambooth_ext"]["run"] == "r2"
    publish(artifact, folder, run="r2", name="cat")  # and once more, by the same file


def test_a_model_that_will_be_replaced_is_named_before(artifact, folder):
    config = RunConfig(name="cat", method="finetune")
    assert publishing.replaced(config, folder) == publishing.replaced(config, None) == []
    publish(artifact, folder, run="r1", name="cat")
    (warning,) = publishing.replaced(config, folder)
    assert warning.field == "name" and warning.message == "cat.safetensors of an earlier run will be replaced."
    assert publishing.replaced(config.replace(name="dog"), folder) == []
    write_json(folder / "cat.json", {})
    assert publishing.replaced(config, folder) == []  # a stranger's is refused, and stays


@pytest.mark.parametrize("stranger", ["cat.safetensors", "cat.ckpt", "cat.yaml", "cat.preview.png", "cat.json"])
def test_a_strangers_file_is_never_touched(artifact, folder, stranger):
    folder.mkdir()
    (folder / stranger).write_text('{"notes": "mine"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"name: .*was not made by this extension"):
        publish(artifact, folder, run="r1", name="cat")
    assert [p.name for p in folder.iterdir()] == [stranger]
    assert (folder / stranger).read_text(encoding="utf-8") == '{"notes": "mine"}'


def test_another_container_replaces_the_old_one(artifact, folder):
    publish(artifact, folder, run="r1", name="cat")
    pickled = artifact.rename(artifact.with_suffix(".ckpt"))
    publish(pickled, folder, run="r1", name="cat")
    assert not (folder / "cat.safetensors").exists() and (folder / "cat.ckpt").exists()
    (folder / "cat.safetensors").write_bytes(b"foreign")
    with pytest.raises(UserError):
        publish(pickled, folder, run="r1", name="cat")


def test_the_model_comes_last_and_is_never_seen_half(odd, folder, monkeypatch):
    publish(odd, folder, run="r1", name="cat")
    renew(odd)
    seen, original = [], files.replace

    def spy(source, target):
        original(source, target)
        if target.parent == folder:
            seen.append(target.name)
            listed = [path for path in folder.rglob("*") if path.suffix in publishing.MODEL_SUFFIXES]
            assert listed == ([folder / "cat.safetensors"] if seen[-1] == "cat.safetensors" else [])

    monkeypatch.setattr(files, "replace", spy)
    publish(odd, folder, run="r1", name="cat")
    assert seen[-1] == "cat.safetensors" and "cat.yaml" in seen and "cat-clip" in seen


def renew(odd):
    """Another model with other sidecars under the same name."""
    odd.with_name("new").write_bytes(b"weights 2")
    os.replace(odd.with_name("new"), odd)
    text = odd.with_name("cat.yaml").read_text(encoding="utf-8")
    odd.with_name("cat.yaml").write_text(text.replace('"x"', '"y"'), encoding="utf-8")
    (odd.with_name("cat-clip") / "config.json").write_text("2", encoding="utf-8")


def kinds(folder) -> str:
    """Of the model that is there: "1", "2", "mixed", or "none". Its sidecars alone are no model."""
    if not (folder / "cat.safetensors").exists():
        return "none"
    yaml = folder / "cat.yaml"
    found = {(folder / "cat.safetensors").read_bytes()[-1:].decode()}
    if yaml.exists():
        text = yaml.read_text(encoding="utf-8")
        found.add("2" if '"y"' in text else "1")
        if "cat-clip" in text:
            found.add((folder / "cat-clip" / "config.json").read_text(encoding="utf-8"))
    return found.pop() if len(found) == 1 else "mixed"


@pytest.mark.parametrize("change", ["content", "container", "no clip"])
def test_a_publication_that_dies_at_any_operation(odd, tmp_path, monkeypatch, change):
    """The old model, the new one or for an instant none, never a mixture; who comes next brings it to its end."""
    ends, outcomes = dying(monkeypatch), set()
    publish(odd, tmp_path / "first", run="r1", name="cat")
    new = shutil.copytree(odd.parent, tmp_path / "new") / odd.name
    renew(new)
    if change == "container":
        new = new.rename(new.with_suffix(".ckpt"))
    elif change == "no clip":
        shutil.rmtree(new.with_name("cat-clip"))
        new.with_name("cat.yaml").unlink()
    for k in range(1000):
        folder = tmp_path / str(k)
        publish(odd, folder, run="r1", name="cat")
        if ends(k, publish, new, folder, run="r2", name="cat"):
            break
        gc.collect()  # the lock of the dead
        outcomes.add(kinds(folder))
        with staging.alone(folder):
            staging.sweep(folder, publishing.check_ours)
        assert not list(folder.glob(".tmp-*"))
        if change == "content":
            assert kinds(folder) in ("1", "2")
        publish(new, folder, run="r2", name="cat")
        expected = {"cat.json", "cat.preview.png", new.name}
        expected |= set() if change == "no clip" else {"cat.yaml", "cat-clip"}
        assert {path.name for path in folder.iterdir()} == expected
        assert (folder / new.name).read_bytes() == b"weights 2"
    assert k > 20 and "mixed" not in outcomes and "1" in outcomes


def test_what_is_there_already_is_not_written_again(odd, folder):
    """A kill can come between publishing and saying so."""
    publish(odd, folder, run="r1", name="cat")
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}
    publish(odd, folder, run="r1", name="cat")
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")} == before


def test_only_our_own_leftovers_are_swept_and_none_of_a_live_publisher(artifact, folder):
    folder.mkdir()
    (folder / ".tmp-of another tool").mkdir()
    (folder / ".tmp-12-cat.safetensors.part").write_bytes(b"just begun")
    for name in (".tmp-13-cat.safetensors.part", ".tmp-13-140-cat.json"):
        (folder / name).write_bytes(b"of an older version")
        os.utime(folder / name, (1e9, 1e9))
    (dead := folder / f"{staging.PREFIX}dead").mkdir()
    (dead / "cat.safetensors.part").write_bytes(b"half")
    with staging.Staging(folder, "dog.safetensors") as live:
        live.put_bytes("dog.json", b"{}")
        publish(artifact, folder, run="r1", name="cat")
        left = sorted(path.name for path in folder.glob(".tmp-*"))
        assert left == sorted([".tmp-12-cat.safetensors.part", ".tmp-of another tool", live.place.name])
    assert not live.place.exists()


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", ".hidden", 3])
def test_a_plan_that_names_other_places_is_not_carried_through(artifact, folder, name):
    (place := folder / f"{staging.PREFIX}foreign").mkdir(parents=True)
    (place / "escaped.part").write_bytes(b"x")
    write_json(place / "plan.json", {"model": "cat.safetensors", "put": [name], "drop": []})
    publish(artifact, folder, run="r1", name="cat")
    assert not place.exists() and not list(folder.parent.rglob("*escaped*"))


def test_a_stranger_that_came_meanwhile_is_not_replaced(odd, folder):
    (place := folder / f"{staging.PREFIX}left").mkdir(parents=True)
    (place / "cat.safetensors.part").write_bytes(b"ours")
    write_json(place / "plan.json", {"model": "cat.safetensors", "put": ["cat.safetensors"], "drop": []})
    (folder / "cat.safetensors").write_bytes(b"somebody's")
    staging.sweep(folder, publishing.check_ours)
    assert (folder / "cat.safetensors").read_bytes() == b"somebody's" and not place.exists()


def test_two_that_publish_a_model_of_one_name_at_once_do_not_mix_theirs(tmp_path, monkeypatch):
    """The second one comes when the first has put its yaml there, and not yet its model."""
    folder, made = tmp_path / "out", [tmp_path / str(number) / "cat.safetensors" for number in range(2)]

    def put(number: int, text: str) -> None:
        for path in (made[number], made[number].with_suffix(".yaml")):
            files.write_text(path, text)

    put(0, "old")
    publish(made[0], folder, run="r", name="cat")
    put(0, "one")
    put(1, "two")
    second = threading.Thread(target=publish, args=(made[1], folder), kwargs={"run": "r", "name": "cat"})
    replace = files.replace

    def slowly(source: Path, target: Path) -> None:
        replace(source, target)
        if target == folder / "cat.yaml" and second.ident is None:
            second.start()
            second.join(1)

    monkeypatch.setattr(files, "replace", slowly)
    publish(made[0], folder, run="r", name="cat")
    second.join()
    assert (folder / "cat.safetensors").read_text() == (folder / "cat.yaml").read_text() == "two"
    assert sorted(path.name for path in folder.iterdir()) == ["cat.json", "cat.safetensors", "cat.yaml"]


def test_a_failed_copy_leaves_nothing_behind(artifact, folder, monkeypatch):
    def broken(source, target):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(publishing, "link_or_copy", broken)
    with pytest.raises(OSError):
        publish(artifact, folder, run="r1", name="cat")
    assert not [p for p in folder.iterdir() if "safetensors" in p.name]
    monkeypatch.undo()
    publish(artifact, folder, run="r1", name="cat")  # the name is ours already


def test_copies_where_links_do_not_work(artifact, folder, monkeypatch):
    def no_links(source, target):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    path = publish(artifact, folder, run="r1", name="cat")
    assert path.read_bytes() == b"weights 1" and not path.samefile(artifact)


def test_a_webui_is_known_by_its_files(tmp_path):
    assert webui_folder(tmp_path, "checkpoint") == tmp_path / "models" / "Stable-diffusion"  # empty: to become one
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UserError, match="does not look like a WebUI"):
        webui_folder(tmp_path, "checkpoint")
    (tmp_path / "webui.py").touch()
    assert webui_folder(tmp_path, "checkpoint") == tmp_path / "models" / "Stable-diffusion"
    assert webui_folder(tmp_path, "textual_inversion") == tmp_path / "embeddings"


def test_a_full_disk_is_said_before_copying(artifact, folder, monkeypatch):
    monkeypatch.setattr(publishing, "free_bytes", lambda path: 3)
    publish(artifact, folder, run="r1", name="cat")  # the same disk: a link needs no room
    monkeypatch.setattr(publishing, "same_disk", lambda artifact, folder: False)
    with pytest.raises(UserError, match="free"):
        publish(artifact, folder, run="r1", name="cat")


@pytest.fixture
def odd(artifact):
    """The model with a yaml that names a CLIP folder beside it, as the engine exports unusual sizes."""
    clip = artifact.with_name("cat-clip")
    clip.mkdir()
    (clip / "config.json").write_text("1", encoding="utf-8")
    text = f'model:\n  params:\n    version: {json.dumps(str(clip), ensure_ascii=False)}\n    other: "x"\n'
    artifact.with_name("cat.yaml").write_text(text, encoding="utf-8")
    return artifact


def test_a_clip_folder_comes_along_and_the_yaml_names_it(odd, folder):
    publish(odd, folder, run="r1", name="cat")
    assert (folder / "cat-clip" / "config.json").read_text() == "1"
    clip = json.dumps(str(folder / "cat-clip"), ensure_ascii=False)
    text = (folder / "cat.yaml").read_text(encoding="utf-8")
    assert text == f'model:\n  params:\n    version: {clip}\n    other: "x"\n'
    (odd.with_name("cat-clip") / "config.json").write_text("2", encoding="utf-8")
    publish(odd, folder, run="r1", name="cat")
    assert (folder / "cat-clip" / "config.json").read_text() == "2"
    assert not [path for path in folder.iterdir() if path.name.startswith(".tmp-")]


def test_a_clip_folder_goes_with_the_model_that_needed_it(odd, folder):
    publish(odd, folder, run="r1", name="cat")
    shutil.rmtree(odd.with_name("cat-clip"))
    odd.with_name("cat.yaml").unlink()
    publish(odd, folder, run="r2", name="cat")
    assert sorted(p.name for p in folder.iterdir()) == ["cat.json", "cat.preview.png", "cat.safetensors"]


def test_a_strangers_folder_is_never_touched(odd, folder):
    (folder / "cat-clip").mkdir(parents=True)
    with pytest.raises(UserError, match="was not made by this extension"):
        publish(odd, folder, run="r1", name="cat")
    assert list((folder / "cat-clip").iterdir()) == []
