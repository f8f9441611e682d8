"""How much of a base a run trains and holds, for the estimates of memory and disk space."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    unet: int  # trained parameters in the UNet
    texts: int  # trained parameters in the text encoders
    frozen: int  # bytes of frozen weights in memory
    model: int  # parameters in a model file
    written_out: int = 0  # bytes that changed weights take in the forward pass; none with gradient checkpointing

    @property
    def learning(self) -> int:
        return self.unet + self.texts
