"""What a run keeps of its pictures from the moment it is queued, and what is told of those that change."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries, picture_list
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import run_folder


@pytest.fixture
def folder(tmp_path):
    """Three "pictures", one with a caption: nothing here decodes them. The name is as people have them."""
    folder = tmp_path / "Fotos für Änne"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.png").write_bytes(name.encode() * 100)
    (folder / "a.txt").write_text("a zkz on grass", encoding="utf-8")
    return folder


def config(folder, **settings):
    given = {"method": "finetune", "name": "x", "use_captions": True, "instance_data_dir": str(folder), **settings}
    return RunConfig(**given)


def queued(folder, **settings):
    return run_folder.create(folder.parent / "runs", config(folder, **settings))


def now(run):
    """(entries to train on, changes) as a start of the run would find them."""
    entries, problems = picture_entries.entries(run.config)
    assert not problems
    return picture_list.compare(picture_list.noted(run.path, are_class=False), entries)


def captions(entries):
    return {entry.path.name: entry.caption for entry in entries}


def test_nothing_has_changed(folder):
    run = queued(folder)
    entries, changes = now(run)
    assert not changes and changes.count == 3
    assert entries == picture_entries.entries(run.config)[0]
    assert changes.problem("f", run.id) is None and changes.warning("f", run.id) is None


def test_pictures_that_come_later_are_left_out_and_captions_stay(folder):
    run = queued(folder)
    before = captions(picture_entries.entries(run.config)[0])
    (folder / "0.png").write_bytes(b"new")
    (folder / "a.txt").write_text("another caption", encoding="utf-8")
    (folder / "b.txt").write_text("a first caption", encoding="utf-8")
    entries, changes = now(run)
    assert captions(entries) == before
    assert (changes.added, changes.recaptioned) == (("0.png",), ("a.png", "b.png"))
    assert changes.problem("f", run.id) is None
    warning = changes.warning("instance_data_dir", run.id)
    assert "were added (0.png) and captions changed (a.png, b.png); it trains as it was queued." in warning.message
    assert f"resume {run.id} --new-pictures" in warning.remedy


@pytest.mark.parametrize("change", ["gone", "altered"])
def test_pictures_that_are_gone_or_altered_are_a_problem(folder, change):
    run = queued(folder)
    if change == "gone":
        (folder / "b.png").unlink()
    else:
        (folder / "b.png").write_bytes(b"B" * 100)  # as long as it was
    changes = now(run)[1]
    assert getattr(changes, change) == ("b.png",)
    problem = changes.problem("instance_data_dir", run.id)
    assert problem.field == "instance_data_dir" and problem.code == f"pictures.{change}"
    assert problem.message.endswith(": b.png.")
    assert f"resume {run.id} --new-pictures" in problem.remedy


def test_the_same_bytes_with_another_time_are_the_same_picture(folder):
    run = queued(folder)
    os.utime(folder / "b.png", (1, 1))
    assert not now(run)[1]


def test_of_large_sets_only_size_and_time_are_compared(folder, monkeypatch):
    monkeypatch.setattr(picture_list, "HASHED", 299)
    run = queued(folder)
    assert [item.digest for item in picture_list.noted(run.path, are_class=False)] == [""] * 3
    assert not now(run)[1]
    os.utime(folder / "b.png", (1, 1))
    assert now(run)[1].altered == ("b.png",)


def test_a_run_forgets_its_list_when_its_user_says_so(folder):
    run = queued(folder)
    picture_list.forget(run.path)
    assert picture_list.noted(run.path, are_class=False) is None


def test_class_pictures_that_came_before_the_noted_ones_do_not_push_them_out(folder, tmp_path):
    classes = tmp_path / "classes"
    classes.mkdir()
    for name in "xyz":
        (classes / f"{name}.png").write_bytes(name.encode())
    settings = {"method": "dreambooth", "instance_prompt": "a zkz toy", "class_prompt": "a toy", "num_class_images": 2}
    run = queued(folder, **settings, class_data_dir=str(classes), with_prior_preservation=True)
    entries = picture_entries.entries(run.config)[0]
    picture_list.note(run.path, entries, are_class=True)
    (classes / "a.png").write_bytes(b"a")
    found, changes = picture_list.compare(
        picture_list.noted(run.path, are_class=True), [e for e in picture_entries.entries(run.config)[0] if e.is_class]
    )
    assert [entry.path.name for entry in found] == ["x.png", "y.png"] and not changes.gone
    assert found == [entry for entry in entries if entry.is_class]


def test_a_damaged_list_is_told_with_what_to_do(folder):
    run = queued(folder)
    (run.path / picture_list.FILES[False]).write_text('{"path": 1}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"pictures\.jsonl, is damaged.*--new-pictures"):
        picture_list.noted(run.path, are_class=False)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_names_that_are_no_text_are_noted_and_found_again(folder):
    (folder / "a.png").rename(folder / os.fsdecode(b"zkz\xff.png"))
    run = queued(folder)
    assert not now(run)[1]
    assert os.fsdecode(b"zkz\xff.png") in [Path(item.path).name for item in picture_list.noted(run.path, False)]
