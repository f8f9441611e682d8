"""How many steps and seconds a run will take, as it was known when it was queued: `planned.json` in its folder; and
when each of several begins that wait for each other."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.runs.run_folder import Run
from ...core.system import files

FILE = "planned.json"


class PlannedTimes:
    def __init__(self, runs_dir: Path):
        self.runs_dir = runs_dir
        self._known: dict[str, dict[str, Any]] = {}

    def note(self, run: Run, steps: int | None, seconds: float | None) -> None:
        """Record a run's expected length. seconds: None if unknown. A full disk is ignored, so that training can
        start."""
        self._known[run.id] = {"steps": steps, "seconds": seconds}
        with contextlib.suppress(OSError):
            files.write_json(run.path / FILE, self._known[run.id])

    def of(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """{"steps", "seconds"} by run; runs without a record are left out."""
        wanted = list(dict.fromkeys(ids))
        self._known = {id: known for id in wanted if (known := self._known.get(id) or self._read(id))}
        return dict(self._known)

    def _read(self, id: str) -> dict[str, Any]:
        try:
            content = files.read_json(self.runs_dir / id / FILE)
            return {name: _number(content.get(name)) for name in ("steps", "seconds")}
        except (OSError, ValueError, AttributeError):
            return {}


@dataclass(frozen=True)
class Job:
    """seconds: that it needs its devices from now on, or from its beginning; None where that is unknown."""

    run: str
    devices: tuple[str, ...]
    seconds: float | None


def beginnings(running: Sequence[Job], waiting: Sequence[Job]) -> tuple[dict[str, float | None], float | None]:
    """(the seconds until each of `waiting` begins, one at a time on each device, and until all of them are done).

    None where that depends on a run of which nobody knows how long it takes.
    """
    free: dict[str, float | None] = defaultdict(float)  # by device, in seconds from now
    begins: dict[str, float | None] = {}
    for job in (*running, *waiting):
        times = [free[device] for device in job.devices]
        begins[job.run] = start = None if None in times else max(time for time in times if time is not None)
        ends_at = None if start is None or job.seconds is None else start + job.seconds
        free |= dict.fromkeys(job.devices, ends_at)
    ends = [time for time in free.values() if time is not None]
    return {job.run: begins[job.run] for job in waiting}, max(ends, default=0.0) if len(ends) == len(free) else None


def left(seconds: float | None, steps: int | None, step: int, total: int | None) -> float | None:
    """Seconds that a run needs from `step` to `total`, where `seconds` were planned for `steps`; total: None if they
    are its last ones."""
    total, steps = total or steps, steps or total
    if seconds is None or not steps or not total:
        return seconds
    return seconds * max(0, total - step) / steps


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
