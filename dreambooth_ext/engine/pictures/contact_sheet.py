"""A contact sheet: all pictures of a set on one, each with its number, its name and what was found."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, features

from ...core.errors import UserError
from .conversion import write_picture
from .other_formats import readable_formats
from .picture_file import open_picture, to_srgb

CELL = 176  # pixels of a picture's place
GAP, ROW_GAP, RIM, HEAD = 16, 26, 20, 40  # pixels: between places, between rows, around the sheet, for its title
TEXT, TITLE, LINE = 13, 20, 17  # pixels: sizes of letters, and from line to line
LINES = 2  # for what was found
COLUMNS = 12  # at most
WIDER = 1.2  # about the sheet's width over its height
MOST = 240  # pictures on a sheet
PAPER, INK, PALE, EMPTY = "#ffffff", "#202020", "#707070", "#eeeeee"
COLOURS = {"error": "#c62828", "warning": "#b35c00", "hint": "#33689c", "": "#2e7d3f"}
# Fonts with more than Latin letters, as the systems have them; Pillow's own knows Latin alone
FONTS = (
    "DejaVuSans.ttf",
    "segoeui.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "msyh.ttc",
    "YuGothM.ttc",
    "Hiragino Sans GB.ttc",
)
NO_LETTER = "\uffff"  # is in no font, and so shows what a font draws for letters that it lacks
CUT = "…"


def sheet(pictures: Sequence[dict[str, Any]], out: str, title: str = "") -> dict[str, int]:
    """Draw the sheet as a JPEG file `out`. Returns {"shown"}: only the first MOST pictures find room.

    pictures: of each {"path", "name", "severity" (the worst, "" for none), "marks": [{"text", "english"}] (what was
    found; English where no font of this machine has the text's letters)}.
    """
    shown = pictures[:MOST]
    columns = _columns(len(shown))
    rows = math.ceil(len(shown) / columns)
    wide, high = CELL + GAP, CELL + (1 + LINES) * LINE + ROW_GAP
    page = Image.new("RGB", (columns * wide - GAP + 2 * RIM, HEAD + rows * high - ROW_GAP + 2 * RIM), PAPER)
    count = f"{len(shown)}" if len(shown) == len(pictures) else f"1–{len(shown)} / {len(pictures)}"
    _write(page, (RIM, RIM), page.width - 2 * RIM, f"{title}  ·  {count}" if written(title) else count, INK, TITLE)
    for number, picture in enumerate(shown):
        corner = RIM + number % columns * wide, RIM + HEAD + number // columns * high
        _draw(page, corner, picture, number + 1)
    write_picture(page, Path(out))
    return {"shown": len(shown)}


def _columns(count: int) -> int:
    return min(COLUMNS, count, max(3, math.ceil(math.sqrt(count * WIDER)))) or 1


def _draw(page: Image.Image, corner: tuple[int, int], picture: dict[str, Any], number: int) -> None:
    left, top = corner
    draw, colour = ImageDraw.Draw(page), COLOURS[picture["severity"]]
    image = _small(Path(picture["path"]))
    if image is None:
        draw.rectangle([left, top, left + CELL - 1, top + CELL - 1], fill=EMPTY)
        draw.line([left, top, left + CELL - 1, top + CELL - 1], fill=PALE)
        at, size = (left, top), (CELL, CELL)
    else:
        at, size = (left + (CELL - image.width) // 2, top + (CELL - image.height)), image.size
        page.paste(image, at)
    draw.rectangle([at[0] - 3, at[1] - 3, at[0] + size[0] + 2, at[1] + size[1] + 2], outline=colour, width=3)
    below = top + CELL + 6
    _write(page, (left, below), CELL, f"{number}  {written(picture['name'])}", INK)
    texts = [one["text"] if written(one["text"]) else one["english"] for one in picture["marks"]]
    for line, text in enumerate(_lines(texts)):
        _write(page, (left, below + (1 + line) * LINE), CELL, text, colour)


def _small(path: Path) -> Image.Image | None:
    """The picture in its place's size; None if it cannot be read."""
    try:
        image = open_picture(path, formats=readable_formats(), at_least=CELL)
    except UserError:
        return None
    share = min(1.0, CELL / max(image.size))
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    return to_srgb(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2))


def _write(page: Image.Image, place: tuple[int, int], room: int, text: str, colour: str, size: int = TEXT) -> None:
    """Write a line of text, cut in its middle if it is too long; on the right if it is read from there."""
    font = _font(text, size) or _font("", size)
    assert font is not None
    cut = _cut(text, room, font)
    left = place[0] + room - round(font.getlength(cut)) if _is_from_right(text) else place[0]
    ImageDraw.Draw(page).text((left, place[1]), cut, fill=colour, font=font)


def _cut(text: str, room: int, font: ImageFont.FreeTypeFont) -> str:
    """The beginning and the end of a name tell it from others."""
    for kept in range(len(text), 1, -1):
        shown = text if kept == len(text) else text[: math.ceil(kept / 2)] + CUT + text[len(text) - kept // 2 :]
        if font.getlength(shown) <= room:
            return shown
    return CUT


def _lines(texts: Sequence[str]) -> list[str]:
    """What was found in at most LINES lines; with the number of the rest where they do not suffice."""
    lines: list[str] = []
    for number, text in enumerate(texts):
        font = _font(text, TEXT) or _font("", TEXT)
        assert font is not None
        rest = len(texts) - number - 1
        longer = f"{lines[-1]}, {text}" if lines else text
        more = f" +{rest}" if rest and len(lines) == LINES else ""
        if lines and font.getlength(longer + more) <= CELL:
            lines[-1] = longer
        elif len(lines) < LINES:
            lines.append(text)
        else:
            lines[-1] += f" +{rest + 1}"
            break
    return lines


def written(text: str) -> str:
    """Return the text if this machine can write it; else ""."""
    if _is_from_right(text) and not features.check("raqm"):  # which joins the letters, and turns their order
        return ""
    return text if _font(text, TEXT) else ""


def _is_from_right(text: str) -> bool:
    """Whether the first letter with a direction is Arabic, Hebrew or the like."""
    directions = (unicodedata.bidirectional(letter) for letter in text)
    return next((one for one in directions if one in ("L", "R", "AL")), "L") != "L"


def _font(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Return the first font that has all of the text's letters."""
    letters = frozenset(letter for letter in text if not letter.isspace())
    return next((font for name in ("", *FONTS) if (font := _loaded(name, size)) and _has(name, letters)), None)


@functools.cache
def _loaded(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    """A font by its file's name, "" for Pillow's own; None where it is not installed."""
    try:
        font = ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None
    return font if isinstance(font, ImageFont.FreeTypeFont) else None


def _has(name: str, letters: frozenset[str]) -> bool:
    return all(_has_letter(name, letter) for letter in letters)


@functools.lru_cache(maxsize=20_000)
def _has_letter(name: str, letter: str) -> bool:
    font = _loaded(name, TEXT)
    return font is not None and bytes(font.getmask(letter)) != bytes(font.getmask(NO_LETTER))
