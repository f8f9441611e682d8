"""Each fault is found where it was made, and none where there is none."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from benchmarks import photographs
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.messages.message import catalogue
from dreambooth_ext.engine.doctor import finding, sharpness
from dreambooth_ext.engine.doctor.looking import look
from tests.drawn_faces import portrait
from tests.engine.doctor.pictures import scene

NAME = "мой кот (1)"


def kinds(picture: Image.Image, folder, suffix: str = ".png", resolution: int = 512, **options) -> list[str]:
    path = folder / (NAME + suffix)
    picture.save(path, **options)
    return [one["kind"] for one in look(str(path), resolution)["findings"]]


@pytest.fixture(scope="module")
def good() -> Image.Image:
    return scene()


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_wrong_with_a_good_picture(tmp_path, seed):
    assert kinds(scene(seed=seed), tmp_path) == []


FOUND = [fault for fault in photographs.FAULTS if fault.kind != "text"]


@pytest.mark.parametrize("fault", FOUND, ids=[fault.name for fault in FOUND])
def test_a_fault_is_found_where_it_was_made(tmp_path, good, fault):
    strength = fault.strengths[min(fault.complaint + 1, 5)]
    picture = fault.make(good, strength, random.Random(0))
    path = photographs.saved(picture, fault, strength, tmp_path / NAME)
    found = {one["kind"]: one for one in look(str(path))["findings"]}
    assert fault.kind in found
    known = found[fault.kind]
    assert known["severity"] in ("error", "warning", "hint") and known["message"] and known["remedy"]
    assert known["code"] in catalogue() and known["label_code"] == f"finding_kind.{fault.kind}"


def test_small_depends_on_what_is_trained(tmp_path, good):
    assert kinds(good, tmp_path, resolution=768) == ["small"]
    assert "small" not in kinds(good, tmp_path, resolution=256)


def test_an_animation_and_a_file_of_several_pages(tmp_path, good):
    small = good.resize((300, 256))
    frames = {"save_all": True, "append_images": [small.rotate(90), small.rotate(180)]}
    for suffix in (".gif", ".webp", ".tif"):
        assert "animated" in kinds(small, tmp_path, suffix, 256, **frames), suffix
        assert "animated" not in kinds(small, tmp_path, suffix, 256), suffix


def test_goods_on_white_are_neither_too_bright_nor_framed(tmp_path, good):
    sheet = Image.new("RGB", (700, 700), "white")
    mask = Image.new("L", (360, 400))
    ImageDraw.Draw(mask).ellipse((0, 0, 360, 400), fill=255)
    sheet.paste(good.crop((0, 0, 360, 400)), (170, 150), mask)
    assert kinds(sheet, tmp_path) == []


def coloured(picture: Image.Image, lightest: tuple[int, int, int], darkest: tuple[int, int, int]) -> Image.Image:
    return ImageOps.colorize(picture.convert("L"), darkest, lightest)


def test_a_vivid_colour_is_not_too_bright(tmp_path, good):
    """A red petal has its detail in the other two colours."""
    assert "bright" not in kinds(coloured(good, (255, 200, 0), (255, 0, 0)), tmp_path)
    assert "bright" in kinds(coloured(good, (255, 255, 230), (255, 220, 160)), tmp_path)


def test_a_leaf_is_not_flat_for_being_green_all_over(tmp_path, good):
    assert "flat" not in kinds(coloured(good, (110, 200, 20), (40, 130, 0)), tmp_path)
    assert "flat" in kinds(coloured(good, (150, 170, 140), (90, 100, 80)), tmp_path)


def test_a_direction_without_structure_says_nothing():
    fine, coarse = np.full((4, sharpness.SECTORS), 1.0), np.full((4, sharpness.SECTORS), 4.0)
    assert sharpness._worst_direction(fine, coarse, 0.1) == 0.5
    fine[:, 3] = 0
    assert sharpness._worst_direction(fine, coarse, 0.1) == 0  # moved along it
    coarse[:, 3] = 0
    assert sharpness._worst_direction(fine, coarse, 0.1) == 0.5
    assert sharpness._worst_direction(fine, coarse, 9) == np.inf


def test_a_portrait_before_a_soft_ground_is_not_blurred(tmp_path):
    pytest.importorskip("cv2")
    assert "blurred" not in kinds(portrait(600, blur=0.3), tmp_path)
    assert "blurred" in kinds(portrait(600, blur=1), tmp_path)
    assert "blurred" in kinds(portrait(600, blur=3), tmp_path)


def test_a_blurred_face_before_a_sharp_ground_is(tmp_path, good):
    pytest.importorskip("cv2")
    sheet = good.resize((900, 768))
    sheet.paste(portrait(420, blur=4), (240, 200))
    path = tmp_path / "a.png"
    sheet.save(path)
    (known,) = [one for one in look(str(path))["findings"] if one["kind"] == "blurred"]
    assert known["code"] == "findings.blurred_face"


@pytest.mark.parametrize("sigma", [3, 6, 12, 25])
def test_a_strong_blur_is_found_however_strong(tmp_path, good, sigma):
    """Nothing fine and nothing coarse is left then to compare."""
    assert "blurred" in kinds(good.filter(ImageFilter.GaussianBlur(sigma)), tmp_path)
    assert "blurred" in kinds(portrait(600).filter(ImageFilter.GaussianBlur(sigma)), tmp_path)


def test_a_sharp_subject_without_a_face_before_a_soft_ground_is_not_blurred(tmp_path, good):
    soft = good.filter(ImageFilter.GaussianBlur(6))
    assert "blurred" in kinds(soft, tmp_path)
    mask = Image.new("L", good.size)
    ImageDraw.Draw(mask).ellipse((180, 130, 420, 380), fill=255)
    soft.paste(good, (0, 0), mask)
    assert "blurred" not in kinds(soft, tmp_path)


def test_a_dark_face_in_a_bright_picture(tmp_path, good):
    pytest.importorskip("cv2")
    sheet = good.resize((900, 768))
    sheet.paste(photographs.darkened(portrait(420, blur=0.3), 3, random.Random(0)), (240, 200))
    path = tmp_path / "a.png"
    sheet.save(path)
    assert "findings.dark_face" in [one["code"] for one in look(str(path))["findings"]]


@pytest.mark.parametrize("turn", [1, 6, 3])
def test_the_crop_keeps_the_face_and_lies_in_the_upright_picture(tmp_path, good, turn):
    pytest.importorskip("cv2")
    sheet = good.resize((1500, 1000))
    sheet.paste(portrait(500, blur=0.3), (950, 480))
    stored = {1: None, 6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    (sheet.transpose(stored) if stored is not None else sheet).save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = look(str(tmp_path / "a.jpg"))
    assert (found["width"], found["height"]) == (1500, 1000)
    left, top, right, bottom = found["crop"]
    assert 0 <= left < right <= 1500 and 0 <= top < bottom <= 1000 and right - left == pytest.approx(1000, abs=3)
    (face,) = found["faces"]
    assert left <= face[0] and face[2] <= right and top <= face[1] and face[3] <= bottom
    assert face[0] == pytest.approx(950 + 137, abs=40) and face[1] == pytest.approx(480 + 105, abs=40)


def test_the_crop_leaves_borders_out(tmp_path, good):
    sheet = Image.new("RGB", (600, 712), "black")
    sheet.paste(good, (0, 100))
    sheet.save(tmp_path / "a.png")
    left, top, right, bottom = look(str(tmp_path / "a.png"))["crop"]
    assert top >= 100 and bottom <= 612 and right - left == pytest.approx(bottom - top, abs=2)


def test_what_cannot_be_read_raises_with_its_name(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.raises(UserError, match=r"a\.jpg"):
        look(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (70, 40), (64, 64)])
def test_tiny_and_plain_pictures_are_looked_at(tmp_path, size):
    found = kinds(Image.new("RGB", size, "white"), tmp_path)
    assert "small" in found and "blurred" not in found


def test_every_kind_has_a_name():
    for kind, code in (finding.OF_PICTURES | finding.OF_SETS).items():
        assert code == f"finding_kind.{kind}" and str(finding.label(kind))


@pytest.mark.parametrize("ink", ["white", "black", "#ffe600", "#d01818"])
def test_lettering_is_found_in_ink_of_any_colour(tmp_path, good, ink):
    pytest.importorskip("cv2")
    sheet = good.copy()
    ImageDraw.Draw(sheet).rectangle((0, 440, 600, 512), fill="#7a7a7a")
    assert "text" not in kinds(sheet, tmp_path)
    ImageDraw.Draw(sheet).text((30, 455), "Summer in the city", fill=ink, font=ImageFont.load_default(30))
    assert "text" in kinds(sheet, tmp_path)
    assert "text" in kinds(sheet, tmp_path, ".jpg", quality=85)


def test_a_fence_is_no_lettering(tmp_path, good):
    pytest.importorskip("cv2")
    sheet = good.copy()
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 400, 600, 512), fill="#7a7a7a")
    for post in range(20, 580, 24):
        draw.rectangle((post, 420, post + 6, 470), fill="white")
    assert "text" not in kinds(sheet, tmp_path)
