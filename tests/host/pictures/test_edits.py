"""Edits of a set's pictures: undone and redone, originals kept to the byte, also by a process that dies anywhere."""

from __future__ import annotations

import importlib
import io
import shutil
from pathlib import Path

import pytest

Image = pytest.importorskip("PIL.Image")
np = pytest.importorskip("numpy")

from dreambooth_ext.core.errors import Problem, UserError  # noqa: E402
from dreambooth_ext.core.pictures import edit_history  # noqa: E402
from dreambooth_ext.engine.pictures import editing, worker  # noqa: E402
from dreambooth_ext.host.errors import Refusal  # noqa: E402
from dreambooth_ext.host.pictures import edit_files  # noqa: E402
from dreambooth_ext.host.pictures.copying import copy_set  # noqa: E402
from dreambooth_ext.host.pictures.edits import PictureEdits  # noqa: E402
from dreambooth_ext.host.pictures.picture_worker import Unreadable  # noqa: E402
from dreambooth_ext.host.pictures.uploads import PictureSets  # noqa: E402
from tests.dying import dying  # noqa: E402

TURN, CROP = {"turns": 1}, {"turns": 0, "straighten": 0, "crop": [10, 10, 60, 50]}


def drawn(seed=0, size=(90, 60), form="JPEG", mode="RGB") -> bytes:
    stream = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(values).convert(mode).save(stream, form)
    return stream.getvalue()


def ask(task: str, keep: bool, patience: float, **values):
    """The worker's tasks, without its process."""
    assert isinstance(values.get("path", Path()), Path)  # PictureWorker.ask tells states of files apart by it
    module, function = worker.TASKS[task]
    return getattr(importlib.import_module(f"dreambooth_ext.engine.pictures.{module}"), function)(**values)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def sets(tmp_path) -> PictureSets:
    made = PictureSets(tmp_path / "мои данные")
    made.put("s", "a.jpg", drawn())
    made.put("s", "b.png", drawn(1, form="PNG"))
    made.put_caption("s", "a.txt", b"a big one")
    return made


@pytest.fixture
def edits(sets) -> PictureEdits:
    return PictureEdits(sets, ask)


@pytest.fixture
def folder(sets) -> Path:
    return sets.path("s")


def mask_of(edits: PictureEdits, picture="a.jpg") -> np.ndarray:
    return pixels(edits.mask("s", picture))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_from_the_original_and_back(edits, folder):
    before = (folder / "a.jpg").read_bytes()
    told = edits.show("s", "a.jpg")
    assert told["original"] == told["size"] == [90, 60] and (told["undo"], told["redo"]) == (0, 0)
    assert names(folder) == ["a.jpg", "a.txt", "b.png"]  # looking changes nothing
    told = edits.change("s", "a.jpg", told["stamp"], TURN)
    assert told["size"] == [60, 90] and pixels(folder / "a.jpg").shape == (90, 60, 3)
    told = edits.change("s", "a.jpg", told["stamp"], CROP)  # of the original, not of what was made of it
    assert told["size"] == [50, 40] and told["undo"] == 2 and told["edited"]
    kept = folder / ".edits" / "originals" / "a.jpg"
    assert kept.read_bytes() == before
    assert np.abs(pixels(folder / "a.jpg").astype(int) - pixels(kept)[10:50, 10:60]).mean() < 6
    told = edits.go("s", "a.jpg", told["stamp"], -1)
    assert told["size"] == [60, 90] and (told["undo"], told["redo"]) == (1, 1)
    told = edits.go("s", "a.jpg", told["stamp"], -1)
    assert (folder / "a.jpg").read_bytes() == before and not told["edited"]
    with pytest.raises(Refusal, match="nothing to undo"):
        edits.go("s", "a.jpg", told["stamp"], -1)
    told = edits.go("s", "a.jpg", edits.go("s", "a.jpg", told["stamp"], 1)["stamp"], 1)
    assert told["edit"]["crop"] == [10, 10, 60, 50]
    with pytest.raises(Refusal, match="nothing to redo"):
        edits.go("s", "a.jpg", told["stamp"], 1)
    told = edits.restore("s", "a.jpg", told["stamp"])
    assert (folder / "a.jpg").read_bytes() == before and told["undo"] == 3
    assert edits.go("s", "a.jpg", told["stamp"], -1)["size"] == [50, 40]
    assert [item["name"] for item in edits.sets.list("s")["pictures"]] == ["a.jpg", "b.png"]
    assert edits.original("s", "a.jpg").read_bytes() == before


