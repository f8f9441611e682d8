"""A worker's events (output) and commands (input), as JSON in the run's folder.

Events are lines of events.jsonl, numbered from 1 without gaps. Each command is a small file of its own, so that any
number of hosts can send them at once and the worker takes each exactly once, in order of arrival.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from ..messages.message import Message
from ..system import files

PROTOCOL = 1
PATIENCE = 3.0  # seconds for the lock of a run's events
EVENT_TYPES = (
    *("status", "step", "validation", "measurement", "sample", "checkpoint"),
    *("artifact", "published", "unpublished", "uploaded", "warning", "error"),
)
COMMANDS = ("stop", "stop_and_save", "save", "sample")

STOPPED_EARLY = ("stopped", "failed")
ENDED = ("done", *STOPPED_EARLY)
STATUSES = ("queued", "preparing", "training", "saving", *ENDED)
NEEDED: dict[str, dict[str, Any]] = {  # without which an event of this type says nothing
    "artifact": {"kind": str, "name": str, "file": str, "step": int, "final": bool},
    "published": {"name": str, "step": int},
    "unpublished": {"name": str},
    "uploaded": {"name": str, "address": str},
    "validation": {"step": int, "loss": (int, float)},
    "measurement": {"step": int, "learned": dict},
}


class EventLog:
    """Appends numbered events to a file, from several processes (the host does so when it publishes).

    If one of them hangs while it holds the lock, the others postpone their events: each is a file in a separate folder,
    and the next holder of the lock numbers and appends them.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = path.with_name(path.name + ".lock")
        self._late = path.with_name(path.name + ".late")

    def append(self, type: str, **data: Any) -> dict[str, Any]:
        """Append an event and return it; its number is 0 if it was postponed."""
        assert type in EVENT_TYPES, type
        if not self.path.parent.is_dir():  # deleted by hand: it is not to come back half made
            raise FileNotFoundError(errno.ENOENT, Message("runs.folder_deleted"), str(self.path.parent))
        event = {"time": round(time.time(), 3), "type": type, **data}
        try:
            with files.locked(self._lock, 0.1 if self.put_off() else PATIENCE):
                self._bring_in()
                number = self._write(event)
        except files.Held:
            number = 0
            self._delay(event)
        self.catch_up()  # with what somebody put off whom this lock kept waiting, or with this one
        return {"n": number, **event}

    def catch_up(self) -> None:
        """Append postponed events if the lock is free."""
        if self.put_off():
            with contextlib.suppress(files.Held), files.locked(self._lock, 0):
                self._bring_in()

    def put_off(self) -> list[Path]:
        """The files of postponed events, oldest first."""
        return sorted(self._late.glob("[0-9]*.json"))

    def _delay(self, event: dict[str, Any]) -> None:
        self._late.mkdir(exist_ok=True)
        name = f"{time.time_ns():020}-{os.getpid()}-{threading.get_ident()}.json"
        with files.replacing(self._late / name, parents=False) as temporary:
            temporary.write_bytes(_line(event))

    def _bring_in(self) -> None:
        for path in self.put_off():
            event = _object(path.read_bytes())
            last = self._last()
            last.pop("n", None)
            if event and event != last:  # else a kill came between the two
                self._write(event)
            files.patiently(path.unlink)

    def _write(self, event: dict[str, Any]) -> int:
        number = self._last().get("n", 0) + 1
        with self.path.open("ab") as stream:
            stream.write(_line({"n": number, **event}))
        return number

    def read(self, after: int = 0) -> list[dict[str, Any]]:
        """The events with a number above `after`, in order."""
        return [event for event in self._lines() if event["n"] > after]

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            for line in stream:
                event = _parsed(line)
                if is_event(event):
                    yield event

    def _last(self) -> dict[str, Any]:
        """The last complete event, or {}; a line that a crash cut short is ended first."""
        try:
            with self.path.open("rb+") as stream:
                end, last, reach = stream.seek(0, os.SEEK_END), None, 4096
                while last is None and end:
                    stream.seek(max(0, end - reach))
                    tail = stream.read(reach)
                    events = (event for line in reversed(tail.splitlines()) if (event := _parsed(line)))
                    last = next(events, {} if reach >= end else None)
                    reach *= 8
                if end and not tail.endswith(b"\n"):
                    stream.seek(end)
                    stream.write(b"\n")
                return last or {}
        except FileNotFoundError:
            return {}


class EventReader:
    """Reads each event of a log once, without rereading old ones."""

    def __init__(self, path: Path, from_end: bool = False):
        self.path = path
        self._offset = path.stat().st_size if from_end and path.exists() else 0

    def new(self) -> list[dict[str, Any]]:
        """The complete events since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            lines = stream.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        self._offset += sum(map(len, whole))
        return [event for line in whole if is_event(event := _parsed(line))]


def is_event(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a value is a well-formed event; a line may be damaged, or from another version."""
    if not isinstance(value, dict) or not isinstance(value.get("n"), int) or not isinstance(value.get("type"), str):
        return False
    return all(isinstance(value.get(key), kind) for key, kind in NEEDED.get(value["type"], {}).items())


def wants(wished: Mapping[str, Any], artifact: Mapping[str, Any]) -> bool:
    """Whether a model is to be published, according to host.json's content: only the last one, with which the run ends
    or the user stops it, or every one."""
    every = wished.get("intermediate") is True or wished.get("select") == "every"
    return wished.get("publish") is True and (every or artifact["final"] or artifact.get("stops") is True)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line's event if it has a number; None for a line that was cut short."""
    event = _object(line)
    return event if event and isinstance(event.get("n"), int) else None


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _line(event: dict[str, Any]) -> bytes:
    """An event as one line of UTF-8. File names may hold bytes that are not text: hence "replace"."""
    return json.dumps(event, ensure_ascii=False).encode(errors="replace") + b"\n"


def give_command(folder: Path, command: str) -> None:
    """Leave a command for the worker in this run's `commands/` folder."""
    assert command in COMMANDS, command
    stamp = time.time_ns()
    while (path := folder / f"{stamp}-{os.getpid()}.json").exists():  # Windows' clock ticks slowly
        stamp += 1
    files.write_json(path, {"command": command})


def take_commands(folder: Path) -> list[str]:
    """Take all waiting commands, oldest first."""
    taken = []
    for path in sorted(folder.glob("[0-9]*.json")):
        try:
            given = files.read_json(path)
        except ValueError:
            given = None  # not by `give_command`
        files.patiently(partial(path.unlink, missing_ok=True))
        command = given.get("command") if isinstance(given, dict) else None
        if command in COMMANDS:
            taken.append(command)
    return taken
