"""Copies of sets and folders: all that belongs to a picture comes along, and half a copy is none."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

pytest.importorskip("PIL.Image")

from dreambooth_ext.core.errors import Problem
from dreambooth_ext.host.errors import Refusal
from dreambooth_ext.host.pictures import copy_jobs, copying, set_about
from dreambooth_ext.host.pictures.copy_jobs import CopyJobs
from dreambooth_ext.host.pictures.picture_worker import Unreadable
from dreambooth_ext.host.pictures.uploads import USED, PictureSets
from tests.dying import dying

from .test_edits import drawn, painted


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture
def sets(tmp_path) -> PictureSets:
    """A set with two pictures, a caption, a mask, a title, what was edited and converted, and that a run uses."""
    made = PictureSets(tmp_path / "наборы")
    for name in ("a.jpg", "b.jpg"):
        made.put("s", name, drawn())
    made.put_caption("s", "a.txt", b"words")
    folder = made.path("s")
    files = ["a-masklabel.png", ".edits/edits.json", ".edits/captions.json", ".edits/originals/a.jpg"]
    for name in (*files, ".edits/masks/0.png", ".converted/b.heic"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"{}" if name.endswith("json") else painted())
    set_about.write_title(folder, "My cat")
    (folder / USED).touch()
    return made


def converting(task, picture, *, keep, out):
    """A picture worker that converts all but one."""
    assert (task, keep) == ("convert", False)
    if picture.name.startswith("broken"):
        raise Unreadable(Problem("pictures.unreadable", "picture", file=picture.name, error="it is broken"))
    Path(f"{out}.jpg").write_bytes(drawn())
    return {"file": f"{Path(out).name}.jpg", "width": 1, "height": 1}


# --- sets


def test_all_of_a_set_is_in_its_copy(sets):
    told = []
    made = copying.copy_set(sets, "s", lambda done, total: told.append((done, total)))
    before, after = contents(sets.path("s")), contents(sets.path("s-2"))
    assert made == {"set": "s-2", "folder": str(sets.path("s-2")), "count": 2}
    del before[USED]
    assert set_about.title(sets.path("s-2")) == "My cat (2)"
    assert {**after, set_about.FILE: before[set_about.FILE]} == before and ".converted/b.heic" in after
    assert told[:11] == [(done, 10) for done in range(11)] and set(told[11:]) == {(10, 10)}
    assert copying.copy_set(sets, "s")["set"] == "s-3" and set_about.title(sets.path("s-3")) == "My cat (3)"


@pytest.mark.parametrize("links", [True, False])
def test_what_changes_meanwhile_is_in_the_copy(sets, links, monkeypatch):
    """Others change the set while it is copied; the copy is of one instant, and the set is not held for that long."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError(95, "not supported")))
    (sets.path("s") / USED).unlink()

    def change(done, total):
        if done == total - 1:
            sets.put("s", "a.jpg", drawn(7))
            sets.put("s", "c.jpg", drawn())
            sets.delete("s", "b.jpg")

    copying.copy_set(sets, "s", change)
    before, after = contents(sets.path("s")), contents(sets.path("s-2"))
    del before[set_about.FILE], after[set_about.FILE]
    assert before == after and "c.jpg" in after and "b.jpg" not in after
    sets.put("s", "a.jpg", drawn(8))
    assert contents(sets.path("s-2"))["a.jpg"] == after["a.jpg"]


def test_a_kill_while_a_set_is_copied_leaves_none_or_all(sets, monkeypatch):
    before = contents(sets.path("s"))
    copying.copy_set(sets, "s")
    whole = contents(sets.path("s-2"))
    sets.delete("s-2")
    ends = dying(monkeypatch, (os, "rename"))
    for k in range(300):
        if ends(k, copying.copy_set, sets, "s"):
            break
        assert contents(sets.path("s")) == before, k
        for one in sets.sets()[1:]:
            assert contents(sets.path(one["name"])) == whole, k
            sets.delete(one["name"])
    else:
        raise AssertionError("it never came to its end")
    assert k > 10 and [one["name"] for one in sets.sets()] == ["s", "s-2"]


def test_a_disk_without_links_must_have_room(sets, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError(95, "not supported")))
    monkeypatch.setattr(copying.files, "free_bytes", lambda path: 1000)
    with pytest.raises(Refusal) as refused:
        copying.copy_set(sets, "s")
    assert refused.value.status == 507 and [one["name"] for one in sets.sets()] == ["s"]


# --- folders


def test_pictures_in_other_formats_are_converted_with_what_is_beside_them(tmp_path):
    own = tmp_path / "Фото"
    (own / "sub").mkdir(parents=True)
    for name in ("a.heic", "a-masklabel.png", "sub/b.tiff", "broken.gif", "a.jpg", "c.psd"):
        (own / name).write_bytes(painted() if "mask" in name else drawn())
    (own / "a.txt").write_text("of both")
    (own / "sub" / "b.txt").write_text("words")
    before = contents(own)
    sets = PictureSets(tmp_path / "sets")
    made = copying.copy_folder(sets, own, converting)
    assert (made["count"], made["left_out"]) == (3, ["broken.gif"]) and contents(own) == before
    names = [
        "a.jpg",
        "a.txt",
        "a-masklabel.png",
        "a-2.jpg",
        "a-2.txt",
        "a-2-masklabel.png",
        "sub - b.jpg",
        "sub - b.txt",
    ]
    kept = [".converted/a-2.heic", ".converted/sub - b.tiff"]
    assert sorted(contents(sets.path("Фото"))) == sorted([*names, *kept])
    assert (sets.path("Фото") / kept[0]).read_bytes() == before["a.heic"]


