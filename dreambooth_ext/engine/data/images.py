"""Read a picture file as pixels of the training size, with SDXL's size and crop conditioning for that crop."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from ...core.data import folder_scan
from ...core.data.jpeg import require_few_passes
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.pictures.training_crop import Crop
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


def picture_size(path: Path) -> tuple[int, int]:
    """Return the upright picture's (width, height) from the file's header. Raises UserError as `open_picture` does."""
    with _opened(path) as image:
        return image.size[::-1] if _orientation(image) >= 5 else image.size


def open_picture(path: Path, opaque: bool = False) -> Image.Image:
    """Open a picture as upright RGB. Transparent parts become white; of an animation, the first frame is used. Pixel
    values are still in the file's colour profile, if it has one; apply `to_srgb` after scaling.

    opaque: transparent parts keep their stored colours instead.

    Raises UserError naming the file if it is missing, damaged, too large or not a picture.
    """
    with _opened(path) as image:
        orientation = _orientation(image)  # before load: it may find EXIF at a PNG's end, which picture_size ignores
        try:
            _load(image, path)
            profile = image.info.get("icc_profile") if image.mode.startswith("RGB") else None
            image = image.convert("RGBA").convert("RGB") if opaque and _has_alpha(image) else _to_rgb(image)
            image = image.transpose(TURNS[orientation]) if orientation in TURNS else image
            image.info = {"icc_profile": profile} if profile else {}
            return image
        except DAMAGE as error:
            raise _damaged(path, error) from error


def training_pixels(path: Path, crop: Crop, flip: bool = False, opaque: bool = False) -> Tensor:
    """Return the cropped picture as uint8 (3, height, width). `to_model` scales it to [-1, 1].

    Raises UserError naming the file, also if its size is not the one that `crop` was made for.
    """
    image = to_srgb(_cropped(open_picture(path, opaque), path, crop, crop.target))
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def alpha_weights(path: Path, crop: Crop, flip: bool, size: tuple[int, int]) -> Tensor:
    """Return the loss weight of each part of the cropped picture by its opacity, (height, width), for `size` = (width,
    height).

    As in the WebUI (modules/textual_inversion/dataset.py): the least opaque part has weight 0, and the mean is 1. A
    picture without transparency has weight 1 everywhere.
    """
    with _opened(path) as image:
        orientation = _orientation(image)
        try:
            _load(image, path)
            if not _has_alpha(image):
                return torch.ones(size[::-1])
            alpha = image.convert("RGBA").getchannel("A")
        except DAMAGE as error:
            raise _damaged(path, error) from error
    alpha = alpha.transpose(TURNS[orientation]) if orientation in TURNS else alpha
    alpha = _cropped(alpha, path, crop, size)
    if flip:
        alpha = alpha.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    weights_hw = torch.from_numpy(np.array(alpha)).float()
    weights_hw -= weights_hw.min()
    return weights_hw / weights_hw.mean() if weights_hw.any() else torch.ones(size[::-1])


def _cropped(image: Image.Image, path: Path, crop: Crop, size: tuple[int, int]) -> Image.Image:
    """Return the cropped region, scaled to `size` (width, height)."""
    if image.size != crop.original:
        raise UserError("pictures.changed_size", "instance_data_dir", file=str(path))
    # Resampling the cut region alone gives the same pixels as resizing all and cutting, without a huge picture in
    # between for extreme proportions.
    return image.resize(size, Image.Resampling.LANCZOS, box=crop.box)


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


def to_model(pixels: Tensor) -> Tensor:
    """Scale uint8 [0, 255] to float32 [-1, 1]; any shape."""
    return pixels.float() / 127.5 - 1


def _opened(path: Path) -> Image.Image:
    try:
        require_ordinary(path)
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except Image.UnidentifiedImageError as error:
        raise _unreadable(path, Message("pictures.wrong_format", formats=folder_scan.FORMATS)) from error
    except FileNotFoundError as error:
        raise UserError("pictures.vanished", "instance_data_dir", file=str(path)) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, error) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise _too_large(path)
    return image


def _load(image: Image.Image, path: Path) -> None:
    if image.format == "JPEG":
        require_few_passes(path.read_bytes())
    image.load()


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and not {"exif", "Raw profile type exif", "XML:com.adobe.xmp"} & image.info.keys():
        return 1  # Pillow would decode the whole file to look for a later EXIF chunk
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except (*DAMAGE, AttributeError):  # EXIF is often malformed in pictures that are otherwise fine
        return 1


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_16_bit(image)
    if _has_alpha(image):
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


def _damaged(path: Path, error: Exception) -> UserError:
    return _unreadable(path, reason_of(error))


def _unreadable(path: Path, why: str) -> UserError:
    return UserError("pictures.unreadable", "instance_data_dir", file=str(path), error=why)


def _too_large(path: Path) -> UserError:
    millions = MAX_PIXELS // 10**6
    return UserError("pictures.too_many_pixels", "instance_data_dir", file=str(path), millions=millions)
