"""Settings of the previews that are drawn during training."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED
from ...facts.setting import setting

SAMPLERS = ("DPM++ 2M Karras", "DPM++ 2M", "DPM++ SDE Karras", "Euler a", "Euler", "Heun", "LMS", "DDIM", "UniPC")


@dataclass(frozen=True)
class PreviewSettings:
    validation_prompts: list = setting(
        [],
        "Preview prompts",
        "Prompts for the previews, with your word. Default: the guide's test prompts, when previews are on.",
        group="Previews",
        **PROMPTED,
    )
    validation_steps: int = setting(
        0,
        "Preview every N steps",
        "How often to draw previews; 0 draws none. The base's own are drawn before the first step, to compare with.",
        group="Previews",
        minimum=0,
        maximum=10_000_000,
    )
    validation_negative_prompt: str = setting(
        "", "Negative prompt", "What previews should not show.", group="Previews", **PROMPTED
    )
    validation_num_images: int = setting(
        1,
        "Pictures per prompt",
        "How many pictures to draw for each prompt; without prompts, how many in the grid.",
        group="Previews",
        minimum=1,
        maximum=64,
    )
    validation_inference_steps: int = setting(
        25, "Sampling steps", "Sampling steps of each preview.", group="Previews", minimum=1, maximum=1000, **PROMPTED
    )
    validation_guidance_scale: float = setting(
        7.5, "CFG scale", "How closely previews follow the prompt.", group="Previews", minimum=1, maximum=50, **PROMPTED
    )
    validation_sampler: str = setting(
        "DPM++ 2M Karras",
        "Sampler",
        "Sampler for previews and class pictures.",
        group="Previews",
        choices=SAMPLERS,
        **PROMPTED,
    )
    validation_seed: int = setting(
        0,
        "Preview seed",
        "All previews use this seed, so that steps can be compared.",
        group="Previews",
        minimum=0,
        maximum=2**32 - 1,
    )
    report_to: str = setting(
        "tensorboard",
        "Tracker",
        "Write the run's curves for TensorBoard.",
        group="Saving",
        choices=("tensorboard", "none"),
    )
