"""Reads long event logs and log texts page by page, and remembers where each page began in order to find the next
one."""

from __future__ import annotations

import bisect
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.runs.events import is_event

PAGE = 5000  # events in an answer
MARK_EVERY = 500  # events between remembered places
RUNS = 200  # logs whose places are remembered
TEXT_PAGE = 256 * 1024  # bytes of a log's text in an answer


@dataclass
class _Places:
    """Known places in a log: the event after number `numbers[i]` begins at `offsets[i]`; both lists rise."""

    numbers: list[int] = field(default_factory=lambda: [0])
    offsets: list[int] = field(default_factory=lambda: [0])

    def before(self, number: int) -> tuple[int, int]:
        """(number, offset) of the last known place before all events above `number`."""
        index = bisect.bisect_right(self.numbers, number) - 1
        return self.numbers[index], self.offsets[index]

    def remember(self, number: int, offset: int) -> None:
        index = bisect.bisect_left(self.numbers, number)
        if index == len(self.numbers) or self.numbers[index] != number:
            self.numbers.insert(index, number)
            self.offsets.insert(index, offset)


class EventPages:
    """Reads pages of many runs' `events.jsonl`; thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, _Places] = OrderedDict()
        self._lock = threading.Lock()

    def page(self, path: Path, after: int = 0, limit: int = PAGE) -> tuple[list[dict[str, Any]], bool]:
        """The first `limit` events with a number above `after`, and whether there are more now."""
        with self._lock:
            places = self._known.setdefault(path, _Places())
            self._known.move_to_end(path)
            while len(self._known) > RUNS:
                self._known.popitem(last=False)
            try:
                found = _read(path, places, after, limit)
                if found is None:  # not the file that it was: a run of the same name in place of a deleted one
                    places = self._known[path] = _Places()
                    found = _read(path, places, after, limit) or ([], False)
            except FileNotFoundError:
                return [], False
        return found

    def forget(self, path: Path) -> None:
        with self._lock:
            self._known.pop(path, None)


def _read(path: Path, places: _Places, after: int, limit: int) -> tuple[list[dict[str, Any]], bool] | None:
    """A page of events, as `EventPages.page`; None if the remembered place does not fit this file."""
    passed, offset = places.before(after)
    events: list[dict[str, Any]] = []
    marked = passed
    with path.open("rb") as stream:
        if stream.seek(0, 2) < offset:
            return None
        stream.seek(offset)
        is_first = offset > 0
        for line in stream:
            if not line.endswith(b"\n"):
                break  # being written just now
            event = parsed(line)
            if event is not None and is_first and event["n"] != passed + 1:
                return None
            offset += len(line)
            if event is None:
                continue
            is_first = False
            if event["n"] > after:
                if len(events) == limit:
                    return events, True
                events.append(event)
            if event["n"] >= marked + MARK_EVERY or len(events) == limit:
                places.remember(event["n"], offset)
                marked = event["n"]
    return events, False


def of_kinds(path: Path, *kinds: str) -> list[dict[str, Any]]:
    """All events of these types; other lines are skipped unparsed, which is a hundred times faster."""
    marks = [f'"type": "{kind}"'.encode() for kind in kinds]  # as `EventLog.append` writes it
    try:
        with path.open("rb") as stream:
            events = [parsed(line) for line in stream if any(mark in line for mark in marks)]
    except FileNotFoundError:
        return []
    return [event for event in events if is_event(event) and event["type"] in kinds]


def parsed(line: bytes) -> dict[str, Any] | None:
    """One event, with non-JSON numbers (a loss that is NaN) as null; None if the line is no event."""
    try:
        event = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("n"), int) else None


def text_page(path: Path, after: int | None) -> dict[str, Any]:
    """{"text", "next", "size"}: one page of a log from byte `after` on; its end if `after` is None."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            start = max(0, size - TEXT_PAGE // 4) if after is None else min(after, size)
            stream.seek(start)
            data = stream.read(TEXT_PAGE)
    except FileNotFoundError:
        return {"text": "", "next": 0, "size": 0}
    end = start + len(data)
    if after is None and start:
        data = data.partition(b"\n")[2]
    data, rest = whole_letters(data)
    return {"text": data.decode("utf-8", "replace"), "next": end - rest, "size": max(size, end)}


def whole_letters(data: bytes) -> tuple[bytes, int]:
    """The bytes without a UTF-8 letter that is cut off at their end, and how many bytes of that letter there are."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:  # the first byte of a longer letter
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return (data[:-back], back) if back < needed else (data, 0)
        if byte < 0x80:
            break
    return data, 0
