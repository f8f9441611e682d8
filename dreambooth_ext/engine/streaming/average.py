"""The moving average of the weights: on a card's run it lives in the computer's memory, and visits in portions.

Each portion comes, is averaged on the card by the same operations as one that stays there, and goes home, all beside
the next step's forward pass. Only when weights are about to change does the computation wait for what still reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..runtime.diffusers_models import EMAModel
from .lanes import Lane, Lanes, lanes_of
from .packing import Packing, memory_beside

PORTION = 4 * 2**20  # numbers that visit together
PLACES = 3  # of portions: one arrives, one is averaged, one goes home
# Bytes on the card: of each place the averages, and weights that visit too; and two differences of one portion
CARD_BYTES = PORTION * (PLACES * (4 + 4) + 2 * 4)


def is_apart(device: torch.device) -> bool:
    """Whether the average of a run on this device lives in the computer's memory, which is not the device's."""
    return device.type == "cuda"


def make_average(
    parameters: Sequence[nn.Parameter], device: torch.device, sources: Sequence[Lane], options: dict[str, Any]
) -> EMAModel:
    """Return the moving average of parameters, in float32: in bfloat16 it would not move. sources: lanes that bring
    parameters home which do not live on the device. options: diffusers' EMAModel's."""
    if is_apart(device):
        return AverageInMemory(parameters, device, lanes_of(device), sources, **options)
    average = EMAModel(parameters, **options)
    average.to(device, torch.float32)
    return average


@dataclass(frozen=True)
class Slice:
    """A part of a parameter: its index, and numbers from `start` on as they lie in memory."""

    index: int
    start: int
    count: int


@dataclass(eq=False)
class Portion:
    """What visits together: slices, and the bytes of the average's memory in which they lie."""

    slices: list[Slice]
    begin: int
    end: int


@dataclass(eq=False)
class Place:
    averages: Tensor  # uint8
    weights: list[Tensor] = field(default_factory=list)  # of those that visit too; kept until they are read
    busy: Any = None  # mark behind which it can be overwritten


class AverageInMemory(EMAModel):
    """diffusers' moving average with its numbers in the computer's memory, and the same numbers."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        device: torch.device,
        lanes: Lanes,
        sources: Sequence[Lane] = (),
        portion: int = PORTION,
        **options: Any,
    ):
        super().__init__([], **options)
        parameters = list(parameters)
        self.device, self.lanes, self._sources = device, lanes, sources
        packing = Packing([torch.empty_like(p, dtype=torch.float32, device="meta") for p in parameters])
        self._memory = memory_beside(device, packing.bytes)
        self.shadow_params = packing.pieces(self._memory)
        for shadow, parameter in zip(self.shadow_params, parameters, strict=True):
            shadow.copy_(parameter.detach())
        self._portions = portions(packing, portion)
        size = max((part.end - part.begin for part in self._portions), default=0)
        self._places = [Place(torch.empty(size, dtype=torch.uint8, device=device)) for _ in range(PLACES)]
        self._starts = [place.start for place in packing.places]
        self._read: list[Any] = []  # marks behind which the weights of the last step are read

    @torch.no_grad()
    def step(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the weights as they are now."""
        self.optimization_step += 1
        decay = self.cur_decay_value = self.get_decay(self.optimization_step)
        known, lanes = list(parameters), self.lanes
        now = lanes.compute.mark()
        for mark in (now, *(source.mark() for source in self._sources)):
            lanes.inbound.wait(mark)
        lanes.beside.wait(now)
        for number, portion in enumerate(self._portions):
            place = self._places[number % PLACES]
            lanes.inbound.wait(place.busy)
            averages = place.averages[: portion.end - portion.begin]
            lanes.inbound.copy(averages, self._memory[portion.begin : portion.end])
            weights = self._weights(portion, place, known)
            lanes.beside.wait(lanes.inbound.mark())
            with lanes.beside.active():
                self._average(portion, averages, weights, known, 1 - decay)
            lanes.outbound.wait(lanes.beside.mark())
            lanes.outbound.copy(self._memory[portion.begin : portion.end], averages)
            place.busy = lanes.outbound.mark()
        self._read = [lanes.inbound.mark(), lanes.beside.mark()]

    def hold(self) -> None:
        """Let the computation wait until the weights of the last step are read, before it changes them."""
        for mark in self._read:
            self.lanes.compute.wait(mark)
        self._read.clear()

    def settle(self) -> None:
        """Block until the average is whole in the computer's memory."""
        self.lanes.outbound.settle()

    def _weights(self, portion: Portion, place: Place, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """Return the weights of a portion's slices on the device; those that live elsewhere visit it, too."""
        found: list[Tensor] = []
        place.weights.clear()
        for part in portion.slices:
            weight = flat(parameters[part.index].detach())[part.start : part.start + part.count]
            if self.is_away(parameters[part.index]):
                with self.lanes.inbound.active():
                    visiting = torch.empty_like(weight, device=self.device)
                self.lanes.inbound.copy(visiting, weight)
                place.weights.append(visiting)
                weight = visiting
            found.append(weight)
        return found

    def is_away(self, parameter: nn.Parameter) -> bool:
        return parameter.device.type != self.device.type

    def _average(
        self,
        portion: Portion,
        averages: Tensor,
        weights: list[Tensor],
        parameters: Sequence[nn.Parameter],
        share: float,
    ) -> None:
        """Move a portion's averages towards the weights, by `share` of the difference, as EMAModel does."""
        shown: list[tuple[Tensor, Tensor]] = []
        for part, weight in zip(portion.slices, weights, strict=True):
            begin = self._starts[part.index] + 4 * part.start - portion.begin
            average = averages[begin : begin + 4 * part.count].view(torch.float32)
            if parameters[part.index].requires_grad:
                shown.append((average, weight))
            else:
                average.copy_(weight)
        if shown:
            these, those = map(list, zip(*shown, strict=True))
            differences = torch._foreach_sub(these, those)
            torch._foreach_mul_(differences, share)
            torch._foreach_sub_(these, differences)

    def state_dict(self) -> dict[str, Any]:
        self.settle()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.settle()
        numbers = state_dict.get("shadow_params")
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "shadow_params"})
        for shadow, number in zip(self.shadow_params, numbers or (), strict=True):
            shadow.copy_(number)

    def copy_to(self, parameters: Iterable[nn.Parameter]) -> None:
        self.settle()
        super().copy_to(parameters)

    def to(self, device: Any = None, dtype: Any = None, non_blocking: bool = False) -> None:
        """It stays where it lives."""


def portions(packing: Packing, most: int) -> list[Portion]:
    """Divide packed tensors into portions of at most `most` numbers and little more bytes than those take."""
    found: list[Portion] = []
    room = 0
    for index, place in enumerate(packing.places):
        numbers, start = place.length // 4, 0
        while start < numbers:
            begin = place.start + 4 * start
            if not room:
                found.append(Portion([], begin, begin))
                room = most
            count = min(room, numbers - start)
            found[-1].slices.append(Slice(index, start, count))
            found[-1].end = begin + 4 * count
            room, start = room - count, start + count
    return found


def flat(tensor: Tensor) -> Tensor:
    """Return a tensor's numbers as they lie in memory, which they fill without gaps. Shares the storage."""
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
