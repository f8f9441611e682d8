"""Settings of device, precision and memory."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED
from ...facts.setting import setting


@dataclass(frozen=True)
class MachineSettings:
    device: str = setting("auto", "Device", "auto, cuda, cuda:1, mps or cpu.", group="Machine")
    mixed_precision: str = setting(
        "auto",
        "Mixed precision",
        "'auto' is bf16 on cards that support it, fp16 on other NVIDIA cards, and no on a CPU.",
        group="Machine",
        choices=("auto", "no", "fp16", "bf16"),
    )
    gradient_checkpointing: bool | None = setting(
        None,
        "Gradient checkpointing",
        "Needs much less memory and about a fifth more time. Default: on for graphics cards, off on a CPU.",
        group="Machine",
    )
    attention: str = setting(
        "auto",
        "Attention",
        "'auto' is PyTorch's own fast attention (sdpa).",
        group="Machine",
        choices=("auto", "sdpa", "xformers", "eager"),
        **PROMPTED,
    )
