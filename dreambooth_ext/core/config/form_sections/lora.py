"""What a LoRA changes, and how much it can hold."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.lora_types import LORA_TYPES, USUAL, explained
from ...facts.setting import setting

LORA = {"methods": ("lora",), "group": "LoRA"}
NETWORK_TARGETS = ("attention", "feed_forward", "convolutions")


@dataclass(frozen=True)
class LoRA:
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
        "How much the LoRA can hold, and how large its file is: 8 to 32 for subjects, 32 to 128 for styles. For oft "
        "the largest size of a block. Left out: 16.",
        minimum=1,
        maximum=1024,
        **LORA,
    )
    alpha: float | None = setting(
        None,
        "Alpha",
        "The change is multiplied by alpha / rank; parts with ranks of their own keep this proportion. Left out: as "
        "the rank.",
        minimum=1e-3,
        maximum=4096,
        **LORA,
    )
    text_encoder_rank: int | None = setting(
        None, "Text encoder's rank", "Left out: as the rank.", minimum=1, maximum=1024, **LORA
    )
    conv_rank: int | None = setting(
        None, "Convolutions' rank", "Of 3x3 convolutions. Left out: as the rank.", minimum=1, maximum=1024, **LORA
    )
    target_modules: list = setting(
        [],
        "Layers",
        "Which layers learn: attention, feed_forward, convolutions. Left out: the first two, and convolutions for "
        "locon.",
        **LORA,
    )
    block_ranks: dict = setting(
        {},
        "Ranks of blocks",
        'Single blocks, by diffusers\' names, with ranks of their own; 0 leaves one out: {"down_blocks.0": 0, '
        '"mid_block": 8, "up_blocks.1.attentions.0": 32}. "unet" and "text_encoder" mean all of them.',
        **LORA,
    )
    network_dropout: float = setting(
        0.0,
        "Dropout",
        "Share of what the LoRA's layers see that is hidden from them at each step; 0.1 works against overtraining.",
        minimum=0,
        maximum=0.9,
        **LORA,
    )
    use_rslora: bool = setting(
        False,
        "Rank-stabilised scaling",
        "Multiply by alpha / sqrt(rank) instead, so that high ranks learn as fast as low ones.",
        **LORA,
    )
    loraplus_lr_ratio: float = setting(
        1.0,
        "LoRA+ ratio",
        "How many times faster the second (up) matrix learns than the first; 16 is the paper's, 1 is off.",
        minimum=1,
        maximum=1000,
        **LORA,
    )
    lokr_factor: int = setting(
        -1,
        "LoKr factor",
        "Largest size of LoKr's smaller matrix; -1 is as large as the other.",
        minimum=-1,
        maximum=1024,
        **LORA,
    )
    network_weights: str | None = setting(
        None,
        "Continue a LoRA",
        "A LoRA file to go on from, of this program or another; type, ranks and layers are then the file's.",
        kind="path",
        lists="lora",
        **LORA,
    )
