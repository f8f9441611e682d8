"""Clip gradients after the backward pass, by their common norm or each number by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from ...core.config.rates import parse_rate_schedule, value_at
from ...core.config.stages import ResolvedConfig


def limit_at(config: ResolvedConfig, step: int) -> float:
    """Return the gradients' largest norm, or largest number, at this step; 0 if they are not clipped."""
    return max(0.0, value_at(parse_rate_schedule(config.max_grad_norm), step))


def clip(
    parameters: Iterable[nn.Parameter], limit: float, mode: str, common: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Clip in place, and return the global norm before it, on its device.

    mode: `clip_grad_mode`; of others than "value" the norm is what is limited. common: makes the norm of all processes'
    gradients of that of this one's, where each has a part of them.
    """
    parameters, by_value = list(parameters), mode == "value"
    if common:
        norm = common(clip_grad_norm_(parameters, math.inf))
        if not by_value:
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    else:
        norm = clip_grad_norm_(parameters, math.inf if by_value else limit)
    if by_value:
        clip_grad_value_(parameters, limit)
    return norm
