"""Settings of an unconditional model: data, noise schedule and moving average."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.setting import setting

UNCONDITIONAL = {"methods": ("unconditional",), "group": "Unconditional"}


@dataclass(frozen=True)
class UnconditionalSettings:
    train_data_dir: str = setting(
        "",
        "Training pictures",
        "Folder with the training pictures (JPG, PNG, WebP, BMP): several hundred at least.",
        kind="path",
        **UNCONDITIONAL,
    )
    dataset_name: str | None = setting(
        None,
        "Data set",
        "Pictures from Hugging Face instead of a folder: the name of a data set, such as owner/name, with pictures or "
        "Parquet files.",
        **UNCONDITIONAL,
    )
    model_config: str | None = setting(
        None,
        "Model configuration",
        "A diffusers configuration of a UNet2DModel: its config.json, or the folder that contains it. Default: that "
        "of diffusers' train_unconditional.py, with 113 million parameters.",
        kind="path",
        is_remote=True,
        **UNCONDITIONAL,
    )
    ddpm_num_steps: int = setting(
        1000, "Noise steps", "Number of timesteps from picture to noise.", minimum=2, maximum=10_000, **UNCONDITIONAL
    )
    ddpm_beta_schedule: str = setting(
        "linear",
        "Noise schedule",
        "How the noise grows: linear, as in DDPM, or squaredcos_cap_v2, the squared cosine, which is gentler on small "
        "pictures.",
        choices=("linear", "squaredcos_cap_v2"),
        **UNCONDITIONAL,
    )
    ddpm_num_inference_steps: int | None = setting(
        None,
        "Preview sampling steps",
        "Sampling steps of each preview; fewer are faster and rougher. Default: as many as there are noise steps.",
        minimum=1,
        maximum=10_000,
        **UNCONDITIONAL,
    )
    ema_inv_gamma: float | None = setting(
        None,
        "EMA inverse gamma",
        "The moving average's decay after n steps is 1 - (1 + n / inverse gamma)^-power. Default: 1.",
        minimum=1e-3,
        maximum=1e6,
        **UNCONDITIONAL,
    )
    ema_power: float | None = setting(
        None,
        "EMA power",
        "The power in that formula: 2/3 for runs of a million steps or more, 3/4 for shorter ones. Default: 3/4.",
        minimum=1e-3,
        maximum=10,
        **UNCONDITIONAL,
    )
