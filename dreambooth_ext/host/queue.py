"""The order in which waiting runs are trained: `queue.json` in the folder of the runs.

A run waits if it is listed there and its state is "queued". Every change is made under a lock between processes, so
that several hosts, and a user's two browsers, can work on one queue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .. import files


class Queue:
    def __init__(self, runs_dir: Path):
        self.path = runs_dir / "queue.json"
        self._lock = runs_dir / "queue.lock"

    def ids(self) -> list[str]:
        """Run ids, first to be trained first."""
        try:
            content = files.read_json(self.path)
        except (OSError, ValueError):
            return []
        order = content.get("order") if isinstance(content, dict) else None
        return [item for item in order if isinstance(item, str)] if isinstance(order, list) else []

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[str]]:
        """The ids, to be changed in place; nobody else reads or writes them meanwhile. Not reentrant."""
        with files.locked(self._lock):
            before = self.ids()
            ids = list(before)
            yield ids
            if ids != before:
                files.write_json(self.path, {"order": ids})

    def add(self, id: str) -> None:
        """At the end, unless it is there already."""
        with self.changing() as ids:
            if id not in ids:
                ids.append(id)

    def arrange(self, wanted: list[str]) -> None:
        """Put these first, in this order. Others keep theirs behind; ids that no longer wait are passed over."""
        with self.changing() as ids:
            first = [id for id in dict.fromkeys(wanted) if id in ids]
            ids[:] = first + [id for id in ids if id not in first]
