"""Units that live in the computer's memory, and the places on the card that they visit.

One copy brings all weights of a unit, another one the optimizer's states of them; both run beside the computation. A
place is used again as soon as what was computed or copied from it is done, which only the card's queues wait for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import UserError
from .lanes import Lanes
from .packing import Packing, memory_beside

Key = tuple[int, str]  # of a state: the parameter's index in its unit, and the optimizer's name


class States:
    """The optimizer's numbers of a unit's weights, packed. Single numbers are none of them: they stay where they are.

    tensors: by key, wherever they are now; they are copied.
    """

    def __init__(self, tensors: dict[Key, Tensor], device: torch.device):
        self.keys = list(tensors)
        self.packing = Packing(list(tensors.values()))
        self.memory = memory_beside(device, self.packing.bytes)
        self.at_home = self.packing.pieces(self.memory)
        for piece, tensor in zip(self.at_home, tensors.values(), strict=True):
            piece.copy_(tensor)

    def fit(self, tensors: dict[Key, Tensor]) -> bool:
        return list(tensors) == self.keys and self.packing.fits(list(tensors.values()))


@dataclass(eq=False)
class Unit:
    """A part of the UNet with its home in the computer's memory. Outside visits its tensors are there."""

    name: str
    module: nn.Module
    device: torch.device  # that it visits
    place: Place | None = None  # that has its weights, or gets them
    fresh: Any = None  # mark behind which its home is complete
    is_going_back: bool = False  # in the backward pass
    states: States | None = None

    def __post_init__(self) -> None:
        self.parameters = list(self.module.parameters())
        self.tensors: list[Tensor] = [*self.parameters, *self.module.buffers()]
        self.learns = any(parameter.requires_grad for parameter in self.parameters)
        self.packing = Packing(self.tensors)
        self.memory = memory_beside(self.device, self.packing.bytes)
        self.at_home = self.packing.pieces(self.memory)
        for piece, tensor in zip(self.at_home, self.tensors, strict=True):
            piece.copy_(tensor.data)
        self.show(self.at_home)

    def show(self, shown: Sequence[Tensor]) -> None:
        """Make these the unit's weights. Gradients that are not used yet follow them."""
        for tensor, now in zip(self.tensors, shown, strict=True):
            gradient, tensor.grad = tensor.grad, None
            tensor.data = now
            if gradient is not None:
                tensor.grad = gradient.to(now.device)


@dataclass(eq=False)
class Place:
    """Memory on the card for one unit at a time."""

    memory: Tensor  # uint8
    states: Tensor | None = None  # uint8
    unit: Unit | None = None  # whose weights it has
    has_states: bool = False
    is_used: bool = False  # the unit computes
    ready: Any = None  # mark behind which the copies into it are done
    busy: list[Any] = field(default_factory=list)  # marks behind which it can be overwritten
    turn: int = 0  # when it was used last
    _views: dict[Unit, list[Tensor]] = field(default_factory=dict)
    _state_views: dict[States, list[Tensor]] = field(default_factory=dict)

    def views(self, unit: Unit) -> list[Tensor]:
        """Return the unit's tensors in this place."""
        if unit not in self._views:
            self._views[unit] = unit.packing.views(self.memory)
        return self._views[unit]

    def state_views(self, states: States) -> list[Tensor]:
        """Return the states in this place, which has memory for them."""
        assert self.states is not None
        if states not in self._state_views:
            self._state_views[states] = states.packing.views(self.states)
        return self._state_views[states]

    def hold_states(self, memory: Tensor) -> None:
        self.states = memory
        self._state_views.clear()

    def free(self) -> None:
        """Forget whose weights it has."""
        if self.unit:
            self.unit.place = None
        self.unit, self.has_states = None, False


