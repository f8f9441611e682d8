"""The training loss: noise is added to the latents, the UNet predicts it, and its error is weighted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...core.config.stages import ResolvedConfig
from ..runtime.transfer import sent
from ..sampling.sampler import evaluating
from .noise import draw_noise
from .noise_processes import NoiseProcess

if TYPE_CHECKING:
    from ..conditioning.text_encoding import Conditioning


@dataclass(frozen=True)
class BaseTarget:
    """What the base itself predicts, as a second target. unet: makes the UNet the base's inside a `with` block;
    conditioning: the base's of the batch's captions; weights_b1hw: of each latent pixel's distance."""

    unet: Callable[[], AbstractContextManager[nn.Module]]
    conditioning: Conditioning | None
    weights_b1hw: Tensor

    @torch.no_grad()
    def predicted(self, input_bchw: Tensor, timesteps_b: Tensor, time_ids_b6: Tensor) -> Tensor:
        with self.unet() as unet, evaluating(unet):
            return predict(unet, input_bchw, timesteps_b, self.conditioning, time_ids_b6)


class Objective:
    """The training objective of a run: the noise process's target, the error and its weights."""

    def __init__(self, config: ResolvedConfig, process: NoiseProcess):
        self.config = config
        self.process = process

    def loss(
        self,
        unet: nn.Module,
        latents_bchw: Tensor,
        conditioning: Conditioning | None,
        time_ids_b6: Tensor,
        weights_b: Tensor,
        generator: torch.Generator,
        extra_channels_bchw: Tensor | None = None,
        masks_b1hw: Tensor | None = None,
        base: BaseTarget | None = None,
    ) -> Tensor:
        """Return the batch's loss, a float32 scalar: the weighted sum of its pictures' losses.

        weights_b is `Batch.weights_b`, each picture's share of the loss; the other arguments are those of
        `per_picture`.
        """
        further = (extra_channels_bchw, masks_b1hw, base)
        losses_b = self.per_picture(unet, latents_bchw, conditioning, time_ids_b6, generator, *further)
        return (losses_b * weights_b.to(losses_b)).sum()

    def per_picture(
        self,
        unet: nn.Module,
        latents_bchw: Tensor,
        conditioning: Conditioning | None,
        time_ids_b6: Tensor,
        generator: torch.Generator,
        extra_channels_bchw: Tensor | None = None,
        masks_b1hw: Tensor | None = None,
        base: BaseTarget | None = None,
    ) -> Tensor:
        """Return each picture's loss, (b,), float32, multiplied by its timestep's weight.

        latents_bchw: scaled latents; for models without a VAE, pixels in [-1, 1], and conditioning is None.
        time_ids_b6: used if the conditioning is pooled (SDXL). generator: on the CPU.
        extra_channels_bchw: an inpainting UNet's extra input: mask (1), then masked latents (4).
        masks_b1hw: weight of each latent pixel; None if all count the same. base: a second target, see `BaseTarget`.
        """
        latents_bchw = latents_bchw.float()
        draws = draw_noise(latents_bchw, self.process.timesteps, self.config, generator).to(latents_bchw.device)
        timesteps_b, noise_bchw = draws.timesteps_b, draws.noise_bchw
        input_noise_bchw = noise_bchw if draws.perturbation_bchw is None else noise_bchw + draws.perturbation_bchw
        input_bchw = self.process.noised(latents_bchw, input_noise_bchw, timesteps_b)
        if extra_channels_bchw is not None:
            input_bchw = torch.cat([input_bchw, extra_channels_bchw.to(input_bchw)], dim=1)
        target_bchw = self.process.target(latents_bchw, noise_bchw, timesteps_b)
        seen = (input_bchw, timesteps_b, time_ids_b6)
        of_base_bchw = base.predicted(*seen) if base else None  # first: it leaves nothing for the backward pass
        predicted_bchw = predict(unet, input_bchw, timesteps_b, conditioning, time_ids_b6)
        errors_bchw = self._errors(predicted_bchw, target_bchw, timesteps_b, masks_b1hw)
        if base and of_base_bchw is not None:
            errors_bchw = errors_bchw + self._errors(predicted_bchw, of_base_bchw, timesteps_b, base.weights_b1hw)
        return errors_bchw.mean(dim=(1, 2, 3)) * sent(self.process.weights_t, timesteps_b.device)[timesteps_b]

    def _errors(
        self, predicted_bchw: Tensor, target_bchw: Tensor, timesteps_b: Tensor, masks_b1hw: Tensor | None
    ) -> Tensor:
        """Return each latent pixel's error, times its weight, (b, c, h, w)."""
        thresholds_b = sent(self.process.thresholds_t, timesteps_b.device)[timesteps_b]
        errors_bchw = pixel_errors(
            self.config.loss_type, predicted_bchw - target_bchw, thresholds_b[:, None, None, None]
        )
        if masks_b1hw is not None:
            errors_bchw = errors_bchw * masks_b1hw
        return errors_bchw


def predict(
    unet: nn.Module, input_bchw: Tensor, timesteps_b: Tensor, conditioning: Conditioning | None, time_ids_b6: Tensor
) -> Tensor:
    """Return what the UNet predicts from noised latents, float32. conditioning: None for models without text."""
    given = {} if conditioning is None else {"encoder_hidden_states": conditioning.hidden_bsd}
    if conditioning is not None and conditioning.pooled_bp is not None:
        given["added_cond_kwargs"] = {"text_embeds": conditioning.pooled_bp, "time_ids": time_ids_b6}
    return unet(input_bchw, timesteps_b, **given).sample.float()


def pixel_errors(loss_type: str, difference: Tensor, threshold: Tensor) -> Tensor:
    """Return the error of each latent pixel. Huber and smooth L1 are sd-scripts' pseudo-Huber forms.

    huber is 2 c (sqrt(d^2 + c^2) - c), which approaches d^2 for small d; smooth_l1 is that divided by c. Both are
    written without subtracting two nearly equal numbers, which would lose small d in float32.
    """
    if loss_type == "l2":
        return difference**2
    if loss_type == "l1":
        return difference.abs()
    smooth = 2 * difference**2 / ((difference**2 + threshold**2).sqrt() + threshold)
    if loss_type == "huber":
        return threshold * smooth
    assert loss_type == "smooth_l1", loss_type
    return smooth
