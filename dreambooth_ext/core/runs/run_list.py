"""Finds runs in a folder: all of them, or one by its id, its name or the beginning of either."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..facts.methods import METHOD_LABELS
from ..system import files
from . import notes
from .run_folder import Run, safe_name
from .time_taken import seconds_trained

Described = Mapping[str, Any]

# What a list can be ordered by -> (a run's place, whether the greatest comes first)
SORTS: dict[str, tuple[Callable[[Described], Any], bool]] = {
    "newest": (lambda run: run["id"], True),
    "oldest": (lambda run: run["id"], False),
    "name": (lambda run: (str(run.get("name")).casefold(), run["id"]), False),
    "size": (lambda run: run.get("size") or 0, True),
    "time": (lambda run: run.get("seconds") or 0, True),
}


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
    """What the command line's lists show of a run."""
    return {
        "id": run.id,
        **run.about(),
        "size": run.size(),
        "seconds": seconds_trained(run.events.path),
        **notes.read(run).as_dict(),
        **run.state(),
    }


def matches(described: Described, wanted: str) -> bool:
    """Whether each word of a search stands somewhere in what tells a run: name, method, word, base or note."""
    method = str(described.get("method"))
    parts = [described.get(name) for name in ("id", "name", "words", "base", "note")]
    text = " ".join(str(part or "") for part in (*parts, method, METHOD_LABELS.get(method, ""))).casefold()
    return all(word in text for word in wanted.casefold().split())


def in_order(described: Iterable[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """By one of SORTS."""
    known, reverse = SORTS[by]
    return sorted(described, key=known, reverse=reverse)
