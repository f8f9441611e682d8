"""Which runs were queued with which sets of pictures."""

from __future__ import annotations

import threading
from pathlib import Path

from ...core.runs import run_list
from ...core.runs.run_folder import Run
from ..hosts import path_policy
from ..pictures import set_about
from ..runs.run_index import FAULTS
from .runs_ahead import picture_folders


class SetUsers:
    """Looks into the settings of runs, which never change, once. `folder`: of the sets."""

    def __init__(self, runs_dir: Path, folder: Path):
        self.runs_dir, self.folder = runs_dir, folder
        self._known: dict[str, tuple[str, tuple[str, ...]]] = {}  # a run's id -> its name, its sets
        self._looking = threading.Lock()

    def runs_of(self) -> dict[str, list[dict[str, str]]]:
        """By set: its runs, {"id", "name"}, newest first."""
        found: dict[str, list[dict[str, str]]] = {}
        with self._looking:
            runs = run_list.list_runs(self.runs_dir)
            self._known = {run.id: self._known.get(run.id) or self._look(run) for run in runs}
            for id, (name, sets) in self._known.items():
                for one in sets:
                    found.setdefault(one, []).append({"id": id, "name": name})
        return found

    def sets_of(self, run: Run) -> list[dict[str, str]]:
        """The sets that a run was queued with: {"set", "title"}."""
        return [{"set": name, "title": set_about.title(self.folder / name)} for name in self._look(run)[1]]

    def _look(self, run: Run) -> tuple[str, tuple[str, ...]]:
        try:
            name = str(run.about()["name"])
        except FAULTS:
            return "", ()
        return name, tuple(dict.fromkeys(filter(None, map(self._set_of, picture_folders(run)))))

    def _set_of(self, path: str) -> str:
        """The set that a folder of pictures is, or is in; "" for other folders."""
        if not path_policy.inside(path, [self.folder]):
            return ""
        parts = Path(path).absolute().relative_to(self.folder.absolute()).parts
        return parts[0] if parts else ""
