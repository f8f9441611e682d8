"""Tasks of the picture worker: make an edited picture of its original, and carry masks along.

Edits and their maps are `core/pictures/edit.py`'s. A picture that is only turned and cropped keeps every pixel; one
that is straightened is resampled once, from the original.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import UserError
from ...core.messages.message import reason_of
from ...core.pictures.edit import Affine, Edit, Size, after, apply, inverse
from .picture_file import DAMAGE, TURNS, has_alpha, load, open_grey, opened, orientation_of

QUARTERS = {1: Image.Transpose.ROTATE_270, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_90}  # clockwise
# How each format is saved: without loss, or with as little as the format allows
SAVED: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {"compress_level": 4},  # two thirds of the time of 6, 3 % more bytes
    "WEBP": {"quality": 97, "method": 4, "exact": True},
    "BMP": {},
}
MARGIN = 2  # pixels around a mask that interpolation may look at


def render(source: str, edit: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Write what `edit` makes of the original `source`, in its own format and colour profile.

    Raises UserError naming the file if it cannot be read, or if the edit does not fit it.
    """
    done = Edit.from_dict(edit)
    path = Path(source)
    with opened(path) as image:
        kind, orientation = str(image.format), orientation_of(image)
        try:
            load(image, path)
            upright = image.transpose(TURNS[orientation]) if orientation in TURNS else image.copy()
        except DAMAGE as error:
            raise UserError("pictures.unreadable", "picture", file=path.name, error=reason_of(error)) from error
    kept = {name: image.info[name] for name in ("icc_profile", "transparency") if name in image.info}
    upright.info = dict(kept)
    made = edited(upright, done)
    kind = "JPEG" if kind == "MPO" else kind  # a JPEG with further pictures behind it
    made.save(target, kind, **SAVED[kind], icc_profile=kept.get("icc_profile"))
    return {"size": list(made.size)}


def edited(upright: Image.Image, edit: Edit) -> Image.Image:
    """Return the upright picture turned, straightened and cropped. Raises UserError if the crop does not fit."""
    original = upright.size
    edit.check(original)
    if not edit.straighten:
        turned = upright.transpose(QUARTERS[edit.turns]) if edit.turns else upright
        return turned.crop(edit.box(original)) if edit.crop else turned
    image, size, source = _smooth(upright), edit.size(original), edit.source(original)
    bands = image.split()  # each by itself, so that colours below transparent parts stay what they are
    moved = [band.transform(size, Image.Transform.AFFINE, source, Image.Resampling.BICUBIC) for band in bands]
    if image.mode == "I":  # interpolation may leave what 16 bits hold
        return Image.fromarray(np.clip(np.asarray(moved[0]), 0, 65535).astype(np.uint16))
    return Image.merge(image.mode, moved) if len(moved) > 1 else moved[0]


def _smooth(image: Image.Image) -> Image.Image:
    """The picture in a mode whose values can be interpolated."""
    if image.mode.startswith("I"):
        return image.convert("I")
    if image.mode == "P" or has_alpha(image):
        return image.convert("RGBA" if has_alpha(image) else "RGB")
    return image.convert("L") if image.mode == "1" else image


def carry(original: list[int], edit: Mapping[str, Any], masks: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Write masks, {"source", "frame", "target"}, that were made for the picture as their `frame` left it, as they are
    for the picture as `edit` leaves it. original: (width, height) of the upright original."""
    width, height = original
    for mask in masks:
        image = open_grey(Path(mask["source"]))
        carried(image, Edit.from_dict(mask["frame"]), Edit.from_dict(edit), (width, height)).save(mask["target"], "PNG")
    return {}


def carried(mask_hw: Image.Image, frame: Edit, edit: Edit, original: Size) -> Image.Image:
    """Return the mask in the size of the picture after `edit`. Where the mask said nothing, beyond its edges, its
    nearest value holds."""
    if mask_hw.size != frame.size(original):  # it need not have its picture's size
        mask_hw = mask_hw.resize(frame.size(original), Image.Resampling.BILINEAR)
    source = after(inverse(frame.source(original)), edit.source(original))
    size = edit.size(original)
    padded, left, top = _padded(mask_hw, source, size)
    a, b, c, d, e, f = source
    moved = (a, b, c + left, d, e, f + top)
    return padded.transform(size, Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR)


def _padded(mask_hw: Image.Image, source: Affine, size: Size) -> tuple[Image.Image, int, int]:
    """The mask with its edges repeated as far as the map reaches; and how much was added left and above."""
    corners = [apply(source, (x, y)) for x in (0, size[0]) for y in (0, size[1])]
    low = [math.floor(min(corner[axis] for corner in corners)) - MARGIN for axis in (0, 1)]
    high = [math.ceil(max(corner[axis] for corner in corners)) + MARGIN for axis in (0, 1)]
    left, top = max(0, -low[0]), max(0, -low[1])
    right, bottom = max(0, high[0] - mask_hw.width), max(0, high[1] - mask_hw.height)
    values = np.pad(np.asarray(mask_hw), ((top, bottom), (left, right)), mode="edge")
    return Image.fromarray(values), left, top


def mask(source: str, size: list[int], target: str) -> dict[str, Any]:
    """Write a painted mask as grey PNG of `size` (width, height). Raises UserError if it cannot be read."""
    width, height = size
    image = open_grey(Path(source))
    image.resize((width, height), Image.Resampling.BILINEAR).save(target, "PNG")
    return {}
