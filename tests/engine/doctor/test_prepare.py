"""`prepare`: what it prints, what it writes, and that the originals stay as they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dreambooth_ext.engine import __main__ as engine
from tests.engine.doctor.pictures import scene


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "мои фото (1)"
    (made / "below").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(600, 512).save(made / "a.jpg", quality=95, exif=exif)
    (made / "a.txt").write_text("a heap of leaves", encoding="utf-8")
    scene(600, 512, seed=1).save(made / "b.png")
    scene(600, 512, seed=1).save(made / "bb.bmp")
    scene(600, 512, seed=2).save(made / "c.gif")
    scene(600, 512, seed=3).save(made / "below" / "d.tif")
    (made / "broken.jpg").write_bytes(b"<html>")
    return made


def prints(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def run(capsys, *words: object) -> tuple[int, str, str]:
    code = engine.main(["prepare", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_json_alone_is_on_standard_output(folder, capsys):
    code, out, _ = run(capsys, folder, "--json", "--subject-type", "object")
    told = json.loads(out)
    assert code == 0 and out.count("\n") == 1
    assert {"score", "pictures", "set", "out"} <= told.keys() and told["out"] is None and 0 <= told["score"] <= 100
    files = [picture["file"] for picture in told["pictures"]]
    assert files == ["a.jpg", "b.png", "bb.bmp", "below/d.tif", "broken.jpg", "c.gif"]
    of = {picture["file"]: picture for picture in told["pictures"]}
    assert [one["kind"] for one in of["broken.jpg"]["findings"]] == ["unreadable"]
    assert str(folder) not in json.dumps(of["broken.jpg"], ensure_ascii=False)
    assert [one["kind"] for one in of["bb.bmp"]["findings"]] == ["duplicate"]
    for picture in told["pictures"]:
        assert set(picture) == {"file", "findings", "crop", "faces"}
        for one in picture["findings"]:
            assert {"kind", "severity", "message", "remedy"} <= one.keys()
    assert [one["kind"] for one in told["set"]] == ["too_few"]


def test_a_folder_of_broken_pictures_cannot_be_used(tmp_path, capsys):
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"<html>")
    code, out, told = run(capsys, tmp_path, "--json", "--out", tmp_path.parent / "out")
    assert code == 1 and out == "" and "folder: there are no pictures in" in told and "only a.jpg, b.png" in told
    assert not (tmp_path.parent / "out").exists()


def test_mended_copies_beside_untouched_originals(folder, tmp_path, capsys):
    before, out = prints(folder), tmp_path / "mended"
    code, _, _ = run(capsys, folder, "--out", out)
    assert code == 0 and prints(folder) == before
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert written == ["a.jpg", "a.txt", "b.png", "below/d.png", "c.png"]
    with Image.open(out / "a.jpg") as picture:
        assert picture.size == (512, 512) and not picture.getexif().get(0x0112)
    assert (out / "a.txt").read_text(encoding="utf-8") == "a heap of leaves"


@pytest.mark.parametrize("place", [".", "inside", ".."])
def test_it_writes_neither_into_the_source_nor_over_anything(folder, capsys, place):
    before = prints(folder.parent)
    code, out, err = run(capsys, folder, "--out", folder / place)
    assert code == 1 and out == "" and "out" in err and prints(folder.parent) == before
    assert not (folder / "inside").exists()


def test_a_link_to_the_source_is_the_source(folder, tmp_path, capsys):
    try:
        (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert run(capsys, folder, "--out", tmp_path / "link" / "inside")[0] == 1


def test_a_folder_with_something_in_it_is_refused(folder, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    code, _, err = run(capsys, folder, "--out", tmp_path / "full")
    assert code == 1 and "not empty" in err


def test_folders_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name in ("empty", "file", "gone"):
        code, out, err = run(capsys, tmp_path / name, "--json")
        assert code == 1 and out == "" and name in err


def test_two_pictures_of_one_name(tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    scene(600, 512, seed=1).save(source / "a.png")
    scene(600, 512, seed=2).save(source / "a.gif")
    assert run(capsys, source, "--out", tmp_path / "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a (png).png", "a.png"]


def test_people_are_told_in_words(folder, capsys):
    code, out, _ = run(capsys, folder)
    assert code == 0 and "broken.jpg" in out and "Score: " in out
    assert "bb.bmp: it is the same picture as 'b.png'" in out


def test_masks_of_the_copies(folder, tmp_path, capsys):
    before, out = prints(folder), tmp_path / "mended"
    code, _, err = run(capsys, folder, "--mask", "ellipse")
    assert code == 1 and "mask" in err and "--out" in err
    code, _, err = run(capsys, folder, "--out", out, "--mask", "by hand")
    assert code == 1 and "by hand" in err and not out.exists()
    code, _, _ = run(capsys, folder, "--out", out, "--mask", "ellipse")
    assert code == 0 and prints(folder) == before
    assert (out / "below" / "d-masklabel.png").exists()
    with Image.open(out / "a-masklabel.png") as mask, Image.open(out / "a.jpg") as picture:
        assert mask.size == picture.size and mask.mode == "L"
        assert mask.getpixel((mask.width // 2, mask.height // 2)) == 255 and mask.getpixel((0, 0)) == 0


def test_masks_beside_the_originals_go_along(folder, tmp_path, capsys):
    """Each is cut as its picture is: both show the same here, and so do the copies. Other proportions are told."""
    for name, end in (("a.jpg", "_mask.png"), ("c.gif", "-masklabel.png"), ("below/d.tif", "_mask.bmp")):
        with Image.open(folder / name) as picture:  # a mask has an orientation of its own
            seen = ImageOps.exif_transpose(picture).convert("L")
        seen.resize((seen.width // 2, seen.height // 2) if "tif" in name else seen.size).save(
            folder / (name.rpartition(".")[0] + end)
        )
    Image.new("L", (512, 100)).save(folder / "b_mask.png")
    before, out = prints(folder), tmp_path / "out"
    code, said, _ = run(capsys, folder, "--subject-type=style", "--out", out, "--mask=ellipse", "--json")
    told = {one["file"]: one.get("no_mask") for one in json.loads(said)["pictures"]}
    assert code == 0 and prints(folder) == before and "a_mask.png" not in told
    assert told["a.jpg"] == told["c.gif"] == "" and "b_mask.png" in told["b.png"]
    assert not list(out.glob("b-masklabel.png"))
    for copy in (out / "a.jpg", out / "c.png", out / "below" / "d.png"):
        with Image.open(copy) as picture, Image.open(copy.with_name(f"{copy.stem}-masklabel.png")) as mask:
            assert mask.size == picture.size
            wanted, found = np.asarray(picture.convert("L"), float), np.asarray(mask, float)
            assert np.abs(wanted - found).mean() < (12 if copy.stem == "d" else 2), copy


def test_pictures_without_a_mask_are_told(folder, tmp_path, capsys):
    pytest.importorskip("cv2")
    out = tmp_path / "mended"
    code, told, _ = run(capsys, folder, "--out", out, "--mask", "face")
    assert code == 0 and "No mask: 'a.jpg' shows no face" in told
    assert (out / "a.jpg").exists() and not list(out.rglob("*-masklabel.png"))
    code, _, err = run(capsys, folder, "--out", tmp_path / "other", "--mask", str(tmp_path / "no.onnx"))
    assert code == 1 and "no.onnx" in err  # it would fail for every picture


def test_a_contact_sheet_is_drawn_and_nothing_is_overwritten(folder, tmp_path, capsys):
    before, sheet = prints(folder), tmp_path / "листы" / "all.jpg"
    code, out, _ = run(capsys, folder, "--sheet", sheet)
    assert code == 0 and prints(folder) == before and f"Contact sheet: {sheet}" in out
    with Image.open(sheet) as image:
        assert image.format == "JPEG" and image.width > 500
    for wrong, word in ((sheet, "already"), (folder / "all.jpg", "among"), (tmp_path / "all.gif", "contact sheet")):
        code, out, told = run(capsys, folder, "--json", "--sheet", wrong)
        assert code == 1 and out == "" and word in told
    assert prints(folder) == before


def test_formats_that_training_does_not_read_are_named(folder, tmp_path, capsys):
    _, out, _ = run(capsys, folder)
    assert "Training does not read HEIC, AVIF, TIFF, GIF: below/d.tif, c.gif. --out converts them" in out
    _, out, _ = run(capsys, folder, "--out", tmp_path / "made")
    assert "Training does not read" not in out
    _, out, _ = run(capsys, tmp_path / "made")
    assert "Training does not read" not in out
