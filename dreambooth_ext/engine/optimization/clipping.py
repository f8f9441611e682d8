"""Clip gradients after the backward pass, by their common norm or each number by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from ...core.config.rates import parse_rate_schedule, value_at
from ...core.config.stages import ResolvedConfig


def limit_at(config: ResolvedConfig, step: int) -> float:
    """Return the gradients' largest norm, or largest number, at this step; 0 if they are not clipped."""
    return max(0.0, value_at(parse_rate_schedule(config.max_grad_norm), step))


def clip(parameters: Iterable[nn.Parameter], limit: float, mode: str) -> Tensor:
    """Clip in place, and return the global norm before it, on its device.

    mode: `clip_grad_mode`; of others than "value" the norm is what is limited.
    """
    parameters, by_value = list(parameters), mode == "value"
    norm = clip_grad_norm_(parameters, math.inf if by_value else limit)
    if by_value:
        clip_grad_value_(parameters, limit)
    return norm