def test_a_folder_without_any_picture_that_can_be_read(tmp_path):
    own, sets = tmp_path / "own", PictureSets(tmp_path / "sets")
    own.mkdir()
    with pytest.raises(Refusal, match="no pictures") as refused:
        copying.copy_folder(sets, own, converting)
    assert "HEIC" in refused.value.problem.remedy
    (own / "broken.heic").write_bytes(b"?")
    with pytest.raises(Refusal, match=r"broken\.heic"):
        copying.copy_folder(sets, own, converting)
    assert sets.sets() == []


# --- as jobs


def folder_of(place: Path, count: int) -> Path:
    place.mkdir()
    for number in range(count):
        (place / f"{number}.jpg").write_bytes(drawn())
    return place


def held(monkeypatch, at: int) -> tuple[threading.Event, threading.Event]:
    """Events: the copy has come to its file `at`; it may go on."""
    reached, go_on = threading.Event(), threading.Event()
    copied, copyfile = [], shutil.copyfile

    def wait(source, target):
        copied.append(source)
        if len(copied) == at:
            reached.set()
            assert go_on.wait(30)
        return copyfile(source, target)

    monkeypatch.setattr(copying.shutil, "copyfile", wait)
    monkeypatch.setattr(copy_jobs, "SOON", 0)
    return reached, go_on


def test_a_copy_tells_how_far_it_is_and_stops_without_a_trace(tmp_path, monkeypatch):
    own, sets = folder_of(tmp_path / "own", 9), PictureSets(tmp_path / "sets")
    jobs = CopyJobs(sets, converting)
    reached, go_on = held(monkeypatch, 4)
    id = jobs.start(own)["id"]
    assert reached.wait(30)
    told = jobs.show(id)
    assert (told["state"], told["done"], told["total"]) == ("running", 3, 9) and sets.sets() == []
    go_on_soon = threading.Timer(0.1, go_on.set)
    go_on_soon.start()
    jobs.stop(id)
    assert jobs.show(id) == {"id": id, "state": "stopped", "done": 4, "total": 9, "problem": None}
    assert list(sets.folder.iterdir()) == []
    jobs.stop(id)  # it is over


def test_a_stop_comes_too_late(tmp_path):
    own, sets = folder_of(tmp_path / "own", 2), PictureSets(tmp_path / "sets")
    jobs = CopyJobs(sets, converting)
    made = jobs.start(own)
    assert (made["state"], made["set"], made["count"], made["left_out"]) == ("done", "own", 2, [])
    jobs.stop(made["id"])
    assert jobs.show(made["id"]) == made and len(sets.sets()) == 1


def test_why_a_copy_failed(tmp_path, monkeypatch):
    own, sets = folder_of(tmp_path / "own", 2), PictureSets(tmp_path / "sets")
    jobs = CopyJobs(sets, converting)
    assert jobs.start(tmp_path / "none")["problem"]["code"] == "pictures.folder_unreadable"

    def full(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(copying.shutil, "copyfile", full)
    problem = jobs.start(own)["problem"]
    assert problem["code"] == "upload.not_copied" and "No space left" in problem["message"]
    assert str(tmp_path) not in problem["message"] and sets.sets() == []
    with pytest.raises(Refusal) as refused:
        jobs.show("another")
    assert refused.value.status == 404


def test_a_mistake_of_ours_is_named(tmp_path, monkeypatch):
    def mistaken(*given):
        raise KeyError("stem")

    printed = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: printed.set())
    monkeypatch.setattr(copying, "copy_folder", mistaken)
    told = CopyJobs(PictureSets(tmp_path / "sets"), converting).start(folder_of(tmp_path / "own", 1))
    assert told["state"] == "failed" and "KeyError: 'stem'" in told["problem"]["message"] and printed.wait(10)


def test_a_few_at_once_and_all_end_with_the_service(tmp_path, monkeypatch):
    own, sets = folder_of(tmp_path / "own", 2), PictureSets(tmp_path / "sets")
    jobs = CopyJobs(sets, converting)
    reached, go_on = held(monkeypatch, 1)
    ids = [jobs.start(own)["id"] for _ in range(copy_jobs.MOST)]
    assert reached.wait(30)
    with pytest.raises(Refusal) as refused:
        [jobs.start(own) for _ in range(copy_jobs.MOST)]  # some of the first may be over
        raise AssertionError
    assert refused.value.status == 409
    go_on.set()
    jobs.close()
    assert not any(jobs.show(id)["state"] == "running" for id in ids)
    assert not list(sets.folder.glob(".tmp*"))
