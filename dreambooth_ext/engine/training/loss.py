"""What training lowers: noise is added to the latents, the UNet is asked for it, and its error is weighed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from ...core.config.run_config import RunConfig
from ...core.errors import UserError
from .noise import draw

if TYPE_CHECKING:
    from ..conditioning.text_encoding import Conditioning

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
DEBIAS_SNR_LIMIT = 1000.0  # sd-scripts' limit: the first timesteps, almost without noise, are not weighed down further


class Objective:
    """The loss of one run: noise schedule, target, error and weights.

    scheduler_config: the base's, as `diffusers.DDPMScheduler.from_config` takes it.
    prediction_type: one of PREDICTION_TYPES: the config's, or the base's where that says "auto".
    Raises UserError where the settings do not fit the base.
    """

    def __init__(self, config: RunConfig, scheduler_config: Mapping[str, Any], prediction_type: str):
        assert prediction_type in PREDICTION_TYPES, prediction_type
        self.config = config
        self.prediction_type = prediction_type
        self.schedule = noise_schedule(config, scheduler_config, prediction_type)
        self.timesteps = timestep_range(config, len(self.schedule))
        self.weights = timestep_weights(config, self.schedule.alphas_cumprod, prediction_type)
        self.thresholds = huber_thresholds(config, self.schedule.alphas_cumprod)

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
    ) -> Tensor:
        """The batch's loss, a float32 scalar: each picture's, times its weight, summed.

        weights_b are `Batch.weights_b`, shares of the loss; the other arguments are those of `per_picture`.
        """
        further = (extra_channels_bchw, masks_b1hw)
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
    ) -> Tensor:
        """Each picture's loss, (b,), float32, weighed by its timestep.

        latents_bchw are scaled; for models without a VAE they are pixels in [-1, 1], and there is no conditioning.
        time_ids_b6 is used where the conditioning is pooled (SDXL). generator is on the CPU.
        extra_channels_bchw: an inpainting UNet's further input, mask (1) and masked latents (4), in this order.
        masks_b1hw: how much each latent pixel counts; None for all the same.
        """
        latents_bchw = latents_bchw.float()
        draws = draw(latents_bchw, self.timesteps, self.config, generator).to(latents_bchw.device)
        timesteps_b, noise_bchw = draws.timesteps_b, draws.noise_bchw
        input_noise_bchw = noise_bchw if draws.perturbation_bchw is None else noise_bchw + draws.perturbation_bchw
        input_bchw = self.schedule.add_noise(latents_bchw, input_noise_bchw, timesteps_b)
        if extra_channels_bchw is not None:
            input_bchw = torch.cat([input_bchw, extra_channels_bchw.to(input_bchw)], dim=1)
        if self.prediction_type == "v_prediction":
            target_bchw = self.schedule.get_velocity(latents_bchw, noise_bchw, timesteps_b)
        else:
            target_bchw = latents_bchw if self.prediction_type == "sample" else noise_bchw
        given = {} if conditioning is None else {"encoder_hidden_states": conditioning.hidden_bsd}
        if conditioning is not None and conditioning.pooled_bp is not None:
            given["added_cond_kwargs"] = {"text_embeds": conditioning.pooled_bp, "time_ids": time_ids_b6}
        predicted_bchw = unet(input_bchw, timesteps_b, **given).sample
        return self._errors(predicted_bchw.float(), target_bchw, timesteps_b, masks_b1hw)

    def _errors(
        self, predicted_bchw: Tensor, target_bchw: Tensor, timesteps_b: Tensor, masks_b1hw: Tensor | None
    ) -> Tensor:
        thresholds_b = self.thresholds.to(timesteps_b.device)[timesteps_b]
        errors_bchw = pixel_errors(
            self.config.loss_type, predicted_bchw - target_bchw, thresholds_b[:, None, None, None]
        )
        if masks_b1hw is not None:
            errors_bchw = errors_bchw * masks_b1hw
        return errors_bchw.mean(dim=(1, 2, 3)) * self.weights.to(timesteps_b.device)[timesteps_b]


def noise_schedule(config: RunConfig, scheduler_config: Mapping[str, Any], prediction_type: str) -> DDPMScheduler:
    """The base's noise schedule, ending in pure noise where `zero_terminal_snr` (or else the base) says so.

    That rescaling is Algorithm 1 of Lin et al. 2023, arXiv 2305.08891, done by diffusers.
    """
    if config.zero_terminal_snr and prediction_type == "epsilon":
        raise UserError(
            "zero_terminal_snr",
            "needs a base with v-prediction: at the last timestep the input is the noise that this base should find.",
            "Leave it out, or choose a v-prediction base.",
        )
    changes = {"prediction_type": prediction_type}
    if config.zero_terminal_snr is not None:
        changes["rescale_betas_zero_snr"] = config.zero_terminal_snr
    return DDPMScheduler.from_config({**scheduler_config, **changes})


def timestep_range(config: RunConfig, count: int) -> range:
    """The timesteps to draw from; 1000, the default end, means the last one of every schedule."""
    timesteps = range(config.min_timestep, config.max_timestep if config.max_timestep < min(count, 1000) else count)
    if not timesteps:
        raise UserError(
            "min_timestep",
            f"there is no timestep from {config.min_timestep} up to {timesteps.stop} (exclusive).",
            "Set min_timestep below max_timestep.",
        )
    return timesteps


def timestep_weights(config: RunConfig, alphas_cumprod_t: Tensor, prediction_type: str) -> Tensor:
    """What each timestep's loss is multiplied with, (t,).

    Both weightings are defined on an epsilon model's loss: Min-SNR is min(SNR, gamma) / SNR (Hang et al. 2023, arXiv
    2303.09556), debiased estimation 1 / sqrt(SNR) (Yu et al. 2023, arXiv 2310.08442). A v model's loss is an epsilon
    model's times (SNR + 1) / SNR for the same picture, so its weights are those times SNR / (SNR + 1). The fractions
    are reduced, so that at SNR 0 nothing is divided by 0. A model of the sample has an epsilon model's loss divided by
    the SNR; with nothing else asked for, its weight is the SNR (Salimans and Ho 2022, arXiv 2202.00512, and diffusers'
    train_unconditional.py), so that each timestep counts as it does for an epsilon model. (sd-scripts takes
    1 / (SNR + 1) and OneTrainer 1 / sqrt(SNR + 1) for debiased v models, which are other weightings than the paper's.)
    """
    snr_t = alphas_cumprod_t / (1 - alphas_cumprod_t)
    is_v = prediction_type == "v_prediction"
    weights_t = snr_t.clone() if prediction_type == "sample" else torch.ones_like(snr_t)
    if config.snr_gamma is not None:
        capped_t = snr_t.clamp(max=config.snr_gamma)
        weights_t *= capped_t / (snr_t + 1) if is_v else (config.snr_gamma / snr_t).clamp(max=1)
    if config.debiased_estimation:
        # snr / sqrt(min(snr, limit)), without 0 / 0
        root_t = torch.maximum(snr_t.sqrt(), snr_t / DEBIAS_SNR_LIMIT**0.5)
        # Pure noise teaches an epsilon model nothing: its weight is 0 there rather than infinite.
        weights_t *= root_t / (snr_t + 1) if is_v else torch.where(snr_t > 0, root_t / snr_t, 0)
    return weights_t


def huber_thresholds(config: RunConfig, alphas_cumprod_t: Tensor) -> Tensor:
    """Where Huber and smooth L1 turn from square to linear, for each timestep, (t,); sd-scripts' schedules.

    "exponential" falls from 1 to huber_c; "snr" from 1 to huber_c as sigma = sqrt(1 / SNR) rises.
    """
    count, c = len(alphas_cumprod_t), config.huber_c
    if config.huber_schedule == "constant":
        return torch.full((count,), c)
    if config.huber_schedule == "exponential":
        return c ** (torch.arange(count) / count)
    assert config.huber_schedule == "snr", config.huber_schedule
    sigmas_t = ((1 - alphas_cumprod_t) / alphas_cumprod_t).sqrt()  # infinite at SNR 0, where c is left
    return (1 - c) / (1 + sigmas_t) ** 2 + c


def pixel_errors(loss_type: str, difference: Tensor, threshold: Tensor) -> Tensor:
    """The error of each latent pixel. Huber and smooth L1 are sd-scripts' pseudo-Huber forms.

    huber is 2 c (sqrt(d^2 + c^2) - c), which goes to d^2 for small d; smooth_l1 is that divided by c. Written without
    the difference of two near numbers, which would lose small d in float32.
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
