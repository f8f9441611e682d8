"""Turn a picture into a training sample: mirrored or not, cropped, as latents or pixels, with its caption and mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.captions.variation import complete_text, trained_text
from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import Variation
from ...core.pictures.training_crop import Crop, random_crop
from ..runtime.seeds import generator
from . import latent_encoding
from .batch import Batch
from .caption_variation import TorchDraw
from .images import to_model
from .latent_encoding import Posteriors
from .masks import Masks
from .picture import Picture


@dataclass
class Sample:
    """One picture of a batch, with everything that was drawn at random for it."""

    picture: Picture
    tensor: Tensor  # latents or pixels, (c, h, w)
    caption: str
    time_ids: tuple[int, ...]
    weight: float
    mask_1hw: Tensor | None  # loss weights of the latent pixels; None if all count the same
    base_mask_1hw: Tensor | None = None  # weights of the distance to the base's prediction; None if nothing counts


class Samples(ABC):
    """Makes a run's samples, and batches of them. Subclasses define how a picture is read. variations: by concept."""

    is_latent: bool  # whether tensors are latents, else pixels

    def __init__(self, config: ResolvedConfig, variations: Sequence[Variation]):
        self.config, self.variations = config, variations
        self.masks = Masks(config)

    @abstractmethod
    def tensor(self, picture: Picture, crop: Crop, flip: bool, draw: torch.Generator) -> Tensor:
        """Return the picture's latents or pixels, (c, h, w)."""

    def sample(self, picture: Picture, draw: torch.Generator, weight: float) -> Sample:
        """Make a training sample of the picture. All random choices come from `draw`."""
        flip, x, y, drop_at = self.drawn(picture, draw)
        variation = self.variations[picture.entry.concept]
        crop = picture.crop
        if not self.config.center_crop:
            crop = random_crop(crop.original, crop.target, x, y)
        tensor = self.tensor(picture, crop, flip, draw)
        caption = trained_text(picture.entry, variation, drop_at, TorchDraw(draw))
        return Sample(picture, tensor, caption, crop.time_ids(flip), weight, *self.masks.weights(picture, crop, flip))

    def drawn(self, picture: Picture, draw: torch.Generator) -> tuple[bool, float, float, float]:
        """Return whether a training sample is mirrored, the place of its crop, and what decides on its caption."""
        flip_at, x, y, drop_at = torch.rand(4, generator=draw).tolist()
        return self.variations[picture.entry.concept].random_flip and flip_at < 0.5, x, y, drop_at

    def held(self, picture: Picture, draw: torch.Generator, weight: float) -> Sample:
        """Make a sample without random changes: not mirrored, centre-cropped, with the complete first caption."""
        entry, crop = picture.entry, picture.crop
        tensor = self.tensor(picture, crop, False, draw)
        caption = complete_text(entry)
        masks = self.masks.weights(picture, crop, False)
        return Sample(picture, tensor, caption, crop.time_ids(False), weight, *masks)

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Collate samples of one size into a batch."""
        tensors = torch.stack([sample.tensor for sample in samples])
        masks = [sample.mask_1hw for sample in samples if sample.mask_1hw is not None]
        base_masks = [sample.base_mask_1hw for sample in samples if sample.base_mask_1hw is not None]
        return Batch(
            latents_bchw=tensors if self.is_latent else None,
            pixels_bchw=None if self.is_latent else tensors,
            captions=[sample.caption for sample in samples],
            time_ids_b6=torch.tensor([sample.time_ids for sample in samples], dtype=torch.float32),
            weights_b=torch.tensor([sample.weight for sample in samples]),
            masks_b1hw=torch.stack(masks) if masks else None,
            base_masks_b1hw=torch.stack(base_masks) if any(map(torch.any, base_masks)) else None,
            keys=[str(sample.picture.entry.path) for sample in samples],
        )


class PixelSamples(Samples):
    """Samples of pixels in [-1, 1], read from the picture file each time."""

    is_latent = False

    def tensor(self, picture: Picture, crop: Crop, flip: bool, draw: torch.Generator) -> Tensor:
        return to_model(picture.pixels(crop, flip))


class LatentSamples(Samples):
    """Samples of scaled latents."""

    is_latent = True

    def __init__(
        self,
        config: ResolvedConfig,
        variations: Sequence[Variation],
        posteriors: Posteriors,
        scaling_factor: float,
    ):
        super().__init__(config, variations)
        self.posteriors, self.scaling_factor = posteriors, scaling_factor

    def tensor(self, picture: Picture, crop: Crop, flip: bool, draw: torch.Generator) -> Tensor:
        moments = self.posteriors.get(picture, flip)
        noise = self._noise(picture, (moments.shape[0] // 2, *moments.shape[1:]), draw)
        return latent_encoding.sample(moments[None], noise[None])[0] * self.scaling_factor

    def _noise(self, picture: Picture, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
        """Return the noise with which the latents are sampled from the posterior, in standard deviations from the
        mean."""
        noise = torch.randn(shape, generator=draw)
        if self.config.latent_sampling == "once":
            return torch.randn(shape, generator=generator(self.config.seed, "latents", picture.entry.path.name))
        return torch.zeros(shape) if self.config.latent_sampling == "deterministic" else noise
