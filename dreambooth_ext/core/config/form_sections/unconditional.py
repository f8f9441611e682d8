"""A model of its own: its pictures, its noise, its moving average."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.setting import setting

UNCONDITIONAL = {"methods": ("unconditional",), "group": "Unconditional"}


@dataclass(frozen=True)
class Unconditional:
    train_data_dir: str = setting(
        "",
        "Pictures to learn",
        "Folder with the pictures (JPG, PNG, WebP, BMP): some hundreds at least.",
        kind="path",
        **UNCONDITIONAL,
    )
    dataset_name: str | None = setting(
        None,
        "Data set",
        "Pictures from Hugging Face instead of a folder: the name of a data set, such as owner/name, of pictures or "
        "Parquet files.",
        **UNCONDITIONAL,
    )
    model_config: str | None = setting(
        None,
        "Configuration of the model",
        "A diffusers configuration of a UNet2DModel: its config.json, or the folder that holds it. Left out: that of "
        "diffusers' train_unconditional.py, 113 million numbers.",
        kind="path",
        is_remote=True,
        **UNCONDITIONAL,
    )
    ddpm_num_steps: int = setting(
        1000, "Steps of the noise", "Timesteps from picture to noise.", minimum=2, maximum=10_000, **UNCONDITIONAL
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
        "Preview's sampling steps",
        "Steps that previews are drawn in; fewer are quicker and rougher. Left out: as many as the noise has.",
        minimum=1,
        maximum=10_000,
        **UNCONDITIONAL,
    )
    ema_inv_gamma: float | None = setting(
        None,
        "EMA inverse gamma",
        "The average's decay after n steps is 1 - (1 + n / inverse gamma)^-power. Left out: 1.",
        minimum=1e-3,
        maximum=1e6,
        **UNCONDITIONAL,
    )
    ema_power: float | None = setting(
        None,
        "EMA power",
        "As above: 2/3 for runs of a million steps and more, 3/4 for shorter ones. Left out: 3/4.",
        minimum=1e-3,
        maximum=10,
        **UNCONDITIONAL,
    )
