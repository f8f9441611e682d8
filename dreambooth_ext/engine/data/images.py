"""Read a picture file as pixels of the training size, with SDXL's size and crop conditioning for that crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.errors import UserError
from ...core.pictures.training_crop import Crop
from ..pictures.picture_file import open_picture, to_srgb


def training_pixels(
    path: Path, crop: Crop, flip: bool = False, opaque: bool = False, content: bytes | None = None
) -> Tensor:
    """Return the cropped picture as uint8 (3, height, width). `to_model` scales it to [-1, 1]. content: its bytes, if
    it is no file of its own.

    Raises UserError naming the file, also if its size is not the one that `crop` was made for.
    """
    image = open_picture(path, opaque, content=content)
    require_size(path, image, crop)
    image = to_srgb(cropped(image, crop, crop.target))
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def require_size(path: Path, image: Image.Image, crop: Crop) -> None:
    if image.size != crop.original:
        raise UserError("pictures.changed_size", "instance_data_dir", file=str(path))


def cropped(image: Image.Image, crop: Crop, size: tuple[int, int]) -> Image.Image:
    """Return the cropped region of a picture, or of another in its proportions, scaled to `size` (width, height)."""
    wide, high = image.width / crop.original[0], image.height / crop.original[1]
    left, top, right, bottom = crop.box
    # Resampling the cut region alone gives the same pixels as resizing all and cutting, without a huge picture in
    # between for extreme proportions.
    box = (left * wide, top * high, min(image.width, right * wide), min(image.height, bottom * high))
    return image.resize(size, Image.Resampling.LANCZOS, box=box)


def to_model(pixels: Tensor) -> Tensor:
    """Scale uint8 [0, 255] to float32 [-1, 1]; any shape."""
    return pixels.float() / 127.5 - 1
