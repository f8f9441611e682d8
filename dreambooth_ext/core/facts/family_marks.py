"""The model families as a file's tensor names show them, for code that has no PyTorch to open the file with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BaseFamily:
    """A row of the engine's `FAMILIES`, by its name there.

    marks: parts of tensor names; a single file of the family has at least one of them, and none of an earlier row's.
    pipeline: the class in a diffusers folder's model_index.json; text_width: of its text encoder, where that decides.
    flow_word: a file with it in its path predicts the flow (rectified flow); WebUIs recognise such files the same way.
    preset: Forge Neo's name for drawing with such models. text_encoders: how many the family has.
    """

    title: str
    marks: tuple[bytes, ...]
    pipeline: str
    text_width: int | None = None
    flow_word: str = ""
    preset: str = ""
    text_encoders: int = 1


BASE_FAMILIES = {
    "sdxl": BaseFamily(
        "Stable Diffusion XL",
        (b"conditioner.embedders.1.",),
        "StableDiffusionXL",
        flow_word="rectified",
        preset="xl",
        text_encoders=2,
    ),
    "sd2": BaseFamily(
        "Stable Diffusion 2",
        (b"cond_stage_model.model.", b"conditioner.embedders.0.model."),  # the second: SD 2.1 Turbo
        "StableDiffusion",
        text_width=1024,
    ),
    "sd1": BaseFamily("Stable Diffusion 1", (b"cond_stage_model.transformer.",), "StableDiffusion", preset="sd"),
}
