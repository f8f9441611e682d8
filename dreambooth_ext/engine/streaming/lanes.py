"""Queues of work that run beside each other: the card computes while copies come and go.

On a CPU there is nothing beside the computation: the same calls do everything at once, in the order in which they are
made, so that the code around them is one and the same.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Lane(Protocol):
    """One queue. What is put into it is done in this order; between lanes, only marks give an order."""

    def mark(self) -> Any:
        """Return a mark behind all that has been put into the lane so far."""

    def wait(self, mark: Any) -> None:
        """Let what follows in this lane wait for a mark of another one; None waits for nothing. Never blocks Python."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Put a copy into the lane."""

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Put all that is computed inside the `with` block into the lane."""

    def settle(self) -> None:
        """Block until all that has been put into the lane is done."""


class AtOnce:
    """The only lane of a CPU."""

    def mark(self) -> None:
        return None

    def wait(self, mark: None) -> None:
        pass

    def copy(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source)

    def active(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def settle(self) -> None:
        pass


class CardLane:
    """A stream of a card. stream: None for the one in which the models compute."""

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None = None):
        self.device, self._own = device, stream

    @property
    def _stream(self) -> torch.cuda.Stream:
        return self._own or torch.cuda.current_stream(self.device)

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record(self._stream)
        return event

    def wait(self, mark: torch.cuda.Event | None) -> None:
        if mark is not None:
            self._stream.wait_event(mark)

    def copy(self, target: Tensor, source: Tensor) -> None:
        with self.active():
            target.copy_(source, non_blocking=True)

    def active(self) -> contextlib.AbstractContextManager[Any]:
        return torch.cuda.stream(self._own) if self._own else contextlib.nullcontext()

    def settle(self) -> None:
        self._stream.synchronize()


@dataclass(frozen=True)
class Lanes:
    """compute: where the models compute; inbound, outbound: copies to and from the card, for which it has an engine
    each; beside: small computations that need not wait for the models'."""

    compute: Lane
    inbound: Lane
    outbound: Lane
    beside: Lane


def lanes_of(device: torch.device) -> Lanes:
    if device.type != "cuda":
        return Lanes(*[AtOnce()] * 4)
    inbound, outbound, beside = (CardLane(device, torch.cuda.Stream(device)) for _ in range(3))
    return Lanes(CardLane(device), inbound, outbound, beside)
