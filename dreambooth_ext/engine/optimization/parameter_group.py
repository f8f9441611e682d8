"""What a method passes to the optimizer: parameters with a common learning rate."""

from __future__ import annotations

from typing import TypedDict

from torch import nn
from typing_extensions import NotRequired


class ParameterGroup(TypedDict):
    """Parameters with a common learning rate."""

    name: str
    rate: float | str  # a number, or a schedule's text
    params: list[nn.Parameter]
    weight_decay: NotRequired[float]  # if other than the run's
