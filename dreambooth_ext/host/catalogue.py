"""What lists show of every run, without reading everything of every run each time."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from .. import runs
from ..errors import Problem, UserError
from ..protocol import ENDED
from ..runs import Run
from .refusal import Refusal

PARTS = ("checkpoints", "samples", "artifacts")
GROWING = 15.0  # seconds for which the size of a run that still writes holds
LONGEST_NAME = 255  # bytes, in most file systems
FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, UserError)  # of damaged run folders


class Catalogue:
    """Runs by their id; settings and sizes that cannot change any more are read once."""

    def __init__(self, runs_dir: Path):
        self.runs_dir = runs_dir
        self._sizes: dict[str, tuple[Any, float, dict[str, int]]] = {}  # id -> (state's stamp, when, sizes)
        self._about: dict[str, tuple[Any, dict[str, Any]]] = {}  # id -> (config's stamp, what it says)

    def find(self, id: str) -> Run:
        """The run with just this id. Raises a Refusal (404): ids come from anywhere, and become a path here."""
        path = self.runs_dir / id if is_component(id) else None
        if path is None or not (path / "state.json").is_file():
            raise Refusal(404, f"there is no run {id[:100]!r}.", "GET runs lists them.", "run")
        if os.path.realpath(path) != os.path.join(os.path.realpath(self.runs_dir), id):
            raise Refusal(404, f"run {id!r} is a link to another place.", "Move that folder here.", "run")
        return Run(path)

    def all(self) -> list[dict[str, Any]]:
        """Newest first."""
        known = [run for run in runs.list_runs(self.runs_dir) if is_component(run.id)]
        ids = {run.id for run in known}
        for cache in (self._sizes, self._about):
            for id in [id for id in list(cache) if id not in ids]:
                cache.pop(id, None)
        return [self.describe(run) for run in known]

    def describe(self, run: Run) -> dict[str, Any]:
        """state.json with id, name, method and sizes; a damaged run is shown as such, so that it hides no others."""
        try:
            described = self.brief(run)
            settled = described["status"] in ENDED
        except FAULTS as error:
            why = error.problem.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            problem = Problem("run", why, "Delete this run.")
            described = {"id": run.id, "name": "", "method": "?", "status": "damaged", "step": 0, "total": None}
            described["problem"] = problem.as_dict()
            settled = True
        sizes = self._size(run, settled)
        return {**described, "size": sizes["total"], "sizes": sizes, "picture": newest_picture(run)}

    def brief(self, run: Run) -> dict[str, Any]:
        """state.json with id, name and method: what can be asked every second. Raises FAULTS for a damaged run."""
        stamp = _stamp(run.path / "config.json")
        known = self._about.get(run.id)
        if not known or known[0] != stamp:
            config = run.config
            known = stamp, {"name": config.name, "method": config.method, "resolution": config.resolution}
            self._about[run.id] = known
        return {"id": run.id, **known[1], **run.state()}

    def forget(self, run: Run) -> None:
        self._sizes.pop(run.id, None)
        self._about.pop(run.id, None)

    def _size(self, run: Run, settled: bool) -> dict[str, int]:
        """Bytes on disk, in all and by PARTS; walked through once for a run that has ended."""
        stamp = (_stamp(run.path / "state.json"), _stamp(run.path / "events.jsonl"))
        known = self._sizes.get(run.id)
        if known and ((settled and known[0] == stamp) or time.monotonic() - known[1] < GROWING):
            return known[2]
        sizes = {"total": 0, **dict.fromkeys(PARTS, 0)}
        for folder, _, names in os.walk(run.path):
            inner = os.path.relpath(folder, run.path).split(os.sep)[0]
            for name in names:
                with contextlib.suppress(OSError):  # the worker renames and deletes meanwhile
                    size = os.stat(os.path.join(folder, name)).st_size
                    sizes["total"] += size
                    if inner in sizes:
                        sizes[inner] += size
        self._sizes[run.id] = stamp if settled else None, time.monotonic(), sizes
        return sizes


def is_component(name: str) -> bool:
    """Whether a text from outside may become one part of a path: no way out, no device, no hidden file."""
    fits = 0 < len(name.encode("utf-8", "replace")) <= LONGEST_NAME
    return fits and name.isprintable() and not name.startswith(".") and not set(name) & set('/\\:*?"<>|')


def newest_picture(run: Run) -> str | None:
    """ "<step>/<file>" of a preview of the last step that has any."""
    try:
        steps = sorted(
            (int(name) for name in os.listdir(run.samples) if name.isascii() and name.isdigit()), reverse=True
        )
        for step in steps:
            pictures = sorted(name for name in os.listdir(run.samples / str(step)) if name.endswith(".png"))
            shown = [name for name in pictures if is_component(name)]
            if shown:
                return f"{step}/{shown[0]}"
    except OSError:  # deleted meanwhile
        pass
    return None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size
