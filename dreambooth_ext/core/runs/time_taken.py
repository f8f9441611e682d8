"""How long a run has trained, over all its sessions, by its events."""

from __future__ import annotations

import re
from pathlib import Path

from .events import ENDED

# As `EventLog` writes them; only these are looked at, so that long logs take no time.
TIME = re.compile(rb'"time": ([0-9.]+), "type": "([a-z]+)"')
STATUS = re.compile(rb'"status": "([a-z]+)"')
HEAD = 200  # bytes of a line in which they stand
BY_HOST = (b"published", b"unpublished")  # may come long after the worker's end


def seconds_trained(events: Path) -> float | None:
    """From the beginning of each worker to the last that it said. None for a run that has not begun yet."""
    total, begun, last, has_begun = 0.0, None, 0.0, False
    try:
        with events.open("rb") as stream:
            for line in stream:
                found = TIME.search(line[:HEAD])
                if found is None or found[2] in BY_HOST:
                    continue
                now = float(found[1])
                status = STATUS.search(line[:HEAD]) if found[2] == b"status" else None
                word = status[1].decode() if status else ""
                if word == "queued" or word in ENDED:  # may be written by a host, long after a kill
                    total, begun = total + (last - begun if begun is not None else 0.0), None
                elif word == "preparing" and begun is None:
                    begun, has_begun = now, True
                last = now
    except (OSError, ValueError):
        return None
    total += last - begun if begun is not None else 0.0
    return round(max(0.0, total), 1) if has_begun else None
