"""Step a large weight slice by slice: float32 copies, and what an optimizer computes in between, stay small.

Right for optimizers that treat each number by itself (AdamW, Lion, SGD), also with states in 8 bits, which share a
scale within blocks of 256: slices begin where blocks do. The largest kernel of SDXL has 29 million numbers, which take
0.9 GB if bitsandbytes steps them at once on a CPU, and a tenth of that in slices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..runtime import memory

SLICE = 2**21  # numbers
BLOCK = 256  # numbers that share a scale


def is_long(parameter: nn.Parameter) -> bool:
    """Whether a parameter is worth slices."""
    return parameter.numel() >= 2 * SLICE and parameter.is_contiguous()


def step_in_slices(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, put: Callable[[Tensor, Tensor], None]
) -> None:
    """Step a parameter, the only one of the optimizer's only group. put: writes stepped numbers, float32, into the
    parameter's own, and is called in order."""
    (group,), state = optimizer.param_groups, optimizer.state.pop(parameter, {})
    count, made = parameter.numel(), []
    values, gradients = parameter.data.view(-1), parameter.grad.reshape(-1)
    for start, end in itertools.pairwise([*range(0, count - SLICE + 1, SLICE), count]):
        piece = nn.Parameter(values[start:end].float())
        piece.grad = gradients[start:end].float()
        if state:
            optimizer.state[piece] = {name: cut(value, start, end, count) for name, value in state.items()}
        group["params"] = [piece]
        optimizer.step()
        put(values[start:end], piece.detach())
        made.append(optimizer.state.pop(piece, {}))
    kept = state or {name: joined(name, made, parameter.shape) for name in made[0]}
    optimizer.state[parameter] = kept | {name: value for name, value in made[0].items() if is_common(value)}
    if not state and parameter.device.type == "cpu":
        made.clear()
        memory.trim()  # else the new state lies between what is left of its slices, all through the first step


def is_common(value: Any) -> bool:
    """Whether a part of a state is of the whole parameter, such as the number of its steps."""
    return not isinstance(value, Tensor) or value.dim() == 0


def cut(value: Any, start: int, end: int, count: int) -> Any:
    """Return a slice's share of a part of a state, as a view. count: the parameter's numbers."""
    if is_common(value):
        return value.clone() if isinstance(value, Tensor) else value
    if value.numel() == count:
        return value.view(-1)[start:end]
    return value[start // BLOCK : -(-end // BLOCK)] if value.numel() == -(-count // BLOCK) else value


def joined(name: str, made: list[dict[str, Any]], shape: torch.Size) -> Any:
    """Return what the slices' states say together."""
    values, first = [state[name] for state in made], made[0][name]
    if is_common(first) or all(value is first for value in values):
        return first
    whole = torch.cat(values)
    return whole.view(shape) if whole.numel() == shape.numel() else whole
