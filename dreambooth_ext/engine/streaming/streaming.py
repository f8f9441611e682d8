"""Streaming: UNet units visit the card in the forward pass and again in the backward pass, in which they learn.

In the forward pass a unit arrives before it computes, while the unit before it still does. In the backward pass it
arrives when the gradient of its output is there, again fetched during the unit before, which is the next one in the
forward pass. A checkpoint computes it again within this second visit. The optimizer steps while it is there
(`FusedBackward`), and then weights and states go home. Frozen units have no way home: their place is used again.

The numbers are those of a run without it: the same operations see the same values.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import units
from .lanes import Lanes, lanes_of
from .visits import Unit, Visits


class Streaming:
    """The visits of a UNet's units. share: of their weights, how much lives in the computer's memory.

    The UNet must be as it trains: frozen or not, with gradient checkpointing on or off, adapters attached. What does
    not leave the card is moved there.
    """

    def __init__(self, unet: nn.Module, share: float, device: torch.device, lanes: Lanes | None = None):
        self.device, self.lanes = device, lanes or lanes_of(device)
        outside = units.chosen(units.numbers_of(unet), share)
        self.units = [Unit(name, unet.get_submodule(name), device) for name in outside]
        theirs = {id(tensor) for unit in self.units for tensor in unit.tensors}
        for tensor in (*unet.parameters(), *unet.buffers()):
            if id(tensor) not in theirs:
                tensor.data = tensor.data.to(device)
        self.learns = any(unit.learns for unit in self.units)
        places = units.PLACES_OF_LEARNING if self.learns else units.PLACES
        self.visits = Visits(self.units, min(places, len(self.units)), device, self.lanes)
        self._checkpointing = False
        self._back: list[Unit] = []  # in the backward pass now
        self._has_callback = False
        for index, unit in enumerate(self.units):
            unit.module.forward = functools.partial(self._forward, index, unit.module.forward)
        unet.register_forward_pre_hook(self._begin)
        if getattr(unet, "is_gradient_checkpointing", False):
            unet.enable_gradient_checkpointing(self._checkpointed)

    def carry(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimizer's states of the units live with them, also those of a training state."""
        self.visits.carry(optimizer)

    def settle(self) -> None:
        """Block until the weights and states at home are whole, before anything but a pass reads or changes them."""
        self.visits.settle()

    def _begin(self, *_: Any) -> None:
        """Before each forward pass: weights may have been changed at home, by averages or another training state."""
        self.visits.forget()
        self._back.clear()
        self._has_callback = False

    def _forward(self, index: int, compute: Callable[..., Tensor], *arguments: Any, **named: Any) -> Tensor:
        unit = self.units[index]
        if unit.is_going_back:  # a checkpoint computes it again
            return compute(*arguments, **named)
        self.visits.arrive(unit)
        self._fetch(index + 1)
        try:
            with self._saving(unit):
                output = compute(*arguments, **named)
        finally:
            self.visits.leave(unit)
        if torch.is_grad_enabled() and output.requires_grad:
            output.register_hook(lambda gradient: self._go_back(index))
            seen = arguments[0] if arguments else named["hidden_states"]
            if seen.requires_grad:
                seen.register_hook(lambda gradient: self._come_home(unit))
        return output

    def _fetch(self, index: int, states: bool = False) -> None:
        if 0 <= index < len(self.units):
            self.visits.fetch(self.units[index], states)

    def _go_back(self, index: int) -> None:
        """The gradient of a unit's output is complete: it is this unit's turn in the backward pass."""
        if not self._has_callback:
            self._has_callback = True
            torch.autograd.Variable._execution_engine.queue_callback(self._end)
        for other in list(self._back):  # its input needed no gradient that would have told
            self._come_home(other)
        unit = self.units[index]
        self.visits.arrive(unit, states=True)
        unit.is_going_back = True
        self._back.append(unit)
        self._fetch(index - 1, states=True)

    def _come_home(self, unit: Unit) -> None:
        """All gradients of a unit are complete.

        autograd takes the ready operation that was recorded last, so that all of a unit come before the one that made
        its input.
        """
        if not unit.is_going_back:
            return
        unit.is_going_back = False
        self._back.remove(unit)
        if unit.learns:
            self.visits.come_home(unit)
        else:
            self.visits.leave(unit)

    def _end(self) -> None:
        """The backward pass is over."""
        for unit in list(self._back):
            self._come_home(unit)
        self._has_callback = False

    def _checkpointed(self, module: nn.Module, *arguments: Any) -> Any:
        """Compute a module as diffusers does with gradient checkpointing, and note that it is."""
        self._checkpointing = True
        try:
            return checkpoint(module.__call__, *arguments, use_reentrant=False)
        finally:
            self._checkpointing = False

    def _saving(self, unit: Unit) -> contextlib.AbstractContextManager[Any]:
        """Where the forward pass saves a view of a weight for the backward pass, save its place in the unit instead:
        by then the unit is on its second visit, and another one's weights may be where they were.

        A checkpoint saves nothing of the first visit, and what it saves of the second is used within it.
        """
        if self._checkpointing or not torch.is_grad_enabled():
            return contextlib.nullcontext()
        assert unit.place
        address = unit.place.memory.untyped_storage().data_ptr()

        def pack(tensor: Tensor) -> Any:
            if tensor.numel() and tensor.untyped_storage().data_ptr() == address:
                return tensor.dtype, tensor.storage_offset(), tensor.size(), tensor.stride()
            return tensor

        def unpack(packed: Any) -> Tensor:
            if isinstance(packed, Tensor):
                return packed
            dtype, offset, size, stride = packed
            assert unit.is_going_back and unit.place, "its weights are on the card"
            memory = unit.place.memory
            return torch.empty(0, dtype=dtype, device=memory.device).set_(
                memory.untyped_storage(), offset, size, stride
            )

        return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def place(accelerator: Accelerator, unet: nn.Module, share: float, is_there: bool = False) -> list[Streaming]:
    """Set up mixed precision for a UNet, and move it to its device unless it is there; if a `share` of it is to live
    outside, all else of it. Returns its streaming, if there is one."""
    found = [Streaming(unet, share, accelerator.device)] if share else []
    accelerator.prepare_model(unet, device_placement=not found and not is_there, evaluation_mode=True)
    return found
