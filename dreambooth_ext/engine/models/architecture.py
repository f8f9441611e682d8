"""The architecture of a model: diffusers' configurations of its parts, and the bundled ones of each family."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.messages.message import Message
from ...core.system.files import replacing, write_json
from .families import FAMILIES, Family

SHIPPED = Path(__file__).parent / "configs"  # <family>.json, and clip/ with the tokenizer's vocabulary
TOKENIZER = SHIPPED / "clip"

PART_TITLES = {
    "unet": "kind.part_unet",
    "vae": "kind.part_vae",
    "text_encoder": "kind.part_text_encoder",
    "text_encoder_2": "kind.part_text_encoder_2",
}


def part_title(component: str) -> str:
    """Return a component's name for messages."""
    return Message(PART_TITLES[component]) if component in PART_TITLES else component


@dataclass(frozen=True)
class Architecture:
    """The configurations of a model's parts, for diffusers' and transformers' `from_config`."""

    family: Family
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoders: tuple[dict[str, Any], ...]
    scheduler: dict[str, Any]  # of DDPMScheduler; its prediction_type is only a default, `Base.prediction_type` decides

    @property
    def inpainting(self) -> bool:
        return self.unet["in_channels"] == 9  # 4 noisy latents, 1 mask, 4 latents of the masked picture

    @property
    def standard(self) -> bool:
        """Whether the WebUI can load a model of these sizes without a yaml file beside it."""
        usual = shipped(self.family.name)
        return (
            {**size_of_unet(self.unet), "in_channels": 4} == size_of_unet(usual.unet)
            and self.unet["in_channels"] in (4, 9)
            and size_of_vae(self.vae) == size_of_vae(usual.vae)
            and [size_of_text(c) for c in self.text_encoders] == [size_of_text(c) for c in usual.text_encoders]
            and all(self.scheduler[k] == usual.scheduler[k] for k in ("beta_start", "beta_end", "num_train_timesteps"))
        )


def shipped(family: str) -> Architecture:
    """Return the full-size architecture of a family, from the bundled configuration."""
    parts = json.loads((SHIPPED / f"{family}.json").read_text(encoding="utf-8"))
    return Architecture(
        family=FAMILIES[family],
        unet=parts["unet"],
        vae=parts["vae"],
        text_encoders=tuple(parts["text_encoders"]),
        scheduler=parts["scheduler"],
    )


def per_level(value: int | Sequence[int], levels: int) -> list[int]:
    """Return one value per UNet level of a setting that may be given once for all."""
    return [value] * levels if isinstance(value, int) else list(value)


def size_of_unet(config: dict[str, Any]) -> dict[str, Any]:
    """Return everything in a UNet's configuration that determines its tensors and their use, in a form to compare."""
    levels = len(config["block_out_channels"])
    attention = [kind.startswith("CrossAttn") for kind in config["down_block_types"]]
    depths = per_level(config.get("transformer_layers_per_block", 1), levels)
    return {
        "in_channels": config["in_channels"],
        "channels": list(config["block_out_channels"]),
        "layers": per_level(config["layers_per_block"], levels),
        "depths": [d for d, used in zip(depths, attention, strict=True) if used] + [depths[-1]],
        "attention": attention,
        "heads": per_level(config["attention_head_dim"], levels),
        "linear": bool(config.get("use_linear_projection")),
        "context": config["cross_attention_dim"],
        "vector": config.get("projection_class_embeddings_input_dim"),
    }


def size_of_vae(config: dict[str, Any]) -> list[Any]:
    keys = ("in_channels", "out_channels", "latent_channels", "layers_per_block", "scaling_factor")
    return [list(config["block_out_channels"]), *(config[key] for key in keys)]


def size_of_text(config: dict[str, Any]) -> list[Any]:
    keys = "vocab_size max_position_embeddings hidden_size intermediate_size num_hidden_layers num_attention_heads"
    return [config[key] for key in [*keys.split(), "hidden_act"]]


def write_clip_folder(config: dict[str, Any], folder: Path, tokenizer: Path = TOKENIZER) -> None:
    """Write a CLIP folder that a yaml can refer to: the WebUI builds SD1's text encoder and tokenizer from it."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "torch_dtype": "float32", **config}
    write_json(folder / "config.json", said)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": config["max_position_embeddings"]}
    write_json(folder / "tokenizer_config.json", settings | {"pad_token": "<|endoftext|>"})
    for name in ("vocab.json", "merges.txt"):
        with replacing(folder / name) as temporary:
            shutil.copyfile(tokenizer / name, temporary)
