"""Steps and seconds that a run was expected to take when it was queued: `planned.json` in its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
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


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
