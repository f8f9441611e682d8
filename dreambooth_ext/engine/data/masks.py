"""How much each part of a training picture counts: by the file of its mask, else by its transparency.

Masks are cut and scaled as their pictures are, to one value for each number that the loss has: a latent pixel, or a
pixel of models without a VAE.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.data.entry import Entry
from ...core.data.mask_files import fits
from ...core.errors import Problem, UserError
from ...core.facts.methods import PROMPTED_METHODS
from ...core.pictures.training_crop import Crop
from ..pictures.picture_file import open_alpha, open_grey
from .images import cropped, require_size
from .parallel import ahead, attempt, workers
from .picture import Picture
from .picture_checks import Warn

LATENT_SIDE = 8  # pixels per latent pixel, along each side
KEPT = 2**28  # bytes of masks that stay in memory; of latents of 512 pixels, 65 000 masks


class Masks:
    """The loss weights of a run's pictures, (1, h, w) for the size of what it trains on. Thread-safe."""

    def __init__(self, config: ResolvedConfig):
        self.config = config
        self.side = LATENT_SIDE if config.method in PROMPTED_METHODS else 1
        self._known: dict[tuple[Path, str, bool], Tensor] = {}
        self._bytes = 0

    def weights(self, picture: Picture, crop: Crop, flip: bool) -> tuple[Tensor | None, Tensor | None]:
        """Return the weight of each number's error, and that of its distance to the base's own prediction. None: all
        errors count the same; the base's prediction counts nowhere."""
        config = self.config
        if not config.masked_loss and not picture.by_alpha:
            return None, None
        values_1hw = self._values(picture, crop, flip)
        if not config.masked_loss:
            return alpha_weights(values_1hw), None
        return loss_weights(
            values_1hw,
            config.unmasked_weight,
            config.normalize_masked_area_loss,
            config.masked_prior_preservation_weight if config.method in PROMPTED_METHODS else 0.0,
        )

    def _values(self, picture: Picture, crop: Crop, flip: bool) -> Tensor:
        """Return the mask cut as the picture is, (1, h, w), uint8. Those of the usual crop stay in memory."""
        size = (crop.target[0] // self.side, crop.target[1] // self.side)
        if crop != picture.crop:  # a random one
            return mask_values(picture.entry, crop, flip, size, picture.by_alpha)
        key = (picture.entry.path, picture.entry.mask, flip)
        known = self._known.get(key)
        if known is None:
            known = mask_values(picture.entry, crop, flip, size, picture.by_alpha)
            if self._bytes + known.numel() <= KEPT:
                self._known[key] = known
                self._bytes += known.numel()
        return known


def mask_values(entry: Entry, crop: Crop, flip: bool, size: tuple[int, int], by_alpha: bool) -> Tensor:
    """Return how much each part of the cropped picture counts by its mask, (1, height, width) from 0 to 255 for `size`
    = (width, height).

    by_alpha: where there is no mask, transparent parts count less. Raises UserError naming the mask if it cannot be
    read or has other proportions than its picture.
    """
    if entry.mask:
        image = open_grey(Path(entry.mask))
        require_shape(entry, crop.original, image.size)
    else:
        found = open_alpha(entry.path) if by_alpha else None
        if found is None:
            return torch.full((1, *size[::-1]), 255, dtype=torch.uint8)
        image = found
        require_size(entry.path, image, crop)
    image = cropped(image, crop, size)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(image))[None]


def require_shape(entry: Entry, picture: tuple[int, int], mask: tuple[int, int]) -> None:
    """Raise UserError unless a mask has its picture's proportions; sizes are (width, height)."""
    (wide, high), (width, height) = picture, mask
    if not fits(picture, mask):
        sizes = {"width": width, "height": height, "wide": wide, "high": high}
        raise UserError("masks.other_shape", "masked_loss", file=entry.mask, picture=entry.path.name, **sizes)


def require_use(picture: Picture, is_masked: bool) -> None:
    """Raise UserError unless the mask can be read, fits its picture and leaves something of the crop to learn.

    is_masked: whether transparency is a mask, and not weights of mean 1 (`alpha_weights`).
    """
    entry, crop, by_alpha = picture.entry, picture.crop, picture.by_alpha and is_masked
    if (entry.mask or by_alpha) and not mask_values(entry, crop, False, crop.target, by_alpha).any():
        raise UserError("masks.black", "masked_loss", file=entry.mask or str(entry.path))


def usable(pictures: list[Picture], is_masked: bool, warn: Warn) -> list[Picture]:
    """Read every mask once. Returns the pictures whose masks are of use, and those without one."""
    results = ahead(lambda picture: attempt(require_use, picture, is_masked), pictures, 2 * workers())
    kept = []
    for picture, result in zip(pictures, results, strict=True):
        if isinstance(result, UserError):
            warn(Problem("pictures.left_out", reason=result.problem.message))
        else:
            kept.append(picture)
    return kept


def alpha_weights(values_1hw: Tensor) -> Tensor:
    """Return loss weights by opacity, as in the WebUI (modules/textual_inversion/dataset.py): the least opaque part has
    weight 0, and the mean is 1. A picture without transparency has weight 1 everywhere."""
    weights_1hw = values_1hw.float()
    weights_1hw -= weights_1hw.min()
    return weights_1hw / weights_1hw.mean() if weights_1hw.any() else torch.ones_like(weights_1hw)


def loss_weights(
    values_1hw: Tensor, least: float, is_normalised: bool, base_weight: float
) -> tuple[Tensor, Tensor | None]:
    """Return the weights of the error and, with a `base_weight`, of the distance to the base's prediction.

    As OneTrainer's masked_loss.py: a mask m in [0, 1] is raised to `least`; the base counts 1 - m, times its weight.
    is_normalised: each is divided by its mean over the picture.
    """
    inside_1hw = (values_1hw.float() / 255).clamp(min=least)
    outside_1hw = 1 - inside_1hw
    if is_normalised:
        inside_1hw = _of_mean_1(inside_1hw)
        outside_1hw = _of_mean_1(outside_1hw)
    return inside_1hw, outside_1hw * base_weight if base_weight else None


def _of_mean_1(weights_1hw: Tensor) -> Tensor:
    """Scale weights to a mean of 1; those of a random crop without any white stay 0."""
    return weights_1hw / weights_1hw.mean() if weights_1hw.any() else weights_1hw
