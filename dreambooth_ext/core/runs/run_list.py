"""Finds runs in a folder: all of them, or one by its id, its name or the beginning of either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError
from ..system import files
from .run_folder import Run, safe_name


def list_runs(runs_dir: Path) -> list[Run]:
    """All runs, newest first."""
    if not runs_dir.is_dir():
        return []
    folders = (path for path in runs_dir.iterdir() if not path.name.startswith(files.TEMPORARY))
    found = [Run(path) for path in folders if (path / "state.json").is_file()]
    return sorted(found, key=lambda run: run.id, reverse=True)


def find(runs_dir: Path, name: str) -> Run:
    """A run by its folder or id, or by its name or the beginning of its id if only one matches ("last" is the
    newest)."""
    if not name.strip():
        raise UserError("runs.needs_name", "run")
    if (Path(name) / "state.json").is_file():
        return Run(Path(name).resolve())
    known = list_runs(runs_dir)
    if name == "last" and known:
        return known[0]
    matches = [run for run in known if run.id == name] or [
        run for run in known if run.id.startswith(name) or run.id.partition("-")[2].partition("-")[2] == safe_name(name)
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        known_ids = [run.id for run in matches[:5]]
        raise UserError("runs.ambiguous", "run", name=name, count=len(matches), runs=known_ids)
    raise UserError("runs.unknown", "run", name=name, folder=str(runs_dir))


def describe(run: Run) -> dict[str, Any]:
    """A run as lists and the API show it."""
    return {"id": run.id, "name": run.config.name, "method": run.config.method, "size": run.size(), **run.state()}
