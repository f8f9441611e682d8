"""Write a picture anew in a format that training reads: upright, in sRGB, and only a part of it if asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from ...core.system.files import replacing
from .other_formats import readable_formats
from .picture_file import open_picture, opened, to_srgb

QUALITY = 97  # of JPEGs that are made from what was lossy already
LOSSY = ("JPEG", "MPO", "HEIF", "AVIF")  # all others become PNG


def convert(path: str, out: str, crop: list[int] | None = None) -> dict[str, Any]:
    """Write the picture, or the part `crop` of it (left, top, right, bottom of the upright picture), beside `out`.

    out: the file to write, without its suffix. Returns {"file", "width", "height"}. An existing file is replaced.
    Raises UserError if the picture cannot be read.
    """
    formats = readable_formats()
    with opened(Path(path), formats) as header:
        suffix = ".jpg" if header.format in LOSSY else ".png"
    image = to_srgb(open_picture(Path(path), formats=formats))
    if crop is not None:
        image = image.crop((crop[0], crop[1], crop[2], crop[3]))
    target = Path(out).with_name(Path(out).name + suffix)
    write_picture(image, target)
    return {"file": target.name, "width": image.width, "height": image.height}


def write_picture(image: Image.Image, target: Path) -> None:
    """Write a picture as JPEG or PNG by the target's suffix; without the original's EXIF data."""
    with replacing(target) as temporary:
        image.info = {}
        if target.suffix == ".png":
            image.save(temporary, "PNG")
        else:
            image.save(temporary, "JPEG", quality=QUALITY, subsampling=0)