def test_another_picture_is_left_alone(edits, folder):
    stamp = edits.show("s", "a.jpg")["stamp"]
    edits.sets.put("s", "a.jpg", drawn(7))
    with pytest.raises(Refusal, match="different picture"):
        edits.change("s", "a.jpg", stamp, TURN)
    assert not (folder / ".edits").exists()


def test_a_picture_that_was_replaced_is_the_original_now(edits, folder):
    edits.change("s", "a.jpg", "", TURN)
    other = drawn(7, (200, 100))
    edits.sets.put("s", "a.jpg", other)
    told = edits.show("s", "a.jpg")
    assert told["original"] == [200, 100] and told["edit"]["turns"] == 0 and told["undo"] == 0
    told = edits.change("s", "a.jpg", "", CROP)
    assert edits.original("s", "a.jpg").read_bytes() == other
    edits.restore("s", "a.jpg", "")
    assert (folder / "a.jpg").read_bytes() == other


def test_several_crops_of_one_picture(edits, folder):
    before = (folder / "a.jpg").read_bytes()
    told = edits.crop_more("s", "a.jpg", "", CROP)
    assert told["name"] == "a crop 2.jpg" and told["size"] == [50, 40] and told["undo"] == 0
    assert (folder / "a.jpg").read_bytes() == before
    assert (folder / "a crop 2.txt").read_text() == (folder / "a.txt").read_text()
    again = edits.crop_more("s", "a crop 2.jpg", "", {"crop": [0, 0, 30, 30]})
    assert again["name"] == "a crop 3.jpg"
    edits.change("s", "a.jpg", "", TURN)
    edits.sets.delete("s", "a.jpg")  # its original is the crops', too
    edits.change("s", "a crop 3.jpg", "", {"crop": [0, 0, 40, 40]})
    assert edits.original("s", "a crop 2.jpg").read_bytes() == before
    assert edits.restore("s", "a crop 3.jpg", "")["size"] == [30, 30]  # as it was made
    edits.sets.delete("s", "a crop 2.jpg")
    edits.sets.delete("s", "a crop 3.jpg")
    edits.change("s", "b.png", "", TURN)
    assert names(folder / ".edits" / "originals") == ["b.png"]  # nobody needs the other any more