class Visits:
    """Brings units to places on the card and home again.

    Only the marks of the lanes order what happens on the card; nothing here waits for it, except where a unit's states
    are made: in a run's first step.
    """

    def __init__(self, units: Sequence[Unit], places: int, device: torch.device, lanes: Lanes):
        self.units, self.device, self.lanes = list(units), device, lanes
        size = max((unit.packing.bytes for unit in self.units), default=0)
        self.places = [Place(torch.empty(size, dtype=torch.uint8, device=device)) for _ in range(places)]
        self.optimizer: torch.optim.Optimizer | None = None
        self._turn = 0

    def fetch(self, unit: Unit, states: bool = False) -> None:
        """Begin to bring a unit, with its states if told to, unless it is there or no place is free."""
        place, inbound = unit.place or self._free_place(), self.lanes.inbound
        states = states and unit.states is not None
        if place is None or (place.unit is unit and (place.has_states or not states)):
            return
        for mark in (*place.busy, unit.fresh):
            inbound.wait(mark)
        place.busy.clear()
        if place.unit is not unit:
            place.free()
            place.unit, unit.place = unit, place
            inbound.copy(place.memory[: unit.packing.bytes], unit.memory)
        if states and unit.states:
            inbound.copy(self._memory_of_states(place)[: unit.states.packing.bytes], unit.states.memory)
            place.has_states = True
        place.ready = inbound.mark()
        self._touch(place)

    def arrive(self, unit: Unit, states: bool = False) -> None:
        """Let the unit compute on the card."""
        self.fetch(unit, states)
        place = unit.place
        assert place, "units leave before others come"
        self.lanes.compute.wait(place.ready)
        place.is_used = True
        unit.show(place.views(unit))
        if place.has_states and unit.states:
            self._show_states(unit, place.state_views(unit.states))

    def leave(self, unit: Unit) -> None:
        """End a visit that changed nothing."""
        place = unit.place
        assert place
        unit.show(unit.at_home)
        place.is_used = False
        place.busy.append(self.lanes.compute.mark())
        self._touch(place)

    def come_home(self, unit: Unit) -> None:
        """End a visit in which the unit may have learned."""
        place, outbound = unit.place, self.lanes.outbound
        assert place
        has_states = self._gather_states(unit, place)
        outbound.wait(self.lanes.compute.mark())
        outbound.copy(unit.memory, place.memory[: unit.packing.bytes])
        if has_states and unit.states and place.states is not None:
            outbound.copy(unit.states.memory, place.states[: unit.states.packing.bytes])
        unit.fresh = outbound.mark()
        place.busy.append(unit.fresh)
        unit.show(unit.at_home)
        if unit.states:
            self._show_states(unit, unit.states.at_home)
        place.is_used = place.has_states = False
        self._touch(place)

    def forget(self) -> None:
        """Take home what an error left on the card, and trust no copy there: weights may be changed at home."""
        for place in self.places:
            unit = place.unit
            if unit and place.is_used:
                unit.show(unit.at_home)
                if unit.states:
                    self._show_states(unit, unit.states.at_home)
                place.is_used, unit.is_going_back = False, False
                place.busy.append(self.lanes.compute.mark())
            place.free()

    def settle(self) -> None:
        """Block until all units are at home, whole, and nothing reads them any more."""
        self.lanes.inbound.settle()
        self.lanes.outbound.settle()
        self.forget()

    def carry(self, optimizer: torch.optim.Optimizer) -> None:
        """Take over the states that the optimizer has so far. From now on they visit with their units."""
        self.optimizer = optimizer
        for unit in self.units:
            if not unit.learns:
                continue
            if tensors := dict(self._states_of(unit)):
                unit.states = States(tensors, self.device)
                self._show_states(unit, unit.states.at_home)
            for group in optimizer.param_groups:
                if group.get("fused") or group.get("capturable"):  # they count their steps on the card
                    self._place_counters(unit)
                    break

    def _place_counters(self, unit: Unit) -> None:
        assert self.optimizer
        for parameter in unit.parameters:
            values = self.optimizer.state.get(parameter, {})
            for name, value in values.items():
                if isinstance(value, Tensor) and not value.dim():
                    values[name] = value.to(self.device)

    def _states_of(self, unit: Unit) -> Iterator[tuple[Key, Tensor]]:
        """Yield the states that travel. Raises UserError if the optimizer keeps some in a form that cannot."""
        if not self.optimizer:
            return
        for index, parameter in enumerate(unit.parameters):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, dict | list | tuple) or (isinstance(value, Tensor) and type(value) is not Tensor):
                    kind = type(self.optimizer).__name__
                    raise UserError("training.offload_state", "offload", optimizer=kind, state=name)
                if isinstance(value, Tensor) and value.dim():
                    yield (index, name), value

    def _show_states(self, unit: Unit, shown: Sequence[Tensor]) -> None:
        assert self.optimizer and unit.states
        for (index, name), tensor in zip(unit.states.keys, shown, strict=True):
            self.optimizer.state[unit.parameters[index]][name] = tensor

    def _gather_states(self, unit: Unit, place: Place) -> bool:
        """Put the unit's states into its place, from where they go home. Returns whether there are any to copy: states
        that are new, or have another form, are home at once."""
        tensors = dict(self._states_of(unit))
        if not tensors:
            return False
        if not (place.has_states and unit.states and unit.states.fit(tensors)):
            unit.states = States(tensors, self.device)
            return False
        for view, tensor in zip(place.state_views(unit.states), tensors.values(), strict=True):
            if tensor.data_ptr() != view.data_ptr():  # the optimizer put another one in its place
                view.copy_(tensor)
        return True

    def _memory_of_states(self, place: Place) -> Tensor:
        """Return a place's memory for states, large enough for any unit's."""
        size = max(unit.states.packing.bytes for unit in self.units if unit.states)
        if place.states is None or len(place.states) < size:
            self.lanes.outbound.settle()  # the old one may still be read
            place.hold_states(torch.empty(size, dtype=torch.uint8, device=self.device))
        assert place.states is not None
        return place.states

    def _free_place(self) -> Place | None:
        free = [place for place in self.places if not place.is_used]
        return min(free, key=lambda place: place.turn, default=None)

    def _touch(self, place: Place) -> None:
        self._turn += 1
        place.turn = self._turn
