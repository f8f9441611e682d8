"""A picture that a run trains on, measured: how it is cropped, and its pixels."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from ...core.data.entry import Entry
from .images import Crop, training_pixels
from .latent_cache import content_key


@dataclass(frozen=True)
class Picture:
    """A picture that can be read, and how it is cropped when nothing is random."""

    entry: Entry
    crop: Crop
    digest: str  # sha256 of its bytes; "" where nothing is kept on disk
    opaque: bool = False  # transparent parts keep their colours, for they are weighed instead

    def pixels(self, crop: Crop | None = None, flip: bool = False) -> Tensor:
        """`images.training_pixels` of it. crop: another than its own."""
        return training_pixels(self.entry.path, crop or self.crop, flip, self.opaque)

    def key(self, flip: bool, vae: str) -> Hashable:
        """Its posterior's name in the cache."""
        if not self.digest:
            return (str(self.entry.path), self.crop, flip)  # in memory nothing outlives the run
        crop = self.crop
        place = (crop.original, crop.target, crop.left, crop.top)
        return content_key(self.digest, (*place, "opaque") if self.opaque else place, flip, vae)
