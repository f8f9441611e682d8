"""What a method hands to an optimizer: parameters with one learning rate."""

from __future__ import annotations

from typing import TypedDict

from torch import nn
from typing_extensions import NotRequired


class ParameterGroup(TypedDict):
    """Parameters that learn at one rate."""

    name: str
    rate: float | str  # a number, or a schedule's text
    params: list[nn.Parameter]
    weight_decay: NotRequired[float]  # where it is not the run's
