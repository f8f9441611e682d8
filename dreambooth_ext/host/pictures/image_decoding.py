"""Decodes untrusted pictures safely: the header's size is checked before anything is unpacked.

Pillow is the host's own, any release from 9.5 on, hence imported only where it is needed.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ...core.data import picture_entries
from ...core.data.jpeg import require_few_passes
from ...core.messages.message import beside, reason_of
from ...core.system.files import require_ordinary
from ..errors import Refusal

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # no others, whatever the name says: some run programs (EPS)
MOST_PIXELS = 120_000_000  # 480 MB with an alpha channel; telephones make 108 million
ORIENTATION = 0x0112  # the EXIF tag; from 5 on, the picture lies on its side
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # its values -> members of PIL.Image.Transpose
QUALITY = 85  # of thumbnails
DIMMED, DIMMING = (24, 24, 30), 0.75  # towards which colour, and how far, what is outside a mask goes
# What Pillow's decoders raise on damaged files. Its own errors are OSErrors; the others leak from parsers.
DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, struct.error),
    *(zlib.error, ZeroDivisionError, AttributeError, MemoryError),
)

_slots = threading.Semaphore(2)  # at once: decoded pictures are large


@contextmanager
def _opened(name: str, source: Path | IO[bytes]) -> Iterator[Image]:
    """The picture with only its header read. Raises a Refusal (422), also for errors inside the block."""
    from PIL import Image, UnidentifiedImageError

    try:
        if isinstance(source, Path):
            require_ordinary(source)
        with Image.open(source, formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise _too_large(name)
            yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name) from None
    except UnidentifiedImageError:
        formats = picture_entries.FORMATS
        raise Refusal(422, "upload.not_a_picture", "picture", name=name[:80], formats=formats) from None
    except DAMAGE as error:
        raise Refusal(422, "upload.broken", "picture", name=name[:80], error=reason_of(error)) from None


def _too_large(name: str) -> Refusal:
    return Refusal(422, "pictures.too_many_pixels", "picture", file=name[:80], millions=MOST_PIXELS // 10**6)


def check_picture(name: str, data: bytes) -> tuple[int, int]:
    """Decode a picture completely and return its upright (width, height). Raises a Refusal (422)."""
    with _slots, _opened(name, io.BytesIO(data)) as picture:
        size = _upright(picture)
        _require_sound(picture, data)
        picture.draft("RGB", (64, 64))  # JPEGs have coarser scales, which are as good for this and quick
        picture.load()
    return size


def look(path: Path) -> dict[str, Any]:
    """{"width", "height", "problem"} from the header alone."""
    try:
        with _opened(path.name, path) as picture:
            width, height = _upright(picture)
    except Refusal as refusal:
        return {"width": None, "height": None, **beside("problem", refusal.problem.message)}
    return {"width": width, "height": height, "problem": None}


def thumbnail(path: Path, size: int) -> bytes:
    """A JPEG of the upright picture within `size` x `size` pixels, on white. Raises a Refusal (422)."""
    with _slots, _opened(path.name, path) as picture:
        _require_sound(picture, path.read_bytes())
        turn = TURNS.get(_orientation(picture))
        picture.draft("RGB", (size, size))
        small = _to_rgb(picture, size)
        buffer = io.BytesIO()
        (small if turn is None else small.transpose(turn)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def masked_thumbnail(path: Path, mask: Path, size: int) -> bytes:
    """As `thumbnail`, with what the mask leaves out dimmed and grey. Raises a Refusal (422) for either file."""
    from PIL import Image

    shown, counts = (Image.open(io.BytesIO(thumbnail(file, size))) for file in (path, mask))
    dimmed = Image.blend(shown.convert("L").convert("RGB"), Image.new("RGB", shown.size, DIMMED), DIMMING)
    buffer = io.BytesIO()
    Image.composite(shown, dimmed, counts.convert("L").resize(shown.size)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def grey(path: Path, size: int) -> bytes:
    """A mask as grey PNG within `size` x `size` pixels, to be painted on: a JPEG would smear its edges. Raises a
    Refusal (422)."""
    with _slots, _opened(path.name, path) as picture:
        _require_sound(picture, path.read_bytes())
        buffer = io.BytesIO()
        _to_rgb(picture, size).convert("L").save(buffer, "PNG")
    return buffer.getvalue()


def _require_sound(picture: Image, content: bytes) -> None:
    if picture.format in ("JPEG", "MPO"):  # MPO: a JPEG with further pictures behind it
        require_few_passes(content)


def _to_rgb(picture: Image, size: int) -> Image:
    """The picture scaled down, then converted; only palettes and 16 bits must be converted first."""
    from PIL import Image

    if picture.mode.startswith("I") or picture.mode == "F":  # grey of 16 bits, which Pillow would cut off at 255
        picture = picture.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    elif picture.mode not in ("RGB", "L"):
        picture = picture.convert("RGBA")
    else:
        picture.load()
    picture.thumbnail((size, size))
    if picture.mode == "RGBA":
        sheet = Image.new("RGBA", picture.size, "white")
        sheet.alpha_composite(picture)
        return sheet.convert("RGB")
    return picture.convert("RGB")


def _upright(picture: Image) -> tuple[int, int]:
    return picture.size[::-1] if _orientation(picture) >= 5 else picture.size


def _orientation(picture: Image) -> int:
    """The EXIF orientation, 1 without; EXIF is often malformed in sound pictures."""
    if picture.format == "PNG" and not {"exif", "Raw profile type exif"} & picture.info.keys():
        return 1  # Pillow would decode the whole file to look for a later EXIF chunk
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except DAMAGE:
        return 1
