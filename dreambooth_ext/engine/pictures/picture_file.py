"""Open a picture file as upright RGB, within limits that hostile files cannot pass.

Training reads FORMATS alone. The other formats of `other_formats.py` are read to be looked at and converted.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from ...core.data import folder_scan
from ...core.data.jpeg import require_few_passes
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import require_ordinary

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # no others, whatever the file's suffix: some formats run programs (EPS)
MAX_PIXELS = 178_956_970  # twice Pillow's MAX_IMAGE_PIXELS, from where Pillow refuses as well; 512 MB once decoded
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on damaged files. Its own errors are OSErrors; the others leak from parsers.
LEAKED = (SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, ZeroDivisionError)
DAMAGE = (OSError, *LEAKED, struct.error, zlib.error)

# Pillow warns of a "decompression bomb DOS attack" from half of that limit. Photographs reach that.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
Image.init()  # registers WebP now, so that threads do not race for it at the first picture


def picture_size(path: Path, formats: Sequence[str] = FORMATS, content: bytes | None = None) -> tuple[int, int]:
    """Return the upright picture's (width, height) from the file's header. Raises UserError as `open_picture` does.

    content: see `opened`; its first part is enough if it holds the header.
    """
    with opened(path, formats, content) as image:
        return image.size[::-1] if orientation_of(image) >= 5 else image.size


def open_picture(
    path: Path,
    opaque: bool = False,
    formats: Sequence[str] = FORMATS,
    at_least: int | None = None,
    content: bytes | None = None,
) -> Image.Image:
    """Open a picture as upright RGB. Transparent parts become white; of an animation, the first frame is used. Pixel
    values are still in the file's colour profile, if it has one; apply `to_srgb` after scaling.

    opaque: transparent parts keep their stored colours instead. at_least: a JPEG or WebP may come smaller, which is
    several times quicker, if its shorter side still has this many pixels. content: see `opened`.

    Raises UserError naming the file if it is missing, damaged, too large or not a picture.
    """
    with opened(path, formats, content) as image:
        orientation = orientation_of(image)  # before load: it may find EXIF at a PNG's end, which picture_size ignores
        try:
            if at_least:
                _draft(image, at_least)
            image = _webp_by_opencv(image, path, at_least) or image
            load(image, path, content)
            profile = image.info.get("icc_profile") if image.mode.startswith("RGB") else None
            image = image.convert("RGBA").convert("RGB") if opaque and has_alpha(image) else _to_rgb(image)
            image = image.transpose(TURNS[orientation]) if orientation in TURNS else image
            image.info = {"icc_profile": profile} if profile else {}
            return image
        except DAMAGE as error:
            raise _damaged(path, error) from error


def open_alpha(path: Path) -> Image.Image | None:
    """Open a picture's opacity as upright L (0 transparent, 255 opaque); None if it has none.

    Raises UserError as `open_picture` does.
    """
    with opened(path) as image:
        orientation = orientation_of(image)
        try:
            load(image, path)
            if not has_alpha(image):
                return None
            alpha = image.convert("RGBA").getchannel("A")
            return alpha.transpose(TURNS[orientation]) if orientation in TURNS else alpha
        except DAMAGE as error:
            raise _damaged(path, error) from error


def open_grey(path: Path) -> Image.Image:
    """Open a picture, such as a mask, as upright L; transparent parts are black. Raises UserError as `open_picture`
    does."""
    with opened(path) as image:
        orientation = orientation_of(image)
        try:
            load(image, path)
            grey = _to_rgb(image).convert("L")
            if has_alpha(image):
                rgba = image.convert("RGBA")
                grey = Image.composite(rgba.convert("L"), Image.new("L", image.size), rgba.getchannel("A"))
            return grey.transpose(TURNS[orientation]) if orientation in TURNS else grey
        except DAMAGE as error:
            raise _damaged(path, error) from error


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert an RGB picture from its colour profile to sRGB: phones (Display P3) and cameras (Adobe RGB) use others,
    which look dull when read as sRGB. An unusable profile is ignored."""
    content = image.info.get("icc_profile")
    if not content:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():  # the usual one: converting would only round
            return image
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, ImportError, *DAMAGE):  # ImportError: a Pillow without colour management
        return image


