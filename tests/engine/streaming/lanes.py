"""Lanes that stand for a card's: some work as late as they may, others note who could be at work at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dreambooth_ext.engine.streaming.lanes import AtOnce, Lanes


class Late:
    """A lane that does nothing before somebody waits for it, as a slow one might: what was used too early, or
    overwritten too early, shows in the numbers."""

    def __init__(self) -> None:
        self._left: list[Callable[[], None]] = []
        self._done = 0

    def mark(self) -> Callable[[], None]:
        until = self._done + len(self._left)
        return lambda: self._run(until)

    def wait(self, mark: Callable[[], None] | None) -> None:
        if mark:
            self._left.append(mark)

    def copy(self, target: Tensor, source: Tensor) -> None:
        target, source = target.detach(), source.detach()
        self._left.append(lambda: self._copy(target, source))

    def _copy(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source)

    def active(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def settle(self) -> None:
        self._run(self._done + len(self._left))

    def _run(self, until: int) -> None:
        while self._done < until:
            work = self._left.pop(0)
            self._done += 1
            work()


class Now(AtOnce):
    """A lane that works at once: what it waits for is done then."""

    def wait(self, mark: Callable[[], None] | None) -> None:  # type: ignore[override]
        if mark:
            mark()

    def copy(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source)


def late_lanes() -> Lanes:
    return Lanes(Now(), Late(), Late(), Now())


# --- who could be at work at once


@dataclass
class Access:
    """One lane's use of memory. clock: how far this lane knows each of the others to be."""

    lane: str
    what: str
    begin: int
    end: int
    writes: bool
    clock: dict[str, int]

    def is_before(self, other: Access) -> bool:
        return other.clock.get(self.lane, 0) >= self.clock[self.lane]

    def conflicts(self, other: Access) -> bool:
        overlap = self.begin < other.end and other.begin < self.end
        return overlap and (self.writes or other.writes) and self.lane != other.lane


@dataclass
class Log:
    accesses: list[Access] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)  # so that no address is used again

    def races(self) -> list[tuple[Access, Access]]:
        """Pairs of which none is known to be done before the other begins."""
        copies = [access for access in self.accesses if access.lane != "compute"]
        return [
            (one, other)
            for one in copies
            for other in self.accesses
            if one.conflicts(other) and not one.is_before(other) and not other.is_before(one)
        ]


class Noted:
    """A lane that works at once, and notes what it uses and what it waited for. deaf: it forgets to wait."""

    def __init__(self, name: str, log: Log, deaf: bool = False):
        self.name, self.log, self.deaf = name, log, deaf
        self.clock = {name: 0}

    def mark(self) -> dict[str, int]:
        return dict(self.clock)

    def wait(self, mark: dict[str, int] | None) -> None:
        for name, count in (mark or {}).items() if not self.deaf else ():
            self.clock[name] = max(self.clock.get(name, 0), count)

    def copy(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source)
        self.uses("copy", source)
        self.uses("copy", target, writes=True)

    def uses(self, what: str, tensor: Tensor, writes: bool = False) -> None:
        self.clock[self.name] += 1
        begin = tensor.data_ptr()
        end = begin + tensor.numel() * tensor.element_size()
        self.log.accesses.append(Access(self.name, what, begin, end, writes, dict(self.clock)))
        self.log.kept.append(tensor.detach())

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        yield

    def settle(self) -> None:
        """The program itself waits, and with it all that it asks for later."""


def noted_lanes(log: Log, deaf: str = "") -> Lanes:
    return Lanes(*(Noted(name, log, name == deaf) for name in ("compute", "inbound", "outbound", "beside")))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
