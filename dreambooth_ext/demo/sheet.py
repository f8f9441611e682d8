"""Puts pictures side by side, a block per folder: `python -m dreambooth_ext.demo.sheet OUT.png FOLDER [FOLDER ...]`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..core.data.captions import natural_key
from ..core.system.files import replacing

SIDE, GAP, LINE = 96, 4, 18  # pixels


def rows_of(folder: Path) -> list[tuple[str, list[Image.Image]]]:
    """The pictures of `generate`, a row for each prompt, with the prompt from their metadata."""
    rows: dict[str, tuple[str, list[Image.Image]]] = {}
    for path in sorted(folder.glob("*_*.png"), key=natural_key):
        with Image.open(path) as picture:
            prompt = picture.info.get("parameters", "").partition("\n")[0]
            copy = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        rows.setdefault(path.stem.partition("_")[0], (prompt, []))[1].append(copy)
    return list(rows.values())


def make_sheet(folders: list[Path]) -> Image.Image:
    """The folders' blocks side by side, with prompts as headings; a prompt's rows are at the same height."""
    blocks = [rows_of(folder) for folder in folders]
    columns = max(len(pictures) for block in blocks for _, pictures in block)
    width, height = columns * (SIDE + GAP) + 3 * GAP, SIDE + LINE + GAP
    sheet = Image.new("RGB", (width * len(blocks), LINE + height * max(map(len, blocks)) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (folder, block) in enumerate(zip(folders, blocks, strict=True)):
        left = index * width + 2 * GAP
        pen.text((left, 1), folder.name, fill="#0060a0", font=font)
        for row, (prompt, pictures) in enumerate(block):
            top = LINE + row * height
            pen.text((left, top), prompt, fill="black", font=font)
            for column, picture in enumerate(pictures):
                sheet.paste(picture, (left + column * (SIDE + GAP), top + LINE))
    return sheet


def main(arguments: list[str]) -> int:
    out, *folders = map(Path, arguments)
    with replacing(out) as temporary:
        make_sheet(folders).save(temporary)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
