"""fp16's loss scale: which steps are skipped because gradients overflow, and when to give up."""

from __future__ import annotations

import math

import torch

MOST_IN_A_ROW = 20  # from torch's first scale, 65536, 17 skipped steps lead below 1


class LossScale:
    """Watches an accelerator's `scaler`, which is None unless training in fp16.

    accelerate's own flag only says whether the optimizer was called; torch's fused optimizers always are, and skip the
    step themselves. What identifies a skipped step is that the scale is lowered.
    """

    def __init__(self, scaler: torch.amp.GradScaler | None):
        self.scaler = scaler
        self.in_a_row = 0  # failed steps in a row
        self._scale = scaler.get_scale() if scaler else 1.0

    def stepped(self, loss: float) -> bool:
        """Return whether the optimizer step changed the weights. Called after each step."""
        if self.scaler is None:
            return True
        before, self._scale = self._scale, self.scaler.get_scale()
        changed = self._scale >= before
        self.in_a_row = 0 if changed and math.isfinite(loss) else self.in_a_row + 1
        return changed

    @property
    def is_of_no_use(self) -> bool:
        """Whether too many steps in a row have failed, or the scale cannot be lowered further."""
        return self.in_a_row >= MOST_IN_A_ROW or (self.in_a_row > 0 and self._scale < 1)
