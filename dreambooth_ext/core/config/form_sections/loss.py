"""How a wrong prediction is counted, and which noise is added."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED
from ...facts.setting import setting


@dataclass(frozen=True)
class Loss:
    loss_type: str = setting(
        "l2", "Loss", "How a wrong prediction is counted.", group="Loss", choices=("l2", "l1", "huber", "smooth_l1")
    )
    huber_c: float = setting(
        0.1,
        "Huber parameter",
        "Where Huber and smooth L1 turn from square to linear.",
        group="Loss",
        minimum=1e-6,
        maximum=100,
    )
    huber_schedule: str = setting(
        "snr",
        "Huber schedule",
        "How that parameter goes over the timesteps.",
        group="Loss",
        choices=("constant", "exponential", "snr"),
    )
    snr_gamma: float | None = setting(
        None,
        "Min-SNR gamma",
        "Weigh timesteps by Min-SNR; 5 is usual, empty is off.",
        group="Loss",
        minimum=1e-3,
        maximum=100,
    )
    debiased_estimation: bool = setting(False, "Debiased estimation", "Weigh timesteps by 1/sqrt(SNR).", group="Loss")
    offset_noise: float | None = setting(
        None,
        "Offset noise",
        "Lets the model learn dark and bright pictures. Left out: 0.1 for styles, 0 otherwise.",
        group="Loss",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    adaptive_noise_scale: float = setting(
        0.0,
        "Adaptive noise scale",
        "Adds this much of the latents' mean absolute value to the offset noise.",
        group="Loss",
        minimum=-1,
        maximum=1,
        **PROMPTED,
    )
    multires_noise_iterations: int = setting(
        0,
        "Multi-resolution noise",
        "Layers of pyramid noise; 6 to 10, 0 is off.",
        group="Loss",
        minimum=0,
        maximum=64,
        **PROMPTED,
    )
    multires_noise_discount: float = setting(
        0.3,
        "Multi-resolution discount",
        "How fast pyramid noise fades.",
        group="Loss",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    ip_noise_gamma: float = setting(
        0.0,
        "Input perturbation",
        "Extra noise on the noisy input only (never on the target); 0.1 is usual, 0 is off.",
        group="Loss",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    min_timestep: int = setting(0, "Lowest timestep", "Train from this timestep.", group="Loss", minimum=0, maximum=999)
    max_timestep: int = setting(
        1000,
        "Highest timestep",
        "Train up to this timestep (exclusive); 1000 is the end of every schedule.",
        group="Loss",
        minimum=1,
        maximum=1000,
    )
    zero_terminal_snr: bool | None = setting(
        None,
        "Zero terminal SNR",
        "Rescale the noise schedule so that the last timestep is pure noise; only for v-prediction. Left out: as the "
        "base was trained.",
        group="Loss",
        **PROMPTED,
    )
