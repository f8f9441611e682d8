"""A sheet of pictures in rows and columns, with a caption for each row and column."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LEAST, MOST = 192, 384  # pixels of a picture's longer side
LARGEST = 12_000  # pixels of the sheet's longer side, which every viewer still opens
MARGIN, HEADER, LABEL = 12, 64, 260  # pixels: between pictures, above columns, beside rows
FONT_SIZE = 18
# Fonts with more than Latin letters, as the systems have them; Pillow's own knows Latin alone
FONTS = ("arial.ttf", "Arial.ttf", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf")


def contact_sheet(columns: Sequence[str], rows: Sequence[str], pictures: Sequence[Sequence[Path]]) -> Image.Image:
    """pictures: for each row one file a column. Large ones are made smaller, so that the sheet stays in bounds, small
    ones larger, so that they can be seen."""
    with Image.open(pictures[0][0]) as first:
        width, height = first.size
    longer = max(width, height)
    share = min(
        max(LEAST, min(longer, MOST)) / longer,
        (LARGEST - LABEL) / (len(columns) * (width + MARGIN)),
        (LARGEST - HEADER) / (len(rows) * (height + MARGIN)),
    )
    width, height = max(1, round(width * share)), max(1, round(height * share))
    across, down = LABEL + len(columns) * (width + MARGIN), HEADER + len(rows) * (height + MARGIN)
    sheet = Image.new("RGB", (across, down), "white")
    draw, font = ImageDraw.Draw(sheet), captions_font()
    for column, caption in enumerate(columns):
        write(draw, caption, (LABEL + column * (width + MARGIN), MARGIN), (width, HEADER - MARGIN), font)
    for row, caption in enumerate(rows):
        top = HEADER + row * (height + MARGIN)
        write(draw, caption, (MARGIN, top), (LABEL - 2 * MARGIN, height), font)
        for column, path in enumerate(pictures[row]):
            with Image.open(path) as picture:
                sheet.paste(picture.convert("RGB").resize((width, height)), (LABEL + column * (width + MARGIN), top))
    return sheet


def write(
    draw: ImageDraw.ImageDraw, text: str, place: tuple[int, int], room: tuple[int, int], font: ImageFont.FreeTypeFont
) -> None:
    """A text and, if need be, its second line, in the room (width and height in pixels); the text is cut to fit."""
    text, _, second = text.partition("\n")
    letters = max(1, int(room[0] / font.getlength("x")))
    lines = max(1, room[1] // (FONT_SIZE + 4) - bool(second))
    shown = textwrap.wrap(text, letters, max_lines=lines, placeholder=" …")
    draw.multiline_text(place, "\n".join([*shown, second]), fill="black", font=font, spacing=4)


def captions_font() -> ImageFont.FreeTypeFont:
    for name in FONTS:
        try:
            return ImageFont.truetype(name, FONT_SIZE)
        except OSError:
            continue
    font = ImageFont.load_default(FONT_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return font
