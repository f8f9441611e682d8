"""What is measured: each case is one piece of work that both trainers do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    name: str
    base: str  # of bases.py
    resolution: int
    batch: int = 1
    text_encoder: bool = False  # trained along with the UNet, all the while
    optimizer: str = "adamw"
    precision: str = "no"
    checkpointing: bool = False
    bf16_weights: bool = False  # rounded at random, and stepped within the backward pass: the plain loop has neither
    frees: bool = False  # ours steps within the backward pass, clipping by the norm of the step before
    device: str = "cpu"
    steps: int = 4
    warm_up: int = 1  # steps whose times do not count
    memory: float = 1.0  # GB (10^9 bytes) of the device's memory without which the case is not tried
    seconds: float = 0.0  # of each trainer on a card of 2020, so that all cases of a card fit into `LONGEST`
    compiled: bool = False  # ours with torch.compile
    offload: bool = False  # all blocks of ours live in the computer's memory
    alone: bool = False  # only ours
    plain_cached: bool = False  # also measure a plain loop that, as ours does, encodes pictures and prompts once

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def work(self) -> str:
        """The case in words."""
        parts = "UNet + text encoder" if self.text_encoder else "UNet"
        checkpointing = ", checkpointing" if self.checkpointing else ""
        precision = {"no": "fp32"}.get(self.precision, self.precision) + (" weights" if self.bf16_weights else "")
        ways = {", gradients freed": self.frees, ", compiled": self.compiled, ", offload": self.offload}
        how = checkpointing + "".join(way for way, is_taken in ways.items() if is_taken)
        return f"{parts}, {self.resolution}px, batch {self.batch}, {self.optimizer}, {precision}{how}"


LONGEST = 480.0  # seconds for all cases of a card together
CARD = {"device": "cuda", "optimizer": "adamw8bit", "precision": "bf16", "checkpointing": True}
CARD |= {"steps": 30, "warm_up": 5}

CASES = (
    Case("demo", "demo", 64, batch=8, text_encoder=True, steps=60, warm_up=10),
    Case("small-sd1", "small-sd1", 64, batch=4, steps=60, warm_up=10, plain_cached=True),
    Case("small-sdxl", "small-sdxl", 64, batch=4, steps=60, warm_up=10),
    # AdamW in fp32 takes 16 bytes a parameter: 13.8 GB for SD 1.5's UNet, 15.7 GB with its text encoder.
    Case("sd1-256", "sd1", 256, memory=16.5),
    Case("sd1-256-freed", "sd1", 256, memory=16.5, frees=True),
    Case("sd1-512", "sd1", 512, memory=20),
    Case("sd1-512-text", "sd1", 512, text_encoder=True, checkpointing=True, memory=18.5),
    # SDXL's UNet takes 10.3 GB, its gradients as much again; SGD has no state. AdamW would need 41 GB.
    Case("sdxl-256", "sdxl", 256, optimizer="sgd", checkpointing=True, memory=22.3),
    # Weights and AdamW's states in 8 bits take 10.3 GB.
    Case(
        "sdxl-256-bf16",
        "sdxl",
        256,
        optimizer="adamw8bit",
        precision="bf16",
        checkpointing=True,
        bf16_weights=True,
        steps=3,
        memory=12.5,
    ),
    Case("gpu-sd1-512-text", "sd1", 512, text_encoder=True, memory=8, seconds=40, **CARD),
    Case("gpu-sd1-512-text-batch-4", "sd1", 512, batch=4, text_encoder=True, memory=12, seconds=50, alone=True, **CARD),
    Case("gpu-sd1-512", "sd1", 512, memory=8, alone=True, seconds=35, **CARD),
    Case("gpu-sd1-512-compiled", "sd1", 512, memory=8, alone=True, compiled=True, seconds=90, **CARD),
    Case("gpu-sdxl-1024", "sdxl", 1024, memory=30, seconds=80, **{**CARD, "steps": 20}),
    Case(
        "gpu-sdxl-1024-offload",
        "sdxl",
        1024,
        memory=6,
        bf16_weights=True,
        offload=True,
        seconds=60,
        **{**CARD, "steps": 12, "warm_up": 3},
    ),
)