def painted(size=(45, 30)) -> bytes:
    """The left half counts."""
    image = Image.new("L", size)
    image.paste(255, (0, 0, size[0] // 2, size[1]))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_masks_go_along(edits, folder):
    with pytest.raises(Refusal, match="no mask"):
        edits.mask("s", "a.jpg")
    told = edits.put_mask("s", "a.jpg", "", painted())
    assert told["mask"] == "a-masklabel.png" and mask_of(edits).shape == (60, 90)
    edits.change("s", "a.jpg", "", {"crop": [35, 0, 85, 60]})
    assert mask_of(edits).shape == (60, 50) and mask_of(edits)[:, :8].min() > 250 and mask_of(edits)[:, 15:].max() == 0
    edits.change("s", "a.jpg", "", TURN)
    assert mask_of(edits)[:40].min() > 250 and mask_of(edits)[50:].max() == 0  # what was left is above
    told = edits.crop_more("s", "a.jpg", "", {"crop": [0, 0, 20, 60]})
    assert told["mask"] == "a crop 2-masklabel.png" and mask_of(edits, "a crop 2.jpg").min() > 250
    edits.delete_mask("s", "a.jpg", "")
    assert not (folder / "a-masklabel.png").exists()
    edits.go("s", "a.jpg", "", -1)
    assert mask_of(edits).shape == (90, 60)
    edits.restore("s", "a.jpg", "")
    assert not (folder / "a-masklabel.png").exists()  # as it came
    edits.go("s", "a.jpg", "", -1)
    assert (folder / "a-masklabel.png").exists()
    edits.sets.delete("s", "a.jpg")
    assert not (folder / "a-masklabel.png").exists()


def test_masks_that_others_put_there_go_along(edits, folder):
    (folder / "a_mask.png").write_bytes(painted((90, 60)))
    (folder / "a-condlabel.png").write_bytes(drawn(3, form="PNG"))
    assert edits.show("s", "a.jpg")["mask"] == "a_mask.png"
    edits.change("s", "a.jpg", "", {"turns": 2})
    assert mask_of(edits)[:, 50:].min() > 250 and mask_of(edits)[:, :40].max() == 0
    (folder / "a_mask.png").write_bytes(painted((90, 60)))  # somebody makes another for what is there now
    edits.change("s", "a.jpg", "", {"turns": 0})
    assert mask_of(edits)[:, 50:].min() > 250
    edits.go("s", "a.jpg", "", -1)
    assert (folder / "a_mask.png").read_bytes() == painted((90, 60))
    edits.go("s", "a.jpg", "", -1)
    assert mask_of(edits)[:, 50:].min() > 250 and mask_of(edits)[:, :40].max() == 0  # the first one
    told = edits.put_mask("s", "a.jpg", "", painted())
    assert told["mask"] == "a-masklabel.png" and not (folder / "a_mask.png").exists()
    assert (folder / "a-condlabel.png").exists()


@pytest.mark.parametrize("data", [b"", b"<svg/>", drawn()[:300]])
def test_masks_that_are_no_pictures(edits, folder, data):
    with pytest.raises(Refusal):
        edits.put_mask("s", "a.jpg", "", data)
    assert names(folder) == ["a.jpg", "a.txt", "b.png"]


def test_sets_of_runs_stay_and_their_copies_are_edited(edits, sets, folder):
    before = (folder / "a.jpg").read_bytes()
    edits.put_mask("s", "a.jpg", "", painted())
    edits.change("s", "a.jpg", "", TURN)
    made = (folder / "a.jpg").read_bytes()
    sets.use(folder)
    for work in WORKS.values():
        with pytest.raises(Refusal, match="runs were queued"):
            work(edits)
    copy = copy_set(sets, "s")["set"]
    edits.restore(copy, "a.jpg", "")
    assert (sets.path(copy) / "a.jpg").read_bytes() == before
    assert (folder / "a.jpg").read_bytes() == made and (folder / "a-masklabel.png").exists()
    assert edits.go(copy, "a.jpg", "", -1)["edit"]["turns"] == 1


def test_where_the_subject_is(sets):
    def look(task: str, path: Path, **values):
        if path.name == "b.png":
            raise Unreadable(Problem("editing.crop", "crop"))
        return {"faces": [[1, 2, 3, 4]], "crop": [0, 0, 9, 9], "print": {}}

    edits = PictureEdits(sets, look)
    assert edits.subject("s", "a.jpg") == {"faces": [[1, 2, 3, 4]], "crop": [0, 0, 9, 9]}
    assert edits.subject("s", "b.png") == {"faces": [], "crop": None}


def test_a_worker_that_fails_changes_nothing(sets, folder):
    def fail(task: str, keep: bool, patience: float, **values):
        Path(values["target"]).write_bytes(b"half")
        raise UserError("editing.crop", "crop")

    with pytest.raises(UserError):
        PictureEdits(sets, fail).change("s", "a.jpg", "", TURN)
    assert (folder / "a.jpg").read_bytes() == drawn() and not list(folder.rglob(".tmp*"))
    assert edit_history.read(folder) == {}


def test_a_full_disk_is_told_before(edits, folder, monkeypatch):
    monkeypatch.setattr("dreambooth_ext.core.system.files.free_bytes", lambda path: 1000)
    with pytest.raises(Refusal) as refused:
        edits.change("s", "a.jpg", "", TURN)
    assert refused.value.status == 507


def test_a_damaged_history_is_told_and_the_set_still_shown(edits, sets, folder):
    edits.change("s", "a.jpg", "", TURN)
    (folder / ".edits" / "edits.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        edits.change("s", "a.jpg", "", CROP)
    (folder / ".edits" / edit_files.UNFINISHED).write_text("a.jpg")
    assert sets.list("s")["count"] == 2
    assert (folder / ".edits" / "originals" / "a.jpg").read_bytes() == drawn()


# --- a process that dies at any file operation


WORKS = {
    "the first edit": lambda edits: edits.change("s", "a.jpg", "", CROP),
    "undo": lambda edits: edits.go("s", "a.jpg", "", -1),
    "back to the original": lambda edits: edits.restore("s", "a.jpg", ""),
    "another crop": lambda edits: edits.crop_more("s", "a.jpg", "", {"crop": [0, 0, 30, 30]}),
    "a mask": lambda edits: edits.put_mask("s", "a.jpg", "", painted((90, 60))),
    "no mask": lambda edits: edits.delete_mask("s", "a.jpg", ""),
}


@pytest.mark.parametrize("work", WORKS)
def test_a_kill_at_any_instant(work, tmp_path, monkeypatch):
    sets = PictureSets(tmp_path / "sets")
    sets.put("s", "a.jpg", drawn())
    sets.put_caption("s", "a.txt", b"words")
    edits, folder = PictureEdits(sets, ask), sets.path("s")
    edits.put_mask("s", "a.jpg", "", painted())
    if work != "the first edit":
        edits.change("s", "a.jpg", "", TURN)
    shutil.copytree(folder, tmp_path / "before")
    states = [state_of(folder)]
    WORKS[work](edits)
    states.append(state_of(folder))
    ends = dying(monkeypatch)
    for k in range(1000):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "before", folder)
        ended = ends(k, lambda: WORKS[work](PictureEdits(sets, ask)))
        assert drawn() in [path.read_bytes() for path in folder.rglob("a.jpg")]  # the original is there
        after = PictureEdits(PictureSets(sets.folder), ask)
        told = after.show("s", "a.jpg")
        assert state_of(folder) in states, k
        assert told["original"] == [90, 60]
        after.restore("s", "a.jpg", "")
        assert (folder / "a.jpg").read_bytes() == drawn()
        if ended:
            return
    raise AssertionError("it never came to its end")


def state_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".jpg", ".png")}


