"""Sets that are made at once: of a folder with masks, and none of them by halves."""

from __future__ import annotations

import os
import shutil
import time

import pytest

pytest.importorskip("PIL.Image")

from dreambooth_ext.host.pictures import set_archive
from dreambooth_ext.host.pictures.copying import copy_folder
from dreambooth_ext.host.pictures.new_set import new_set, usable
from dreambooth_ext.host.pictures.uploads import PictureSets
from tests.dying import dying

from .test_edits import drawn, painted


def no_worker(*question, **values):
    raise AssertionError("all of these are read as they are")


def test_masks_of_a_folder_come_along(tmp_path):
    own = tmp_path / "мои"
    (own / "sub").mkdir(parents=True)
    for place in (own, own / "sub"):
        (place / "a.jpg").write_bytes(drawn())
        (place / "a_mask.png").write_bytes(painted())
    made = copy_folder(PictureSets(tmp_path / "sets"), own, no_worker)
    names = sorted(path.name for path in (tmp_path / "sets" / "мои").iterdir())
    assert names == ["a.jpg", "a_mask.png", "sub - a.jpg", "sub - a_mask.png"] and made["count"] == 2
    assert copy_folder(PictureSets(tmp_path / "sets"), own, no_worker)["set"] == "мои-2"


def test_no_set_by_halves(tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (own / name).write_bytes(drawn())
    copied, copyfile = [], shutil.copyfile

    def failing(source, target):
        copied.append(source)
        if len(copied) == 2:
            raise OSError(28, "No space left on device")
        return copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", failing)
    sets = PictureSets(tmp_path / "sets")
    with pytest.raises(OSError, match="space"):
        copy_folder(sets, own, no_worker)
    assert list(sets.folder.iterdir()) == [] and sets.sets() == []
    with pytest.raises(KeyboardInterrupt), new_set(sets, "x") as made:
        (made.place / "a.jpg").write_bytes(drawn())
        raise KeyboardInterrupt
    assert list(sets.folder.iterdir()) == []

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_set(sets, "x", stop) as made:  # while the disk writes
        (made.place / "a.jpg").write_bytes(drawn())
    assert list(sets.folder.iterdir()) == []


def test_a_kill_at_any_instant_leaves_a_whole_set_or_none(tmp_path, monkeypatch):
    sets = PictureSets(tmp_path / "first")
    for name in ("a.jpg", "b.jpg"):
        sets.put("s", name, drawn())
    sets.put_caption("s", "a.txt", b"words")
    (tmp_path / "set.zip").write_bytes(b"".join(set_archive.stream(sets.path("s"))))
    whole = {path.name: path.read_bytes() for path in sets.path("s").iterdir()}
    ends = dying(monkeypatch, (os, "rename"))
    for k in range(200):
        other = PictureSets(tmp_path / f"other {k}")
        if ends(k, set_archive.read, other, tmp_path / "set.zip", "cat"):
            break
        for one in PictureSets(other.folder).sets():
            found = {path.name: path.read_bytes() for path in (other.folder / one["name"]).iterdir()}
            assert {name: found[name] for name in whole} == whole and one["title"] == "cat"
    else:
        raise AssertionError("it never came to its end")
    assert k > 5


def test_what_a_kill_left_is_swept_later(tmp_path):
    sets = PictureSets(tmp_path)
    for name, age in ((".tmp-old", 100_000), (".tmp-old.zip", 100_000), (".tmp-new", 10)):
        (tmp_path / name).write_text("x") if name.endswith("zip") else (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with new_set(sets, "s") as made:
        (made.place / "a.jpg").write_bytes(drawn())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-new", "s"]


@pytest.mark.parametrize(
    ("text", "name"), [("", "pictures"), ("con", "pictures"), ("..", "pictures"), (" .a ", "a"), ("a/b", "pictures"),
                       ("x" * 99, "x" * 60), ("Мои фото?", "Мои фото_")]
)  # fmt: skip
def test_names_from_any_text(text, name):
    assert usable(text) == name
