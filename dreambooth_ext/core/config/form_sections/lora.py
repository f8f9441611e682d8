"""Settings of a LoRA: its type, rank, alpha and layers."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.lora_types import LORA_TYPES, USUAL, explained
from ...facts.setting import setting

LORA = {"methods": ("lora",), "group": "LoRA"}
NETWORK_TARGETS = ("attention", "feed_forward", "convolutions")


@dataclass(frozen=True)
class LoRASettings:
    network_type: str = setting(
        USUAL,
        "Type of LoRA",
        explained(),
        choices=tuple(LORA_TYPES),
        **LORA,
    )
    rank: int | None = setting(
        None,
        "Rank",
        "How much the LoRA can hold, and how large its file is: 8 to 32 for subjects, 32 to 128 for styles. For oft, "
        "the maximum size of a block. Default: 16.",
        minimum=1,
        maximum=1024,
        **LORA,
    )
    alpha: float | None = setting(
        None,
        "Alpha",
        "The LoRA's changes are multiplied by alpha / rank; parts with their own rank keep this ratio. Default: the "
        "same as the rank.",
        minimum=1e-3,
        maximum=4096,
        **LORA,
    )
    text_encoder_rank: int | None = setting(
        None,
        "Text encoder rank",
        "Rank of the text encoder's layers. Default: the same as the rank.",
        minimum=1,
        maximum=1024,
        **LORA,
    )
    conv_rank: int | None = setting(
        None,
        "Convolution rank",
        "Rank of 3x3 convolutions. Default: the same as the rank.",
        minimum=1,
        maximum=1024,
        **LORA,
    )
    target_modules: list = setting(
        [],
        "Layers",
        "Which layers to train: attention, feed_forward, convolutions. Default: the first two, and convolutions for "
        "locon.",
        **LORA,
    )
    block_ranks: dict = setting(
        {},
        "Block ranks",
        'Ranks of single blocks, by their names in diffusers; 0 leaves a block out: {"down_blocks.0": 0, "mid_block": '
        '8, "up_blocks.1.attentions.0": 32}. "unet" and "text_encoder" stand for all of their blocks.',
        **LORA,
    )
    network_dropout: float = setting(
        0.0,
        "Dropout",
        "Share of its input that each LoRA layer ignores in each step; 0.1 reduces overfitting.",
        minimum=0,
        maximum=0.9,
        **LORA,
    )
    use_rslora: bool = setting(
        False,
        "Rank-stabilised scaling",
        "Multiply by alpha / sqrt(rank) instead of alpha / rank, so that high ranks learn as fast as low ones.",
        **LORA,
    )
    loraplus_lr_ratio: float = setting(
        1.0,
        "LoRA+ ratio",
        "How many times higher the learning rate of the second (up) matrix is than that of the first; 16 in the "
        "paper, 1 is off.",
        minimum=1,
        maximum=1000,
        **LORA,
    )
    lokr_factor: int = setting(
        -1,
        "LoKr factor",
        "Maximum size of LoKr's smaller matrix; -1 makes it as large as the other.",
        minimum=-1,
        maximum=1024,
        **LORA,
    )
    network_weights: str | None = setting(
        None,
        "Continue a LoRA",
        "A LoRA file to continue, from this or another program. Its type, ranks and layers are kept.",
        kind="path",
        lists="lora",
        **LORA,
    )
