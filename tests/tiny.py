"""Random models of every family, small enough to be made in each test: a few MB, most of it the real vocabulary.

    path = tiny.single_file(tmp_path)                                # SD1, .safetensors, with its yaml
    path = tiny.single_file(tmp_path, "sd2", prediction_type="v_prediction", container=".ckpt", dtype=torch.float16)
    folder = tiny.diffusers_folder(tmp_path, "sdxl")

Their autoencoders have the usual factor 8 and four channels of latents; pictures of 64 pixels go through.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dreambooth_ext.core.system.files import write_json, write_text
from dreambooth_ext.engine.models.architecture import Architecture, shipped, write_clip_folder
from dreambooth_ext.engine.models.key_maps import to_ldm
from dreambooth_ext.engine.models.ldm_config_writer import to_yaml
from dreambooth_ext.engine.runtime.diffusers_models import AutoencoderKL, UNet2DConditionModel
from dreambooth_ext.engine.tensors.tensor_file import save_tensors

VAE = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1, "sample_size": 64}
UNET: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 16},
    "sd2": {"cross_attention_dim": 32, "attention_head_dim": [1, 1]},
    "sdxl": {
        "cross_attention_dim": 48,
        "attention_head_dim": [1, 1],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2],
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,  # the pooled text, and sizes and crops
    },
}
TEXT_WIDTHS = {"sd1": (16,), "sd2": (32,), "sdxl": (16, 32)}


def architecture(family: str = "sd1", *, inpainting: bool = False, prediction_type: str = "epsilon") -> Architecture:
    usual = shipped(family)
    unet = {
        **usual.unet,
        "sample_size": 8,
        "in_channels": 9 if inpainting else 4,
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        **UNET[family],
    }
    texts = [
        config
        | {
            "hidden_size": width,
            "intermediate_size": 4 * width,  # open_clip, and with it the WebUI, knows no other
            "num_hidden_layers": 3,
            "num_attention_heads": 1,
            "projection_dim": width,
        }
        for config, width in zip(usual.text_encoders, TEXT_WIDTHS[family], strict=True)
    ]
    scheduler = {**usual.scheduler, "prediction_type": prediction_type}
    return Architecture(usual.family, unet, {**usual.vae, **VAE}, tuple(texts), scheduler)


def models(parts: Architecture, seed: int = 0) -> dict[str, torch.nn.Module]:
    """Random modules by component name."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = {"unet": UNet2DConditionModel.from_config(parts.unet), "vae": AutoencoderKL.from_config(parts.vae)}
        names = parts.family.components[2:]
        for name, slot, config in zip(names, parts.family.text.slots, parts.text_encoders, strict=True):
            kind = CLIPTextModelWithProjection if slot.projected else CLIPTextModel
            made[name] = kind(CLIPTextConfig(**config))
    return made


def ldm_state(
    family: str = "sd1", *, inpainting: bool = False, prediction_type: str = "epsilon", seed: int = 0
) -> dict[str, Tensor]:
    """A single file's tensors, with those that real files have and diffusers does not know."""
    parts = architecture(family, inpainting=inpainting, prediction_type=prediction_type)
    states = {name: dict(module.state_dict()) for name, module in models(parts, seed).items()}
    return {**to_ldm(states, parts), **extras(parts, prediction_type)}