def opened(path: Path, formats: Sequence[str] = FORMATS, content: bytes | None = None) -> Image.Image:
    """Open a picture with only its header read; close it, or use it in a `with`.

    content: its bytes, if it is no file of its own; `path` then only names it.
    Raises UserError as `open_picture` does.
    """
    try:
        if content is None:
            require_ordinary(path)
        image = Image.open(path if content is None else io.BytesIO(content), formats=formats)
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except Image.UnidentifiedImageError as error:
        raise _unreadable(path, Message("pictures.wrong_format", formats=_named(formats))) from error
    except FileNotFoundError as error:
        raise UserError("pictures.vanished", "instance_data_dir", file=str(path)) from error
    except (*DAMAGE, RuntimeError) as error:  # RuntimeError: the plugins of AVIF and HEIC
        raise _damaged(path, error) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise _too_large(path)
    return image


def load(image: Image.Image, path: Path, content: bytes | None = None) -> None:
    """Decode what `opened` gave. Raises what is in DAMAGE."""
    if image.format in ("JPEG", "MPO"):  # MPO: a JPEG with further pictures behind it
        require_few_passes(path.read_bytes() if content is None else content)
    try:
        image.load()
    except RuntimeError as error:
        raise OSError(*error.args) from error


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none. From 5 on, the picture lies on its side."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif", "XML:com.adobe.xmp"} & image.info.keys():
        return 1  # Pillow would decode the whole file to look for a later EXIF chunk
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except (*DAMAGE, AttributeError):  # EXIF is often malformed in pictures that are otherwise fine
        return 1


def has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def _draft(image: Image.Image, at_least: int) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter side keeps `at_least` pixels."""
    scale = min(image.size) / at_least
    if image.format in ("JPEG", "MPO") and scale >= 2:
        image.draft(image.mode, (int(image.width / scale), int(image.height / scale)))


def _webp_by_opencv(image: Image.Image, path: Path, at_least: int | None) -> Image.Image | None:
    """Decode a WebP in half the time that Pillow takes, and make it smaller as `_draft` does a JPEG; None if it has
    transparent parts or several pictures, or cannot be decoded so."""
    factor = min(image.size) // at_least if at_least else 0
    if image.format != "WEBP" or image.mode != "RGB" or getattr(image, "is_animated", False) or factor < 2:
        return None
    try:
        import cv2
    except ImportError:
        return None
    content = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        pixels = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if pixels is None or pixels.shape[1::-1] != image.size:
        return None
    size = image.width // factor, image.height // factor
    small = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
    made = Image.fromarray(small)
    made.info = dict(image.info)
    return made


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_16_bit(image)
    if has_alpha(image):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, which Pillow would clip at 255 instead."""
    values = np.asarray(image).astype(np.float32)
    grey = np.clip(np.rint(values / 257), 0, 255).astype(np.uint8)  # 65535 / 255 = 257
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _named(formats: Sequence[str]) -> str:
    """The formats' names as people know them."""
    others = [{"HEIF": "HEIC"}.get(name, name) for name in formats if name not in FORMATS]
    return ", ".join([folder_scan.FORMATS, *others])


def _damaged(path: Path, error: Exception) -> UserError:
    return _unreadable(path, reason_of(error))


def _unreadable(path: Path, why: str) -> UserError:
    return UserError("pictures.unreadable", "instance_data_dir", file=str(path), error=why)


def _too_large(path: Path) -> UserError:
    millions = MAX_PIXELS // 10**6
    return UserError("pictures.too_many_pixels", "instance_data_dir", file=str(path), millions=millions)
