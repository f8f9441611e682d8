"""The families of Stable Diffusion as rows of data: what differs between them beyond sizes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextSlot:
    """One text encoder of a family: its layout in a single file, and how its prompts are padded."""

    kind: str  # "clip": OpenAI's, as transformers writes it; "openclip": LAION's, with fused attention rows
    prefix: str  # of its keys in a single file
    pad_token: str
    projected: bool = False  # its pooled, projected output conditions the UNet too (SDXL's second)
    dropped_layers: int = 0  # last layers that are in the file and never run


@dataclass(frozen=True)
class Family:
    name: str
    title: str
    scaling_factor: float  # latents are multiplied by it, so that their deviation is about one
    default_resolution: int  # pixels, of the square the base was trained at; `Base.resolution` knows the file's own
    text_slots: tuple[TextSlot, ...]
    clip_skip: int  # 1: the last layer with the final norm; 2: the last but one, bare (SDXL)
    num_heads: int | None  # of UNet attention; None: 64 channels a head
    modelspec: str  # `modelspec.architecture`

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the parts, as diffusers' folders have them."""
        if not self.text_slots:
            return ("unet",)
        return ("unet", "vae", *("text_encoder", "text_encoder_2")[: len(self.text_slots)])


SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1",
    scaling_factor=0.18215,
    default_resolution=512,
    text_slots=(TextSlot("clip", "cond_stage_model.transformer.", "<|endoftext|>"),),
    clip_skip=1,
    num_heads=8,
    modelspec="stable-diffusion-v1",
)
SD2 = Family(
    name="sd2",
    title="Stable Diffusion 2",
    scaling_factor=0.18215,
    default_resolution=512,
    text_slots=(TextSlot("openclip", "cond_stage_model.model.", "!", dropped_layers=1),),
    clip_skip=1,  # the last but one of OpenCLIP's layers, which is the last that a diffusers encoder keeps
    num_heads=None,
    modelspec="stable-diffusion-v2",
)
SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    scaling_factor=0.13025,
    default_resolution=1024,
    text_slots=(
        TextSlot("clip", "conditioner.embedders.0.transformer.", "<|endoftext|>"),
        TextSlot("openclip", "conditioner.embedders.1.model.", "!", projected=True),
    ),
    clip_skip=2,
    num_heads=None,
    modelspec="stable-diffusion-xl-v1-base",
)
PIXELS = Family(  # of models that draw pixels, by themselves: no checkpoint is recognised as one
    name="unconditional",
    title="Unconditional model",
    scaling_factor=1.0,
    default_resolution=64,
    text_slots=(),
    clip_skip=1,
    num_heads=None,
    modelspec="ddpm-unconditional",
)
FAMILIES = {family.name: family for family in (SD1, SD2, SDXL)}