def test_the_editor_decodes_what_it_makes(edits, folder):
    """The room's own function and the worker's table name the same thing."""
    assert {name: worker.TASKS[name][0] for name in ("render", "carry", "mask")} == dict.fromkeys(
        ("render", "carry", "mask"), "editing"
    )
    assert editing.SAVED.keys() == {"JPEG", "PNG", "WEBP", "BMP"}


def test_masks_are_made_and_undone(edits, sets, folder):
    told = edits.show("s", "a.jpg")
    told = edits.make_mask("s", "a.jpg", told["stamp"], "ellipse", [10, 10, 50, 40])
    assert told["mask"] == "a-masklabel.png" and told["undo"] == 1 and (folder / "a-masklabel.png").exists()
    mask = mask_of(edits)
    assert mask.shape == (60, 90) and mask[25, 30] == 255 and mask[55, 80] == 0
    told = edits.change("s", "a.jpg", told["stamp"], CROP)  # it goes along with what is done to the picture
    assert mask_of(edits).shape == (40, 50) and mask_of(edits)[15, 20] == 255
    told = edits.make_mask("s", "a.jpg", told["stamp"], "ellipse", [0, 0, 20, 20])  # of the picture as it is now
    assert mask_of(edits).shape == (40, 50) and mask_of(edits)[10, 10] == 255 and mask_of(edits)[15, 30] == 0
    told = edits.go("s", "a.jpg", told["stamp"], -1)
    assert mask_of(edits)[15, 20] == 255
    told = edits.restore("s", "a.jpg", told["stamp"])
    assert told["mask"] is None and not (folder / "a-masklabel.png").exists()


def test_a_mask_that_cannot_be_made_changes_nothing(edits, folder):
    before, told = names(folder), edits.show("s", "a.jpg")
    for by, box in (("nonsense", None), ("ellipse", [500, 0, 600, 90]), ("/nowhere/m.onnx", None)):
        with pytest.raises((Refusal, UserError)):
            edits.make_mask("s", "a.jpg", told["stamp"], by, box)
    kept = [name for name in names(folder) if not name.startswith(edit_history.FOLDER)]
    assert kept == before and edits.show("s", "a.jpg") == told


def test_a_condition_beside_a_picture_goes_along_but_is_no_mask(edits, sets, folder):
    """OneTrainer's other picture: carried with its picture, never learned from."""
    Image.new("L", (90, 60), 200).save(folder / "a-condlabel.png")
    told = edits.show("s", "a.jpg")
    assert told["mask"] is None
    told = edits.change("s", "a.jpg", told["stamp"], CROP)
    assert pixels(folder / "a-condlabel.png").shape == (40, 50)
