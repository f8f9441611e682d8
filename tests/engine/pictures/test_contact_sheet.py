"""The contact sheet: every picture has its place, and its texts fit, whatever their letters."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from dreambooth_ext.engine.pictures import contact_sheet
from dreambooth_ext.engine.pictures.contact_sheet import CELL, GAP, HEAD, LINE, LINES, MOST, RIM, ROW_GAP, sheet
from tests.engine.doctor.pictures import scene

BLURRED = {"text": "Blurred", "english": "Blurred"}


def picture(path, name="a.jpg", severity="warning", marks=(BLURRED,)):
    return {"path": str(path), "name": name, "severity": severity, "marks": list(marks)}


@pytest.fixture
def file(tmp_path):
    scene(300, 200).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


def drawn(tmp_path, pictures, title="") -> Image.Image:
    sheet(pictures, str(tmp_path / "sheet.png"), title)
    with Image.open(tmp_path / "sheet.png") as image:
        return image.convert("RGB")


def texts_below(image: Image.Image, column: int = 0) -> Image.Image:
    left, top = RIM + column * (CELL + GAP), RIM + HEAD + CELL + 5
    return image.crop((left, top, left + CELL, top + (1 + LINES) * LINE))


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (5, 3, 2), (12, 4, 3), (60, 9, 7)])
def test_the_sheet_grows_with_the_set(tmp_path, file, count, columns, rows):
    image = drawn(tmp_path, [picture(file)] * count)
    assert image.width == columns * (CELL + GAP) - GAP + 2 * RIM
    assert image.height == HEAD + rows * (CELL + (1 + LINES) * LINE + ROW_GAP) - ROW_GAP + 2 * RIM


def test_more_pictures_than_find_room(tmp_path, file):
    assert sheet([picture(file)] * (MOST + 1), str(tmp_path / "sheet.jpg")) == {"shown": MOST}


def test_long_texts_stay_below_their_picture(tmp_path, file):
    marks = [
        {"text": text, "english": text} for text in ("Small for this training", "Compressed", "Several faces", "Text")
    ]
    long = picture(
        file, "holiday/a very long name of a picture that was taken in the summer (copy 12).jpg", marks=marks
    )
    image = drawn(tmp_path, [long, picture(file), picture(file)])
    gap = image.crop((RIM + CELL + 3, RIM + HEAD + CELL + 5, RIM + CELL + GAP - 3, image.height))
    assert gap.getextrema() == ((255, 255),) * 3


def test_names_in_other_letters(tmp_path, file):
    if not contact_sheet.written("ж"):
        pytest.skip("no font with Cyrillic letters")
    russian = {"text": "Размыта", "english": "Blurred"}
    one = texts_below(drawn(tmp_path, [picture(file, "кот.jpg", marks=[russian])]))
    other = texts_below(drawn(tmp_path, [picture(file, "дом.jpg", marks=[russian])]))
    assert ImageChops.difference(one, other).getbbox()  # both would be the same boxes in a font that lacks the letters


def test_letters_that_no_font_has_become_english(tmp_path, file):
    unknown = {"text": "\ue123\ue124", "english": "Blurred"}
    assert contact_sheet.written(unknown["text"]) == ""
    strange = texts_below(drawn(tmp_path, [picture(file, marks=[unknown])]))
    assert not ImageChops.difference(strange, texts_below(drawn(tmp_path, [picture(file)]))).getbbox()


def test_a_picture_that_cannot_be_read_has_its_place(tmp_path, file):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    image = drawn(tmp_path, [picture(tmp_path / "broken.jpg", severity="error"), picture(file), picture(file)])
    assert image.getpixel((RIM + CELL // 2 + 20, RIM + HEAD + CELL // 2)) == (238, 238, 238)
