"""RUN/verdict.json and RUN/verdict/: what has been said of a run, with its pictures and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..runs.run_folder import Run
from ..system import files

FOLDER, FILE = "verdict", "verdict.json"


def folder(run: Run) -> Path:
    return run.path / FOLDER


def read(run: Run) -> dict[str, Any] | None:
    """The run's verdict; None if there is none, or none that can be read."""
    try:
        found = files.read_json(run.path / FILE)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("checkpoints"), list) else None


def write(run: Run, content: dict[str, Any]) -> None:
    files.write_json(run.path / FILE, content)
