"""Copies that go on in threads of their own, with progress, and can be stopped: then nothing of them is left."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.config.parsing import shown
from ...core.errors import Problem, UserError
from ...core.messages.message import reason_of
from ..errors import Refusal
from . import copying
from .copying import Ask, Tell
from .uploads import PictureSets

MOST = 3  # at once
KEPT = 20  # that are over
SOON = 0.5  # seconds within which small copies are done, so that one answer tells all
RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"


class Stopped(Exception):
    """Somebody stopped the copy."""


@dataclass
class Copy:
    """One copy. done, total: files; result: as the functions of `copying` return it."""

    id: str = field(default_factory=lambda: secrets.token_hex(6))
    state: str = RUNNING
    done: int = 0
    total: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    problem: Problem | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def tell(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if self.stopping.is_set():
            raise Stopped

    def status(self) -> dict[str, Any]:
        """{"id", "state", "done", "total", "problem", and of one that is done "set", "folder", "count"}"""
        about = {"id": self.id, "state": self.state, "done": self.done, "total": self.total}
        return {**about, "problem": self.problem and self.problem.as_dict(), **self.result}


class CopyJobs:
    """Copies of sets and folders; every method may be called from any thread.

    ask: of the picture worker, which converts what training does not read.
    """

    def __init__(self, sets: PictureSets, ask: Ask):
        self.sets, self.ask = sets, ask
        self._changing = threading.Lock()
        self._copies: dict[str, Copy] = {}

    def start(self, folder: Path, name: str = "") -> dict[str, Any]:
        """Begin to copy the set called `name`, or else the folder; answers as `show`, a moment later."""
        sets, ask = self.sets, self.ask
        one = Copy()
        with self._changing:
            over = [copy for copy in self._copies.values() if copy.state != RUNNING]
            if len(self._copies) - len(over) >= MOST:
                raise Refusal(409, "upload.many_copies", "set", most=MOST)
            for old in over[:-KEPT]:
                del self._copies[old.id]
            self._copies[one.id] = one

        def work(tell: Tell) -> dict[str, Any]:
            return copying.copy_set(sets, name, tell) if name else copying.copy_folder(sets, folder, ask, tell)

        threading.Thread(target=_run, args=(one, work), name="dreambooth copy", daemon=True).start()
        one.ended.wait(SOON)
        return one.status()

    def show(self, id: str) -> dict[str, Any]:
        return self._find(id).status()

    def stop(self, id: str) -> None:
        """Stop a copy, and delete what there is of it; returns when that is done. One that is over stays."""
        one = self._find(id)
        one.stopping.set()
        one.ended.wait(10)

    def close(self) -> None:
        for one in list(self._copies.values()):
            one.stopping.set()
        for one in list(self._copies.values()):
            one.ended.wait(10)

    def _find(self, id: str) -> Copy:
        if id not in self._copies:
            raise Refusal(404, "upload.no_copy", "id", id=shown(id))
        return self._copies[id]


def _run(one: Copy, work: Callable[[Tell], dict[str, Any]]) -> None:
    try:
        one.result = work(one.tell)
        one.state = DONE
    except Stopped:
        one.state = STOPPED
    except UserError as error:
        one.problem, one.state = error.problem, FAILED
    except OSError as error:
        one.problem, one.state = Problem("upload.not_copied", "folder", error=reason_of(error)), FAILED
    except Exception as error:  # a mistake of ours, whose traceback Python prints
        what = f"{type(error).__name__}: {error}"
        one.problem, one.state = Problem("upload.not_copied", "folder", error=what), FAILED
        raise
    finally:
        one.ended.set()
