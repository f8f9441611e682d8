"""Assembles the demo's base model: `python -m dreambooth_ext.demo.assemble --vae vae.safetensors --out DIR`.

DIR gets demo-base.safetensors (SD 1's architecture in small: the trained autoencoder, and a random UNet and text
encoder with CLIP's real vocabulary, or with --trained those of a checkpoint, then in fp16), demo-base.yaml, and
demo-base-clip/, the CLIP folder that the yaml names. The name is relative: the engine finds it beside the yaml, and
writes it out in full for what it exports, since the WebUI looks from its own working directory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from ..core.system.files import write_text
from ..engine.models.architecture import Architecture, shipped, write_clip_folder
from ..engine.models.base_model import open_base
from ..engine.models.key_maps import to_ldm
from ..engine.models.ldm_config_writer import to_yaml
from ..engine.runtime.diffusers_models import UNet2DConditionModel
from ..engine.tensors.tensor_file import save_tensors
from . import world
from .train_vae import CONFIG as VAE

NAME = "demo-base"
# Pictures of 64 pixels are latents of 8x8: three levels down to 2x2, text looked at on each. As in all of SD 1,
# widths are multiples of the first and of 32 (norms of 32 groups), and attention has 8 heads.
UNET = {
    "sample_size": world.SIZE // 8,
    "block_out_channels": [64, 128, 128],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3,
    "cross_attention_dim": 64,
}
TEXT = {  # 49408 tokens of width 64 are most of its 3.4 million parameters
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "projection_dim": 64,
}


def architecture() -> Architecture:
    """The architecture of the demo base's parts."""
    usual = shipped("sd1")
    text = {**usual.text_encoders[0], **TEXT}
    return Architecture(usual.family, {**usual.unet, **UNET}, {**usual.vae, **VAE}, (text,), usual.scheduler)


def random_parts(seed: int) -> dict[str, dict[str, Tensor]]:
    """An untrained UNet and text encoder, by diffusers' names."""
    parts = architecture()
    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_config(parts.unet)
    text = CLIPTextModel(CLIPTextConfig(**parts.text_encoders[0]))
    return {"unet": unet.state_dict(), "text_encoder": text.state_dict()}


def trained_parts(checkpoint: Path) -> dict[str, dict[str, Tensor]]:
    """The UNet and text encoder of a checkpoint, by diffusers' names."""
    base = open_base(checkpoint)
    return {"unet": base.unet().state_dict(), "text_encoder": base.text_encoders()[0].state_dict()}


def write_base(vae: Path, folder: Path, seed: int = 0, trained: Path | None = None) -> Path:
    """Write the base with its yaml and CLIP folder, and return the checkpoint's path. fp32, or fp16 if `trained`."""
    parts = architecture()
    others = trained_parts(trained) if trained else random_parts(seed)
    dtype = torch.float16 if trained else torch.float32
    state = to_ldm({"vae": load_file(vae), **others}, parts)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.safetensors"
    save_tensors({key: tensor.to(dtype).contiguous() for key, tensor in state.items()}, path)
    write_clip_folder(parts.text_encoders[0], folder / f"{NAME}-clip")
    write_text(path.with_suffix(".yaml"), to_yaml(parts, "epsilon", clip=f"{NAME}-clip"))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vae", type=Path, required=True, help="what train_vae wrote")
    parser.add_argument("--trained", type=Path, help="take UNet and text encoder from this checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(write_base(options.vae, options.out, options.seed, options.trained))


if __name__ == "__main__":
    main()
