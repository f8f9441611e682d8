"""The families of Stable Diffusion as rows of data: noise process, text conditioning, denoiser, and names in files.

What else differs between families is asked of these rows: no other module compares a family by its name, so that
another one is a row here, and code only for what no row can say yet.
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
    prefix: str  # of its keys in a single file
    pad_token: str
    lora_prefix: str  # of its layers in LoRA files
    projected: bool = False  # its pooled, projected output conditions the UNet too (SDXL's second)
    dropped_layers: int = 0  # last layers that are in the file and never run


@dataclass(frozen=True)
class TextConditioning:
    """How prompts become what the denoiser is conditioned on.

    The first encoder's hidden layer is the last but `clip_skip`, 1 being the last; a setting may change that. The
    others always give the one that `clip_skip` says.
    """

    slots: tuple[TextSlot, ...] = ()
    clip_skip: int = 1
    final_norm: bool = True  # the encoder's last layer norm is applied to the hidden layer that is taken
    zeros_for_nothing: bool = False  # an empty negative prompt is zeros


@dataclass(frozen=True)
class Denoiser:
    """The UNet, in what its configuration does not say."""

    heads: int | None  # of attention; None: 64 channels a head
    work: float | None  # multiplications on the same area; SD1's, 0.34e12 for 512 x 512 pixels, are 1. None: unknown
    # Of `Base.activations`, what a step takes at the most with gradient checkpointing
    checkpointed: float
    upcasts_for_v: bool = False  # attention of one that predicts v overflows in fp16
    v_sample_size: int | None = None  # latents a side of one that predicts v, whose own yaml says less


@dataclass(frozen=True)
class KnownAs:
    """What other tools call a model of the family."""

    modelspec: str  # `modelspec.architecture`
    kohya: str | None = None  # `ss_base_model_version`; None: nothing that a LoRA goes with


@dataclass(frozen=True)
class Family:
    name: str
    title: str
    noise: str  # key of `training.noise_processes.NOISE_PROCESSES`
    text: TextConditioning
    denoiser: Denoiser
    scaling_factor: float  # latents are multiplied by it, so that their deviation is about one
    default_resolution: int  # pixels, of the square the base was trained at; `Base.resolution` knows the file's own
    usual_bytes: float | None  # of a 16-bit file of the usual size; None: there is no usual one
    known_as: KnownAs
    known_as_v: KnownAs | None = None  # one that predicts v; None: the same
    implementation: str = "https://github.com/huggingface/diffusers"  # `modelspec.implementation`
    pipeline: str = ""  # diffusers' classes begin with it
    pipeline_index: Mapping[str, Any] = field(default_factory=dict, hash=False)  # further lines of model_index.json
    software: str = ""  # that a yaml describes it to: "ldm" (CompVis') or "sgm" (Stability's)
    names_clip_folder: bool = False  # a yaml can name the CLIP folder that its text encoder is made from
    untold_prediction: bool = False  # files may predict noise or v and not say which; the WebUI runs them to know
    v_mark: bool = False  # a tensor in the file says that it predicts v
    kohya_v2: bool = False  # `ss_v2`
    lora_by_single_file: bool = False  # LoRA files name UNet layers after the single file, not after diffusers

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the parts, as diffusers' folders have them."""
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
PIXELS = Family(  # of models that draw pixels, by themselves: no checkpoint is recognised as one
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
    """The families that can be trained, as messages name them."""
    return [family.title for family in FAMILIES.values()]
