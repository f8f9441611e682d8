"""Pictures that are drawn on the way."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED
from ...facts.setting import setting

SAMPLERS = ("DPM++ 2M Karras", "DPM++ 2M", "DPM++ SDE Karras", "Euler a", "Euler", "Heun", "LMS", "DDIM", "UniPC")


@dataclass(frozen=True)
class Previews:
    validation_prompts: list = setting(
        [],
        "Preview prompts",
        "Prompts to draw on the way, with your word. Left out: the guide's test prompts when previews are asked for.",
        group="Previews",
        **PROMPTED,
    )
    validation_steps: int = setting(
        0, "Preview every N steps", "0 draws none on the way.", group="Previews", minimum=0, maximum=10_000_000
    )
    validation_negative_prompt: str = setting(
        "", "Negative prompt", "What previews should not show.", group="Previews", **PROMPTED
    )
    validation_num_images: int = setting(
        1,
        "Pictures a prompt",
        "Pictures drawn for each prompt; without prompts, in the grid.",
        group="Previews",
        minimum=1,
        maximum=64,
    )
    validation_inference_steps: int = setting(
        25, "Sampling steps", "Steps of the sampler.", group="Previews", minimum=1, maximum=1000, **PROMPTED
    )
    validation_guidance_scale: float = setting(
        7.5, "CFG scale", "How closely previews follow the prompt.", group="Previews", minimum=1, maximum=50, **PROMPTED
    )
    validation_sampler: str = setting(
        "DPM++ 2M Karras",
        "Sampler",
        "The sampler of previews and class pictures.",
        group="Previews",
        choices=SAMPLERS,
        **PROMPTED,
    )
    validation_seed: int = setting(
        0,
        "Preview seed",
        "Previews always use this seed, so that steps compare.",
        group="Previews",
        minimum=0,
        maximum=2**32 - 1,
    )
    report_to: str = setting(
        "tensorboard",
        "Tracker",
        "Writes the run's curves for TensorBoard.",
        group="Saving",
        choices=("tensorboard", "none"),
    )
