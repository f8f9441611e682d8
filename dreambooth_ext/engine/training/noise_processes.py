"""Noise processes: how noise is added to latents, and what the denoiser has to predict. Each model family names one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.errors import UserError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
DEBIAS_SNR_LIMIT = 1000.0  # sd-scripts' limit: the first timesteps, almost without noise, are not weighed down further


class NoiseProcess(Protocol):
    """What the loss needs from a noise process. The tables have one entry per timestep."""

    timesteps: range  # timesteps to draw from
    weights_t: Tensor  # loss weights
    thresholds_t: Tensor  # where Huber and smooth L1 change from quadratic to linear

    def noised(self, latents_bchw: Tensor, noise_bchw: Tensor, timesteps_b: Tensor) -> Tensor:
        """Add noise to the latents, which gives the denoiser's input."""

    def target(self, latents_bchw: Tensor, noise_bchw: Tensor, timesteps_b: Tensor) -> Tensor:
        """Return what the denoiser should predict."""

    def denoised(self, input_bchw: Tensor, predicted_bchw: Tensor, timesteps_b: Tensor) -> Tensor:
        """Return the latents that the denoiser's prediction stands for."""


class DDPM:
    """The DDPM process (Ho et al. 2020, arXiv 2006.11239) with the base's noise schedule.

    scheduler_config: the base's, for `diffusers.DDPMScheduler.from_config`.
    prediction_type: one of PREDICTION_TYPES; the base's if the config says "auto".
    Raises UserError if the settings do not fit the base.
    """

    def __init__(self, config: ResolvedConfig, scheduler_config: Mapping[str, Any], prediction_type: str):
        assert prediction_type in PREDICTION_TYPES, prediction_type
        self.prediction_type = prediction_type
        self.schedule = noise_schedule(config, scheduler_config, prediction_type)
        self.timesteps = timestep_range(config, len(self.schedule))
        self.weights_t = timestep_weights(config, self.schedule.alphas_cumprod, prediction_type)
        self.thresholds_t = huber_thresholds(config, self.schedule.alphas_cumprod)

    def noised(self, latents_bchw: Tensor, noise_bchw: Tensor, timesteps_b: Tensor) -> Tensor:
        return self.schedule.add_noise(latents_bchw, noise_bchw, timesteps_b)

    def target(self, latents_bchw: Tensor, noise_bchw: Tensor, timesteps_b: Tensor) -> Tensor:
        if self.prediction_type == "v_prediction":
            return self.schedule.get_velocity(latents_bchw, noise_bchw, timesteps_b)
        return latents_bchw if self.prediction_type == "sample" else noise_bchw

    def denoised(self, input_bchw: Tensor, predicted_bchw: Tensor, timesteps_b: Tensor) -> Tensor:
        if self.prediction_type == "sample":
            return predicted_bchw
        signal_b = self.schedule.alphas_cumprod.to(input_bchw)[timesteps_b]
        root_b111, sigma_b111 = (part_b.sqrt()[:, None, None, None] for part_b in (signal_b, 1 - signal_b))
        if self.prediction_type == "v_prediction":
            return root_b111 * input_bchw - sigma_b111 * predicted_bchw
        return (input_bchw - sigma_b111 * predicted_bchw) / root_b111


# `Family.noise` -> config, scheduler_config, prediction_type -> the process
NOISE_PROCESSES: dict[str, Callable[[ResolvedConfig, Mapping[str, Any], str], NoiseProcess]] = {"ddpm": DDPM}


def noise_schedule(config: ResolvedConfig, scheduler_config: Mapping[str, Any], prediction_type: str) -> DDPMScheduler:
    """Return the base's noise schedule, rescaled to zero terminal SNR if `zero_terminal_snr` (or, if unset, the base)
    says so.

    The rescaling is Algorithm 1 of Lin et al. 2023, arXiv 2305.08891, as implemented in diffusers. Raises UserError if
    it is set for epsilon prediction.
    """
    if config.zero_terminal_snr and prediction_type == "epsilon":
        raise UserError("training.zero_snr_needs_v", "zero_terminal_snr")
    changes: dict[str, Any] = {"prediction_type": prediction_type}
    if config.zero_terminal_snr is not None:
        changes["rescale_betas_zero_snr"] = config.zero_terminal_snr
    return DDPMScheduler.from_config({**scheduler_config, **changes})


def timestep_range(config: ResolvedConfig, count: int) -> range:
    """Return the timesteps to draw from. A `max_timestep` of 1000, the default, means the end of any schedule.

    Raises UserError if none is left.
    """
    timesteps = range(config.min_timestep, config.max_timestep if config.max_timestep < min(count, 1000) else count)
    if not timesteps:
        raise UserError("training.no_timesteps", "min_timestep", least=config.min_timestep, most=timesteps.stop)
    return timesteps


def timestep_weights(config: ResolvedConfig, alphas_cumprod_t: Tensor, prediction_type: str) -> Tensor:
    """Return the loss weight of each timestep, (t,).

    Both weightings are defined for epsilon prediction: Min-SNR is min(SNR, gamma) / SNR (Hang et al. 2023, arXiv
    2303.09556), debiased estimation is 1 / sqrt(SNR) (Yu et al. 2023, arXiv 2310.08442). For the same picture, the loss
    of v-prediction is the epsilon loss times (SNR + 1) / SNR, so its weights are multiplied by SNR / (SNR + 1). The
    fractions are reduced to avoid dividing by 0 at SNR 0. The loss of sample prediction is the epsilon loss divided by
    the SNR; its default weight is the SNR (Salimans and Ho 2022, arXiv 2202.00512, and diffusers'
    train_unconditional.py), so that each timestep counts as in epsilon prediction. (For debiased estimation with
    v-prediction, sd-scripts uses 1 / (SNR + 1) and OneTrainer 1 / sqrt(SNR + 1), which differ from the paper.)
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


def huber_thresholds(config: ResolvedConfig, alphas_cumprod_t: Tensor) -> Tensor:
    """Return the threshold between quadratic and linear loss (Huber, smooth L1) for each timestep, (t,), as in
    sd-scripts.

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