def extras(parts: Architecture, prediction_type: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for slot, config in zip(parts.family.text.slots, parts.text_encoders, strict=True):
        if slot.kind == "clip":
            found[slot.prefix + "text_model.embeddings.position_ids"] = torch.arange(77)[None]
        else:
            found[slot.prefix + "logit_scale"] = torch.tensor(4.6)
        if slot.dropped_layers:
            width, last = config["hidden_size"], config["num_hidden_layers"]
            here = f"{slot.prefix}transformer.resblocks.{last}"
            found[f"{slot.prefix}text_projection"] = torch.randn(width, width)
            found |= {f"{here}.attn.in_proj_weight": torch.randn(3 * width, width)}
            found |= {f"{here}.attn.in_proj_bias": torch.randn(3 * width)}
            for layer, shape in {
                "attn.out_proj": (width, width),
                "ln_1": (width,),
                "ln_2": (width,),
                "mlp.c_fc": (4 * width, width),
                "mlp.c_proj": (width, 4 * width),
            }.items():
                found[f"{here}.{layer}.weight"] = torch.randn(shape)
                found[f"{here}.{layer}.bias"] = torch.randn(shape[0])
    if parts.family.name == "sdxl":
        return found | ({"v_pred": torch.tensor([])} if prediction_type == "v_prediction" else {})
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return found | {"betas": betas, "alphas_cumprod": (1 - betas).cumprod(0)}


def single_file(
    folder: Path,
    family: str = "sd1",
    *,
    name: str | None = None,
    dtype: torch.dtype = torch.float32,
    container: str = ".safetensors",
    inpainting: bool = False,
    prediction_type: str = "epsilon",
    sidecar: bool = True,
    ema: bool = False,
    metadata: dict[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """Write `<folder>/<name><container>`, and its yaml (SD1: with the CLIP folder that it names) unless told not to.

    Without the yaml the sizes are inferred, and are the same but for `sample_size`. ema: with `model_ema.` copies.
    """
    state = ldm_state(family, inpainting=inpainting, prediction_type=prediction_type, seed=seed)
    if ema:
        flat = {k: "model_ema." + k.removeprefix("model.").replace(".", "") for k in state if k.startswith("model.")}
        state |= {new: state[old] + 1 for old, new in flat.items()} | {"model_ema.decay": torch.tensor(0.9999)}
    floating = {"betas", "alphas_cumprod"}  # these stay in fp32, as in the published files
    state = {k: v.to(dtype) if v.is_floating_point() and k not in floating else v for k, v in state.items()}
    path = folder / f"{name or f'tiny-{family}'}{container}"
    save_tensors(state, path, metadata)
    if sidecar:
        parts = architecture(family, inpainting=inpainting, prediction_type=prediction_type)
        clip = None
        if family == "sd1":
            clip = f"{path.stem}-clip"
            write_clip_folder(parts.text_encoders[0], folder / clip)
        write_text(path.with_suffix(".yaml"), to_yaml(parts, prediction_type, clip=clip))
    return path


PIXELS: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}


def pixel_config(folder: Path, **changes: Any) -> Path:
    """The configuration of a small UNet2DModel, as diffusers writes it."""
    path = folder / "pixels" / "config.json"
    write_json(path, {"_class_name": "UNet2DModel", **PIXELS, **changes})
    return path


PIPELINES = {"sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}


def diffusers_folder(
    folder: Path,
    family: str = "sd1",
    *,
    name: str | None = None,
    dtype: torch.dtype = torch.float32,
    inpainting: bool = False,
    prediction_type: str = "epsilon",
    variant: str = "",
    seed: int = 0,
) -> Path:
    """Write a pipeline's folder `<folder>/<name>`; variant "fp16" names the weight files so."""
    parts = architecture(family, inpainting=inpainting, prediction_type=prediction_type)
    root = folder / (name or f"tiny-{family}-diffusers")
    index: dict[str, Any] = {"_class_name": PIPELINES[family], "scheduler": ["diffusers", "DDPMScheduler"]}
    configs = dict(zip(parts.family.components, (parts.unet, parts.vae, *parts.text_encoders), strict=True))
    for component, module in models(parts, seed).items():
        library = "transformers" if component.startswith("text") else "diffusers"
        index[component] = [library, type(module).__name__]
        write_json(root / component / "config.json", {"_class_name": type(module).__name__, **configs[component]})
        stem = "model" if component.startswith("text") else "diffusion_pytorch_model"
        file = root / component / f"{stem}{f'.{variant}' if variant else ''}.safetensors"
        state = {key: value.to(dtype).contiguous() for key, value in module.state_dict().items()}
        save_file(state, file, metadata={"format": "pt"})
    write_json(root / "scheduler" / "scheduler_config.json", {"_class_name": "DDPMScheduler", **parts.scheduler})
    (root / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    return root
