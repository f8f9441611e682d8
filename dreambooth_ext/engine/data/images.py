"""Read a picture file as pixels of the training size, with SDXL's size and crop conditioning for that crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.errors import UserError
from ...core.pictures.training_crop import Crop
from ..pictures.picture_file import open_alpha, open_picture, to_srgb


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
    alpha = open_alpha(path)
    if alpha is None:
        return torch.ones(size[::-1])
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


def to_model(pixels: Tensor) -> Tensor:
    """Scale uint8 [0, 255] to float32 [-1, 1]; any shape."""
    return pixels.float() / 127.5 - 1
