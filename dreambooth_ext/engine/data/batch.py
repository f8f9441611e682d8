"""The batch of one forward pass: latents or pixels, captions, loss weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from ..runtime.transfer import sent


@dataclass
class Batch:
    """Pictures of one size, with the data that belongs to each of them.

    Shapes: latents (b, c, h / 8, w / 8), scaled; pixels (b, 3, h, w) in [-1, 1]; time_ids (b, 6) in SDXL's order:
    original height and width, crop top and left, target height and width, in pixels; weights (b,).
    Exactly one of latents and pixels is given: pixels if latents cannot be cached in advance (random crops,
    inpainting).
    masks (b, 1, h / 8, w / 8) if parts of a picture count differently: the weight of each latent pixel's error (of each
    pixel's, (b, 1, h, w), without a VAE). base_masks: likewise the weight of the distance to what the base itself
    predicts, if that is a second target anywhere in the batch.
    The weights are shares of the loss: instance pictures sum to 1, class pictures to `prior_loss_weight`.
    """

    latents_bchw: Tensor | None
    pixels_bchw: Tensor | None
    captions: list[str]
    time_ids_b6: Tensor
    weights_b: Tensor
    keys: list[str]
    masks_b1hw: Tensor | None = None
    base_masks_b1hw: Tensor | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def to(self, device: torch.device) -> Batch:
        moved = {
            field.name: sent(value, device)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return dataclasses.replace(self, **moved)
