"""The model families (SD 1, SD 2, SDXL) as rows of data: noise process, text conditioning, denoiser, names in files.

Whatever else differs between families is asked of these rows. No other module compares a family by name, so a new
family is a row here, and new code only for what rows cannot express yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.facts.family_marks import BASE_FAMILIES

NO_SAFETY_CHECKER = {
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
}


@dataclass(frozen=True)
class TextSlot:
    """One text encoder of a family: its layout in a single file, and how its prompts are padded."""

    kind: str  # "clip": OpenAI's, as transformers writes it; "openclip": LAION's, with fused attention rows
    prefix: str  # prefix of its keys in a single file
    pad_token: str
    lora_prefix: str  # prefix of its layers in LoRA files
    projected: bool = False  # its pooled, projected output conditions the UNet too (SDXL's second)
    dropped_layers: int = 0  # last layers that are in the file but never used


@dataclass(frozen=True)
class TextConditioning:
    """How prompts become the conditioning of the denoiser.

    The first encoder's hidden states are those of the `clip_skip`-th layer from the end, 1 being the last; a setting
    can override it. The other encoders always use the family's `clip_skip`.
    """

    slots: tuple[TextSlot, ...] = ()
    clip_skip: int = 1
    final_norm: bool = True  # apply the encoder's final layer norm to the chosen hidden states
    zeros_for_nothing: bool = False  # an empty negative prompt is encoded as zeros


@dataclass(frozen=True)
class Denoiser:
    """What a UNet's configuration does not say about it."""

    heads: int | None  # attention heads; None: 64 channels per head
    work: float | None  # multiplications for an area, relative to SD1's (0.34e12 for 512 x 512 pixels). None: unknown
    # share of `Base.activations` that a step needs at its peak with gradient checkpointing
    checkpointed: float
    upcasts_for_v: bool = False  # with v-prediction, its attention overflows in fp16
    v_sample_size: int | None = None  # latents a side with v-prediction, for which its own yaml says less


@dataclass(frozen=True)
class KnownAs:
    """The names that other tools give to models of the family."""

    modelspec: str  # `modelspec.architecture`
    kohya: str | None = None  # `ss_base_model_version`; None: not a base for LoRAs


@dataclass(frozen=True)
class Family:
    name: str
    title: str
    noise: str  # key of `training.noise_processes.NOISE_PROCESSES`
    text: TextConditioning
    denoiser: Denoiser
    scaling_factor: float  # latents are multiplied by it, for a standard deviation of about 1
    default_resolution: int  # pixels, of the square the base was trained at; `Base.resolution` knows the file's own
    usual_bytes: float | None  # of a 16-bit file of the usual size; None: there is no usual one
    known_as: KnownAs
    known_as_v: KnownAs | None = None  # with v-prediction; None: the same
    implementation: str = "https://github.com/huggingface/diffusers"  # `modelspec.implementation`
    pipeline: str = ""  # how diffusers' pipeline classes begin
    pipeline_index: Mapping[str, Any] = field(default_factory=dict, hash=False)  # further lines of model_index.json
    software: str = ""  # the software its yaml is for: "ldm" (CompVis) or "sgm" (Stability)
    names_clip_folder: bool = False  # a yaml can name the CLIP folder that its text encoder is made from
    untold_prediction: bool = False  # files do not say whether they predict epsilon or v; the WebUI runs the UNet
    v_mark: bool = False  # a marker tensor in the file means v-prediction
    kohya_v2: bool = False  # `ss_v2`
    lora_by_single_file: bool = False  # LoRA files name UNet layers after the single file, not after diffusers

    @property
    def components(self) -> tuple[str, ...]:
        """The names of the parts, as in diffusers folders."""
        if not self.text.slots:
            return ("unet",)
        return ("unet", "vae", *("text_encoder", "text_encoder_2")[: len(self.text.slots)])

    def names(self, prediction_type: str) -> KnownAs:
        return self.known_as_v if self.known_as_v and prediction_type == "v_prediction" else self.known_as


SD1 = Family(
    name="sd1",
    title=BASE_FAMILIES["sd1"].title,
    noise="ddpm",
    text=TextConditioning((TextSlot("clip", "cond_stage_model.transformer.", "<|endoftext|>", "lora_te"),)),
    # counted 0.31 of 1.26 GB (mixed precision, 512 pixels)
    denoiser=Denoiser(heads=8, work=1.0, checkpointed=0.25),
    scaling_factor=0.18215,
    default_resolution=512,
    usual_bytes=2e9,
    known_as=KnownAs("stable-diffusion-v1", "sd_v1"),
    implementation="https://github.com/CompVis/stable-diffusion",
    pipeline="StableDiffusion",
    pipeline_index=NO_SAFETY_CHECKER,
    software="ldm",
    names_clip_folder=True,
)
SD2 = Family(
    name="sd2",
    title=BASE_FAMILIES["sd2"].title,
    noise="ddpm",
    # clip_skip: the last but one of OpenCLIP's layers, which is the last that a diffusers encoder keeps
    text=TextConditioning((TextSlot("openclip", "cond_stage_model.model.", "!", "lora_te", dropped_layers=1),)),
    denoiser=Denoiser(heads=None, work=1.0, checkpointed=0.25, upcasts_for_v=True, v_sample_size=96),
    scaling_factor=0.18215,
    default_resolution=512,
    usual_bytes=2.6e9,
    known_as=KnownAs("stable-diffusion-v2-512", "sd_v2"),
    known_as_v=KnownAs("stable-diffusion-v2-768-v", "sd_v2_768_v"),
    implementation="https://github.com/Stability-AI/stablediffusion",
    pipeline="StableDiffusion",
    pipeline_index=NO_SAFETY_CHECKER,
    software="ldm",
    untold_prediction=True,
    kohya_v2=True,
)
SDXL = Family(
    name="sdxl",
    title=BASE_FAMILIES["sdxl"].title,
    noise="ddpm",
    text=TextConditioning(
        (
            TextSlot("clip", "conditioner.embedders.0.transformer.", "<|endoftext|>", "lora_te1"),
            TextSlot("openclip", "conditioner.embedders.1.model.", "!", "lora_te2", projected=True),
        ),
        clip_skip=2,
        final_norm=False,
        zeros_for_nothing=True,
    ),
    # 3.0e12 multiplications at 1024; counted 0.8 of 8.5 GB (1024 pixels): it has no attention at full size
    denoiser=Denoiser(heads=None, work=2.2, checkpointed=0.09),
    scaling_factor=0.13025,
    default_resolution=1024,
    usual_bytes=6.9e9,
    known_as=KnownAs("stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
    implementation="https://github.com/Stability-AI/generative-models",
    pipeline="StableDiffusionXL",
    pipeline_index={"force_zeros_for_empty_prompt": True},
    software="sgm",
    v_mark=True,
    lora_by_single_file=True,
)
PIXELS = Family(  # unconditional models on pixels; no checkpoint is recognised as one
    name="unconditional",
    title="Unconditional model",
    noise="ddpm",
    text=TextConditioning(),
    denoiser=Denoiser(heads=None, work=None, checkpointed=0.48),  # counted 63 of 132 MB
    scaling_factor=1.0,
    default_resolution=64,
    usual_bytes=None,
    known_as=KnownAs("ddpm-unconditional"),
)
FAMILIES = {family.name: family for family in (SD1, SD2, SDXL)}


def family_titles() -> list[str]:
    """Return the names of all families that can be trained, for messages."""
    return [family.title for family in FAMILIES.values()]
