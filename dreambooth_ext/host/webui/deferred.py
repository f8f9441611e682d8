"""Postpones work until the WebUI's models are back on the device, and runs what is possible while they are away."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

POLL = 0.05  # seconds between tries to get the lock


class QueueLock(Protocol):
    """The WebUI's lock for all drawing and loading of models. It is not reentrant."""

    def acquire(self, blocking: bool = True) -> bool: ...
    def release(self) -> None: ...


class Later:
    """A list of postponed work. `away` is set by whoever moves the models, under `lock`; postponed work runs under it,
    too.

    Nothing here waits for the lock without checking `away`: training may hold it for hours.
    """

    def __init__(self, lock: QueueLock, report: Callable[[str], contextlib.AbstractContextManager[None]]):
        self.lock = lock
        self.report = report  # a context manager that tells errors, and what was being done, and goes on
        self.away = False
        self._chores: dict[str, Callable[[], Any]] = {}
        self._mutex = threading.Lock()

    def put_off(self, name: str, chore: Callable[[], Any]) -> None:
        """Postpone work until `catch_up`, replacing earlier work of that name. The work takes the lock itself."""
        with self._mutex:
            self._chores[name] = chore

    def catch_up(self) -> None:
        """Do the postponed work, unless the models are away again. Never raises."""
        while not self.away:
            with self._mutex:
                name = next(iter(self._chores), None)
                if name is None:
                    return
                chore = self._chores.pop(name)
            with self.report(f"catching up with {name} after a training"):
                chore()

    def when_back(self, name: str, chore: Callable[[], Any]) -> bool:
        """Run `chore` under the lock: now, or once the models are back if they are away (returns False then)."""
        while not self.away:
            if self.lock.acquire(blocking=False):
                try:
                    if not self.away:
                        chore()
                        return True
                finally:
                    self.lock.release()
            time.sleep(POLL)
        self.put_off(name, functools.partial(self.when_back, name, chore))
        return False

    def when_idle(self, chore: Callable[[], Any]) -> None:
        """Run `chore`, which needs no device, without disturbing drawing: under the lock, or while the models are
        away."""
        while not self.lock.acquire(blocking=False):
            if self.away:
                chore()
                return
            time.sleep(POLL)
        try:
            chore()
        finally:
            self.lock.release()
