"""What of a base a run works on, as the estimates of memory and disk need it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    unet: int  # numbers that learn in the UNet
    texts: int  # and in the text encoders
    frozen: int  # bytes of weights in memory that do not learn
    model: int  # numbers in a model that is written
    written_out: int = 0  # bytes of the forward pass that changed weights take, which gradient checkpointing saves

    @property
    def learning(self) -> int:
        return self.unet + self.texts
