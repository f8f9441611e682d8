"""Which host leads a folder of runs and starts the queued ones, and whether runs stop when it closes.

The leading host holds `dispatcher.lock` for as long as its program runs; the system releases it however that ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from ..system import files


class LeaderLock:
    """The leader's lock of one folder of runs: hosts take it, workers check whether it is taken."""

    def __init__(self, runs_dir: Path):
        self._lock = runs_dir / "dispatcher.lock"
        self._wish = runs_dir / "dispatcher.json"

    def take(self) -> IO[bytes] | None:
        """The lock, held until it is closed or the process ends; None while another host leads."""
        return files.try_lock(self._lock)

    def is_taken(self) -> bool:
        return files.is_locked(self._lock)

    def wish(self, stop_on_close: bool) -> None:
        """Record whether runs stop or continue when no host is left. The leader rewrites it on every change."""
        if self.stops_on_close() != stop_on_close or not self._wish.exists():
            files.write_json(self._wish, {"on_close": "stop" if stop_on_close else "continue"})

    def stops_on_close(self) -> bool:
        """The recorded choice; False if there is none, or it cannot be read."""
        try:
            said = files.read_json(self._wish)
        except (OSError, ValueError):
            return False
        return isinstance(said, dict) and said.get("on_close") == "stop"
