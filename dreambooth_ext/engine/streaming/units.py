"""Which parts of a UNet live in the computer's memory: its units, their order, and the share that leaves the card.

A unit is what visits the card as a whole: a residual block, a transformer block, or a change of resolution. These have
between a hundred thousand and fifty million weights, and hold all but 1 % of SDXL's UNet, 3 % of SD 1.5's. The rest,
the first and last convolution, the timestep's embedding, projections and norms around transformer blocks, stays on the
card.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import nn

from ..models.base_model import LatentBase
from ..models.key_maps import ties

UNIT = re.compile(
    r"(?P<side>down|mid|up)_blocks?\.((?P<level>\d+)\.)?"
    r"(resnets\.(?P<resnet>\d+)|attentions\.(?P<attention>\d+)\.transformer_blocks\.(?P<depth>\d+)"
    r"|(?P<sampler>(down|up)samplers)\.0)(?=\.|$)"
)
SIDES = ("down", "mid", "up")
LAST = 1000  # more than a level has blocks
# Places on the card for units that visit it: one computes while the next arrives; one that learns also has to go home.
PLACES, PLACES_OF_LEARNING = 2, 3


def unit_of(name: str) -> str | None:
    """Return the unit of a parameter or module by its name in the UNet, None for what stays."""
    found = UNIT.match(name)
    return found[0] if found else None


def order(unit: str) -> tuple[int, ...]:
    """Return a key by which units are sorted as they compute in the forward pass."""
    found = UNIT.fullmatch(unit)
    assert found, f"{unit} is no unit"
    side, level = SIDES.index(found["side"]), int(found["level"] or 0)
    if found["sampler"]:
        return side, level, LAST, 0, 0
    if found["resnet"]:
        return side, level, int(found["resnet"]), 0, 0
    return side, level, int(found["attention"]), 1, int(found["depth"])


def sizes(numbers: Mapping[str, int]) -> dict[str, int]:
    """Return the number of weights of each unit, in the order in which they compute. numbers: by parameter name."""
    found: dict[str, int] = {}
    for name, count in numbers.items():
        if unit := unit_of(name):
            found[unit] = found.get(unit, 0) + count
    return {unit: found[unit] for unit in sorted(found, key=order)}


def chosen(numbers: Mapping[str, int], share: float) -> list[str]:
    """Return the units that live outside the card, `share` of all their weights, spread evenly: so that while each
    arrives, units that stay compute."""
    owed, found = 0.0, []
    for unit, size in sizes(numbers).items():
        owed += share * size
        if owed >= size / 2 and share:
            found.append(unit)
            owed -= size
    return found


def numbers_of(unet: nn.Module) -> dict[str, int]:
    """Return how many numbers each of a UNet's tensors has: parameters, and what packed weights are held in."""
    return {name: tensor.numel() for name, tensor in (*unet.named_parameters(), *unet.named_buffers())}


def unet_numbers(base: LatentBase) -> dict[str, int]:
    """Return the same for a base's UNet, by its file's header alone."""
    stored = base.ldm_tensors("unet")
    return {
        name: math.prod(stored[tie.ldm].shape) // len(tie.diffusers)
        for tie in ties(base.architecture)["unet"]
        if tie.ldm in stored
        for name in tie.diffusers
    }


def numbers_on_card(numbers: Mapping[str, int], share: float, learns: bool) -> int:
    """Return how many of a UNet's weights are on the card at once if `share` of them lives outside.

    Times the bytes of a weight, that is the memory of its weights; times those of the optimizer's state of a weight,
    the memory of the states, which visit with them. Of gradients, only `largest_unit` weights' are there at once, if
    the weights learn (the optimizer steps in the backward pass).
    """
    known, outside = sizes(numbers), chosen(numbers, share)
    places = PLACES_OF_LEARNING if learns else PLACES
    visiting = places * max((known[unit] for unit in outside), default=0)
    return sum(numbers.values()) - sum(known[unit] for unit in outside) + visiting


def largest_unit(numbers: Mapping[str, int]) -> int:
    """Return the number of weights of the largest unit."""
    return max(sizes(numbers).values(), default=0)


def outside_bytes(numbers: Mapping[str, int], share: float, each: float) -> int:
    """Return the bytes of the computer's memory that `share` takes, locked there. each: of a weight and its state."""
    known = sizes(numbers)
    return int(each * sum(known[unit] for unit in chosen(numbers, share)))
