"""A large base: parts of it are looked at as long as nothing points at a change, all of it where it was touched."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from pathlib import Path

import pytest

from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.core.system import files
from dreambooth_ext.engine import base_record, worker
from dreambooth_ext.engine.models import base_files
from dreambooth_ext.engine.runtime.control import Control
from tests import tiny, training
from tests.engine.models.test_base_files import PREVIEWS, acting_after
from tests.engine.worker.test_failures import error_of, steps, warnings
from tests.training import Trainer


@pytest.fixture
def after(monkeypatch):
    return acting_after(monkeypatch)


@pytest.fixture
def large(monkeypatch) -> None:
    """A tiny model counts as one, of which nearly nothing is looked at."""
    for name, value in {"END": 2**10, "BLOCK": 2**4, "BLOCKS": 4}.items():
        monkeypatch.setattr(base_files, name, value)


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names of the files that are read as a whole, one after the other."""
    names = []

    def hash_of(path: Path) -> str:
        if path.suffix == ".safetensors":  # the others are as small in a real base
            names.append(path.name)
        return files.sha256_of(path)

    monkeypatch.setattr(base_files, "hash_of", hash_of)
    return names


def touched(path: Path) -> None:
    os.utime(path, (1, 1))


def replaced_by_its_copy(path: Path) -> None:
    copy = shutil.copy2(path, path.with_name("copy"))
    os.replace(copy, path)


