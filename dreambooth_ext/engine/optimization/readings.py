"""Read a step's loss and the norm of its gradients from the card, in one transfer, and where possible a step late.

To read a number is to wait for all that the card has been given: it then stands idle until the next step has begun. So
the numbers of a step are sent when it ends, and looked at while the card computes the next one. Until then nobody knows
whether they are finite. `Guard` lets the card itself decide: PyTorch's fused optimizers leave out a step whose
`found_inf` is 1, as fp16's loss scale has it. It stays 1 for all further steps, so that the weights remain those before
the first step whose numbers are not finite, until the loop has read so and ends the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.config.stages import ResolvedConfig


def is_late(config: ResolvedConfig, processes: int) -> bool:
    """Whether numbers are read a step late. Not by several processes, which exchange them, nor with fp16's loss scale
    and a moving average, which have to know whether a step was taken, nor where some of the weights are stepped in the
    computer's memory, in which the guard's answer would come too late."""
    on_card = config.device.startswith("cuda") and config.offload == "off"
    return on_card and processes == 1 and config.mixed_precision != "fp16" and not config.use_ema


class Reading:
    """The losses of a step's batches, and the norm of its gradients, on their way from the device."""

    def __init__(self, losses: Sequence[Tensor], micros: int, norm: Tensor | None = None, is_square: bool = False):
        """losses: one for each batch, scalars; micros: micro-steps that they are the mean of; is_square: `norm` is its
        square."""
        self.micros, self.has_norm, self.is_square = micros, norm is not None, is_square
        numbers = torch.stack([number.detach().float() for number in (*losses, *([] if norm is None else [norm]))])
        self._event: Any = None
        self._sent = numbers
        self._known: tuple[float, float | None] | None = None
        if numbers.device.type == "cuda":
            self._sent = torch.empty(numbers.shape, pin_memory=True)
            self._sent.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> tuple[float, float | None]:
        """Return the step's loss and norm. Waits for what the device was given before them, not for anything later."""
        if self._known is None:
            if self._event:
                self._event.synchronize()
            numbers = self._sent.tolist()
            norm = numbers.pop() if self.has_norm else None
            if norm is not None and self.is_square:
                norm = math.sqrt(norm)
            self._known = (sum(loss / self.micros for loss in numbers), norm)
        return self._known

    def average(self, mean: Callable[[float], float]) -> None:
        """Replace the loss by its `mean` over all processes."""
        loss, norm = self.read()
        self._known = (mean(loss), norm)


class Guard:
    """Keeps a fused optimizer from stepping once numbers were not finite."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer
        self._found: Tensor | None = None

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Guard | None:
        """Return a guard of this optimizer; None if it cannot be kept from stepping."""
        return cls(optimizer) if getattr(optimizer, "_step_supports_amp_scaling", False) else None

    def watch(self, numbers: Sequence[Tensor]) -> None:
        """Leave out this step and all further ones if one of these scalars is not finite."""
        found = (~torch.stack([number.detach().float() for number in numbers]).isfinite()).any().float()
        self._found = found if self._found is None else torch.maximum(self._found, found)
        self.optimizer.found_inf = self._found
