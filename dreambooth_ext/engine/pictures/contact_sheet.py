"""A contact sheet: all pictures of a set on one, each with its number and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ...core.errors import UserError
from .conversion import write_picture
from .other_formats import readable_formats
from .picture_file import open_picture, to_srgb

CELL = 176  # pixels of a picture's place, without its lines of text
GAP, LINE, LINES = 10, 15, 3
COLUMNS = 6
MOST = 240  # pictures on a sheet
PAPER, INK, PALE = "#ffffff", "#202020", "#909090"
COLOURS = {"error": "#c62828", "warning": "#e08a00", "hint": "#4a7fb5", "": "#3f9b52"}


def sheet(pictures: Sequence[dict[str, Any]], out: str) -> dict[str, int]:
    """Draw the sheet as a JPEG file `out`. Returns {"shown"}: only the first MOST pictures find room.

    pictures: of each {"path", "severity" (the worst, "" for none), "marks" (names of the kinds, in Latin letters)}.
    """
    shown = pictures[:MOST]
    columns = min(COLUMNS, max(1, len(shown)))
    rows = -(-len(shown) // columns)
    wide, high = CELL + GAP, CELL + LINES * LINE + GAP
    page = Image.new("RGB", (columns * wide + GAP, max(1, rows) * high + GAP), PAPER)
    font = ImageFont.load_default()
    for number, picture in enumerate(shown):
        corner = GAP + number % columns * wide, GAP + number // columns * high
        _draw(page, corner, picture, number + 1, font)
    write_picture(page, Path(out))
    return {"shown": len(shown)}


def _draw(page: Image.Image, corner: tuple[int, int], picture: dict[str, Any], number: int, font: Any) -> None:
    left, top = corner
    draw = ImageDraw.Draw(page)
    colour = COLOURS[picture["severity"]]
    try:
        image = to_srgb(_small(Path(picture["path"])))
        at = left + (CELL - image.width) // 2, top + (CELL - image.height) // 2
        page.paste(image, at)
    except UserError:
        at, image = (left, top), Image.new("RGB", (CELL, CELL), "#eeeeee")
        page.paste(image, at)
        draw.line([left, top, left + CELL, top + CELL], fill=PALE)
    draw.rectangle([at[0] - 2, at[1] - 2, at[0] + image.width + 1, at[1] + image.height + 1], outline=colour, width=2)
    lines = [f"{number}", *_wrapped(", ".join(picture["marks"]), font)]
    for line, text in enumerate(lines[:LINES]):
        draw.text((left, top + CELL + 3 + line * LINE), text, fill=INK if line == 0 else colour, font=font)


def _small(path: Path) -> Image.Image:
    image = open_picture(path, formats=readable_formats(), at_least=CELL)
    image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return image


def _wrapped(text: str, font: Any) -> list[str]:
    """Return the text in lines that fit below a picture."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= CELL:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
