"""Models with random weights to measure with, and pictures: `python -m benchmarks.bases FOLDER NAME`.

sd1 and sdxl have the published sizes and are written in the published single-file form, in fp16: 2.1 and 6.9 GB.
Weights are drawn one tensor at a time, so that writing takes no more memory than the largest of them.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dreambooth_ext.core.system.files import write_json, write_text
from dreambooth_ext.engine.models.architecture import TOKENIZER, Architecture, shipped, write_clip_folder
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.models.key_maps import folded_shape, ties
from dreambooth_ext.engine.models.ldm_config_writer import to_yaml
from dreambooth_ext.engine.runtime.seeds import generator
from dreambooth_ext.engine.tensors.lazy_tensor import LazyTensor
from dreambooth_ext.engine.tensors.tensor_file import save_tensors

PICTURES = 12
SMALL_VAE = {"block_out_channels": [32, 64, 64, 64], "layers_per_block": 1, "sample_size": 64}
SMALL_UNET: dict[str, dict[str, Any]] = {  # 15 and 20 million parameters
    "sd1": {"block_out_channels": [64, 128, 192, 192], "cross_attention_dim": 64},
    "sdxl": {
        "block_out_channels": [64, 128, 192],
        "transformer_layers_per_block": [1, 1, 4],
        "attention_head_dim": [1, 2, 3],
        "cross_attention_dim": 192,
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 128 + 6 * 32,  # the pooled text, and sizes and crops
    },
}
SMALL_TEXTS = {"sd1": (64,), "sdxl": (64, 128)}  # widths
PIPELINES = {"sd1": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}


def architecture(name: str) -> Architecture:
    """ "sd1", "sdxl": as published; "small-sd1", "small-sdxl": the same build of some million parameters."""
    usual = shipped(name.removeprefix("small-"))
    if not name.startswith("small-"):
        return usual
    family = usual.family.name
    texts = tuple(
        {
            **config,
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": 4,
            "num_attention_heads": width // 64,
            "projection_dim": width,
        }
        for config, width in zip(usual.text_encoders, SMALL_TEXTS[family], strict=True)
    )
    unet = {**usual.unet, "sample_size": 8, "layers_per_block": 1, **SMALL_UNET[family]}
    return Architecture(usual.family, unet, {**usual.vae, **SMALL_VAE}, texts, usual.scheduler)


def make(name: str, folder: Path) -> Path:
    """Write `folder`/<name>.safetensors, with a yaml where its sizes are unusual. Returns its path."""
    parts = architecture(name)
    path = folder / f"{name}.safetensors"
    save_tensors(random_state(parts), path)
    if not parts.standard:
        clip = None
        if parts.family.name == "sd1":
            clip = f"{name}-clip"
            write_clip_folder(parts.text_encoders[0], folder / clip)
        write_text(path.with_suffix(".yaml"), to_yaml(parts, "epsilon", clip=clip))
    return path


def random_state(parts: Architecture) -> dict[str, LazyTensor]:
    """A single file's tensors, drawn when they are written."""
    shapes = {name: shapes_of(module) for name, module in empty_models(parts).items()}
    state = {}
    for component, part in ties(parts).items():
        for tie in part:
            shape = folded_shape(tie, shapes[component][tie.diffusers[0]])
            state[tie.ldm] = LazyTensor(shape, torch.float16, lambda key=tie.ldm, shape=shape: random(key, shape))
    return state


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def empty_models(parts: Architecture) -> dict[str, torch.nn.Module]:
    """Modules without numbers, by component."""
    with init_empty_weights():
        made = {"unet": UNet2DConditionModel.from_config(parts.unet), "vae": AutoencoderKL.from_config(parts.vae)}
        names = parts.family.components[2:]
        for name, slot, config in zip(names, parts.family.text.slots, parts.text_encoders, strict=True):
            kind = CLIPTextModelWithProjection if slot.projected else CLIPTextModel
            made[name] = kind(CLIPTextConfig(**config))
    return made


def random(key: str, shape: tuple[int, ...]) -> Tensor:
    """As PyTorch begins: weights uniform within 1 / sqrt(inputs), norms 1, biases 0; so that nothing overflows."""
    if len(shape) == 1:
        return torch.full(shape, 0.0 if key.endswith("bias") else 1.0, dtype=torch.float16)
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator(0, key)).half()


def write_configs(parts: Architecture, folder: Path) -> Path:
    """The configurations as a pipeline's folder without weights, for diffusers' `from_single_file(config=...)`."""
    index: dict[str, Any] = {"_class_name": PIPELINES[parts.family.name], "_diffusers_version": "0.35.2"}
    index |= {"scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DConditionModel"]}
    index |= {"vae": ["diffusers", "AutoencoderKL"]}
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDPMScheduler", **parts.scheduler})
    write_json(folder / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", **parts.unet})
    write_json(folder / "vae" / "config.json", {"_class_name": "AutoencoderKL", **parts.vae})
    names = parts.family.components[2:]
    for name, slot, config in zip(names, parts.family.text.slots, parts.text_encoders, strict=True):
        kind = "CLIPTextModelWithProjection" if slot.projected else "CLIPTextModel"
        tokenizer = name.replace("text_encoder", "tokenizer")
        index |= {name: ["transformers", kind], tokenizer: ["transformers", "CLIPTokenizer"]}
        write_clip_folder(config, folder / tokenizer, TOKENIZER)
        said = {"architectures": [kind], "model_type": "clip_text_model", **config}
        write_json(folder / name / "config.json", said)
    if parts.family.name == "sd1":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    write_json(folder / "model_index.json", index)
    return folder


def make_pictures(folder: Path) -> None:
    """A dozen JPEG files of 960 x 720: clouds of colour with grain, so that decoding costs what photographs cost."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(PICTURES):
        draws = np.random.default_rng(number)
        clouds = Image.fromarray(draws.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((960, 720), Image.BICUBIC)
        grain = draws.normal(0, 12, (720, 960, 3))
        pixels = (np.asarray(clouds) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"picture ({number + 1}).jpg", quality=92)


def main(argv: list[str]) -> int:
    folder, name = Path(argv[0]), argv[1]
    if not (folder / "pictures").is_dir():
        make_pictures(folder / "pictures")
    path = Path(argv[2]) if len(argv) > 2 else folder / f"{name}.safetensors"
    if not path.exists():
        make(name, folder)
    write_configs(open_base(path).architecture, folder / f"{name}-configs")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
