"""A training picture whose size is known: its crop, its pixels and its key in the latent cache."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from ...core.data.entry import Entry
from ...core.pictures.training_crop import Crop
from .images import training_pixels
from .latent_cache import content_key


@dataclass(frozen=True)
class Picture:
    """A readable picture, with its default (centre) crop."""

    entry: Entry
    crop: Crop
    digest: str  # sha256 of its bytes; "" if latents are not cached on disk
    by_alpha: bool = False  # transparent parts keep their colours, since the loss weighs them by opacity

    def pixels(self, crop: Crop | None = None, flip: bool = False) -> Tensor:
        """Return `images.training_pixels` of this picture. crop: replaces the default one."""
        return training_pixels(self.entry.path, crop or self.crop, flip, self.by_alpha)

    def key(self, flip: bool, vae: str) -> Hashable:
        """Return the key of the picture's posterior in the cache."""
        if not self.digest:
            return (str(self.entry.path), self.crop, flip)  # in memory nothing outlives the run
        crop = self.crop
        place = (crop.original, crop.target, crop.left, crop.top)
        return content_key(self.digest, (*place, "opaque") if self.by_alpha else place, flip, vae)
