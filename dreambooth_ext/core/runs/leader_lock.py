"""Which host leads a folder of runs and starts what waits there, and what its trainings are to do when it goes.

The leading host holds `dispatcher.lock` for as long as its program lives; the system lets go of it however that ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from ..system import files


class LeaderLock:
    """Of one folder of runs; for hosts, which take it, and for workers, which look whether it is taken."""

    def __init__(self, runs_dir: Path):
        self._lock = runs_dir / "dispatcher.lock"
        self._wish = runs_dir / "dispatcher.json"

    def take(self) -> IO[bytes] | None:
        """Held until it is closed or the process dies; None while another host leads."""
        return files.try_lock(self._lock)

    def is_taken(self) -> bool:
        return files.is_locked(self._lock)

    def wish(self, stop_on_close: bool) -> None:
        """Note what trainings do when no host is there. The leader rewrites it on every change."""
        if self.stops_on_close() != stop_on_close or not self._wish.exists():
            files.write_json(self._wish, {"on_close": "stop" if stop_on_close else "continue"})

    def stops_on_close(self) -> bool:
        """What was said last; False where nothing was, or it cannot be read."""
        try:
            said = files.read_json(self._wish)
        except (OSError, ValueError):
            return False
        return isinstance(said, dict) and said.get("on_close") == "stop"
