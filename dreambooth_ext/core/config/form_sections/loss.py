"""Settings of the loss, the noise and the timesteps."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED
from ...facts.setting import setting


@dataclass(frozen=True)
class LossSettings:
    loss_type: str = setting(
        "l2",
        "Loss",
        "How the error of a prediction is measured.",
        group="Loss",
        choices=("l2", "l1", "huber", "smooth_l1"),
    )
    huber_c: float = setting(
        0.1,
        "Huber parameter",
        "Where Huber and smooth L1 change from quadratic to linear.",
        group="Loss",
        minimum=1e-6,
        maximum=100,
    )
    huber_schedule: str = setting(
        "snr",
        "Huber schedule",
        "How the Huber parameter changes over the timesteps.",
        group="Loss",
        choices=("constant", "exponential", "snr"),
    )
    snr_gamma: float | None = setting(
        None,
        "Min-SNR gamma",
        "Weight timesteps by Min-SNR; 5 is usual, empty is off.",
        group="Loss",
        minimum=1e-3,
        maximum=100,
    )
    debiased_estimation: bool = setting(False, "Debiased estimation", "Weight timesteps by 1/sqrt(SNR).", group="Loss")
    offset_noise: float | None = setting(
        None,
        "Offset noise",
        "Helps the model learn very dark and very bright pictures. Default: 0.1 for styles, 0 otherwise.",
        group="Loss",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    adaptive_noise_scale: float = setting(
        0.0,
        "Adaptive noise scale",
        "Adds the latents' mean absolute value, times this number, to the offset noise.",
        group="Loss",
        minimum=-1,
        maximum=1,
        **PROMPTED,
    )
    multires_noise_iterations: int = setting(
        0,
        "Multi-resolution noise",
        "Number of layers of pyramid noise: 6 to 10 are usual, 0 is off.",
        group="Loss",
        minimum=0,
        maximum=64,
        **PROMPTED,
    )
    multires_noise_discount: float = setting(
        0.3,
        "Multi-resolution discount",
        "How quickly pyramid noise fades from layer to layer.",
        group="Loss",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    ip_noise_gamma: float = setting(
        0.0,
        "Input perturbation",
        "Extra noise on the model's input, not on the target; 0.1 is usual, 0 is off.",
        group="Loss",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    min_timestep: int = setting(
        0, "Lowest timestep", "First timestep to train on.", group="Loss", minimum=0, maximum=999
    )
    max_timestep: int = setting(
        1000,
        "Highest timestep",
        "End of the timesteps to train on (exclusive); 1000 is the end of every schedule.",
        group="Loss",
        minimum=1,
        maximum=1000,
    )
    zero_terminal_snr: bool | None = setting(
        None,
        "Zero terminal SNR",
        "Rescale the noise schedule so that the last timestep is pure noise; only for v-prediction. Default: as the "
        "base was trained.",
        group="Loss",
        **PROMPTED,
    )