def altered(path: Path) -> None:
    """One number, between the parts that are looked at."""
    before = base_files.seen(path)
    (start, count), (after, _) = base_files.parts(path.stat().st_size)[2:4]
    with path.open("rb+") as file:
        file.seek((start + count + after) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    touched(path)
    assert base_files.seen(path) == before


def replaced_by_an_altered_copy(path: Path) -> None:
    """Which has the very time of the old one."""
    about = path.stat()
    copy = Path(shutil.copy2(path, path.with_name("copy")))
    altered(copy)
    os.utime(copy, ns=(about.st_atime_ns, about.st_mtime_ns))
    os.replace(copy, path)


SAME = [touched, replaced_by_its_copy]
OTHERS = [altered, replaced_by_an_altered_copy]
if os.name == "nt":  # an open file cannot be replaced there
    SAME, OTHERS = SAME[:1], OTHERS[:1]


@pytest.mark.parametrize("change", SAME)
def test_a_large_base_that_is_only_touched_is_the_base(trainer, after, large, hashed, change):
    after(1, lambda: change(trainer.base))
    run = trainer.train(max_train_steps=4, checkpointing_steps=2)
    assert len(run.artifact_events()) == 2 and warnings(run) == []
    assert hashed == 2 * [trainer.base.name]  # when it began and after the change, however often it is looked at
    change(trainer.base)
    assert training.go_on(run, total=5) == worker.DONE and training.go_on(run, total=6) == worker.DONE
    assert hashed == 3 * [trainer.base.name]


@pytest.mark.parametrize("change", OTHERS)
def test_one_number_of_a_large_base_is_noticed_before_a_model_is_written(trainer, after, large, change):
    content = trainer.base.read_bytes()
    after(2, lambda: change(trainer.base))
    run = trainer.train(max_train_steps=3, ends=worker.FAILED)
    error = error_of(run)
    assert error["field"] == "base_model" and f"{trainer.base.name} has changed" in error["what"]
    assert steps(run) == [3] and list(run.artifacts.iterdir()) == []
    assert training.go_on(run) == worker.BAD_INPUT and steps(run) == [3]
    trainer.base.write_bytes(content)
    assert training.go_on(run) == worker.DONE and len(run.artifact_events()) == 1


@pytest.mark.parametrize("change", OTHERS)
def test_nor_is_a_run_resumed_with_it(trainer, large, change):
    run = trainer.train(method="lora", rank=2, max_train_steps=2)
    change(trainer.base)
    for _ in range(2):
        assert training.go_on(run, total=3) == worker.BAD_INPUT
        problem = run.state()["problem"]
        assert f"not the one that the run started from: {trainer.base.name} has changed" in problem["message"]


def test_a_number_in_a_large_part_of_a_folder_is_noticed(tmp_path, after, large):
    folder = tiny.diffusers_folder(tmp_path / "base", "sd1")
    trainer = Trainer(tmp_path, base_model=str(folder))
    (vae,) = (folder / "vae").glob("*.safetensors")
    after(1, lambda: altered(vae))
    run = trainer.train(max_train_steps=2, ends=worker.FAILED)
    assert f"vae/{vae.name} has changed" in error_of(run)["what"]


def test_previews_without_a_large_base_do_not_read_it_each_time(trainer, after, large, hashed):
    after(2, lambda: altered(trainer.base))
    run = trainer.train(method="lora", rank=2, max_train_steps=4, **PREVIEWS)
    assert len(warnings(run)) == 1 and [event["step"] for event in training.events(run, "sample")] == [0, 1]
    assert hashed == 2 * [trainer.base.name]


def test_an_earlier_version_s_note_of_a_large_base_is_completed(trainer, large):
    run = trainer.train(method="lora", rank=2, max_train_steps=2)
    noted = files.read_json(run.path / "base.json")
    files.write_json(run.path / "base.json", {"files": noted["files"]})
    assert training.go_on(run, total=3) == worker.DONE
    assert files.read_json(run.path / "base.json") == noted
    assert noted["wholes"][trainer.base.name]["sha256"] == files.sha256_of(trainer.base)


def watched(path: Path) -> base_files.BaseFiles:
    path.write_bytes(os.urandom(2**14))
    known = base_files.BaseFiles({path.name: path}, "base_model")
    return known


@pytest.mark.parametrize(("change", "said"), [(touched, None), (altered, "base.safetensors has changed")])
def test_a_change_while_it_is_hashed(tmp_path, monkeypatch, large, change, said):
    known, read = watched(tmp_path / "base.safetensors"), []

    def hash_of(path: Path) -> str:
        digest = files.sha256_of(path)
        read.append(path) or (len(read) == 1 and change(path))
        return digest

    monkeypatch.setattr(base_files, "hash_of", hash_of)
    known.wholes.begin({})
    assert known.change() == said and len(read) == 2


def test_a_drive_that_numbers_files_anew_at_each_look_costs_one_reading(tmp_path, monkeypatch, large, hashed):
    numbers, mark = itertools.count(1), base_files.mark
    monkeypatch.setattr(base_files, "mark", lambda path: base_files.Mark(mark(path).mtime_ns, next(numbers)))
    known = watched(tmp_path / "base.safetensors")
    known.wholes.begin({})
    assert [known.change() for _ in range(3)] == [None, None, None] and len(hashed) <= 3
    before = len(hashed)
    assert known.change() is None and len(hashed) == before


def test_a_large_base_that_is_deleted_is_gone(tmp_path, large):
    known = watched(tmp_path / "base.safetensors")
    known.wholes.begin({})
    known.paths["base.safetensors"].unlink()
    assert known.change() == "base.safetensors is gone"


def test_stop_is_heard_while_a_large_base_is_read(trainer, large, monkeypatch):
    """And the tab sees what the run waits for."""
    stopped, progress = threading.Event(), Control.progress

    def hash_of(path: Path) -> str:
        stopped.wait(60)
        return files.sha256_of(path)

    def seen(control: Control, stage: Message, done: int, total: int) -> None:
        progress(control, stage, done, total)
        if stage == base_record.CHECKING:
            control.run.command("stop")

    monkeypatch.setattr(base_files, "hash_of", hash_of)
    monkeypatch.setattr(Control, "progress", seen)
    run = trainer.train(ends=worker.STOPPED)
    stopped.set()
    stages = [event["stage_code"] for event in training.events(run, "status") if "stage" in event]
    assert "stages.checking_base" in stages and not training.events(run, "step")
