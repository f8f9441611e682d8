"""Reads runs: their list, and each one's state, config, events, curves, log and previews."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ...core.config.parsing import shown
from ...core.data import picture_entries, picture_list
from ...core.runs import job_options, notes, run_list
from ...core.runs.run_folder import Run
from ..environment.maintenance import Maintenance
from ..errors import Problems, Refusal
from ..hosts import path_policy
from ..runs.curves import LAST, POINTS, RunCurves
from ..runs.event_pages import EventPages, text_page
from ..runs.run_index import RunIndex, is_component
from . import report
from .asked_options import ASKED

SHOWN_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


class Runs:
    """Looks into the folders of runs, and keeps its user's notes there. `host`: the host's name, for reports."""

    def __init__(self, index: RunIndex, maintenance: Maintenance, host: str):
        self.run_index, self.maintenance, self.host = index, maintenance, host
        self._events = EventPages()
        self._curves = RunCurves()

    def changed(self, since: str = "", search: str = "") -> dict[str, Any]:
        """`RunIndex.changed`, of the runs that a search finds; those that it finds no more are "gone", too."""
        told = self.run_index.changed(since)
        if not search.strip():
            return told
        found = [run for run in told["runs"] if run_list.matches(run, search)]
        kept = {run["id"] for run in found}
        others = [run["id"] for run in told["runs"] if run["id"] not in kept]
        return {**told, "runs": found, "gone": [*told["gone"], *(others if since else ())]}

    def note(self, id: str, note: str | None, starred: bool | None) -> dict[str, Any]:
        """The user's own words about a run, and its star; what is not given stays."""
        return notes.change(self.run_index.find(id), note, starred).as_dict()

    def curves(self, id: str, first: int | None, last: int | None, points: int | None) -> dict[str, Any]:
        """A run's curves: all of it thinned out, or in detail from one step to another (see `runs.curves`)."""
        path = self.run_index.find(id).path / "events.jsonl"
        if first is None and last is None:
            return self._curves.whole(path)
        return self._curves.part(path, first or 0, LAST if last is None else last, points or POINTS)

    def table(self, id: str) -> str:
        """All of a run's curves as CSV, a line for each step."""
        return self._curves.table(self.run_index.find(id).path / "events.jsonl")

    def describe(self, id: str) -> dict[str, Any]:
        run = self.run_index.find(id)
        known = job_options.read(run)
        chosen = known and {name: getattr(known, name) for name in ASKED}
        return {**self.run_index.describe(run), "path": str(run.path), "wishes": chosen}

    def config(self, id: str) -> dict[str, Any]:
        return self.run_index.find(id).config.as_dict()

    def changed_pictures(self, id: str) -> dict[str, Any]:
        """What has changed among a run's training pictures since it was queued; changes: None if they were not
        recorded."""
        run = self.run_index.find(id)
        listed = picture_list.noted(run.path, are_class=False)
        entries, problems = picture_entries.entries(run.config)
        if problems and not entries:
            raise Problems(problems)
        if listed is None:
            return {"count": len(entries), "changes": None}
        changes = picture_list.compare(listed, [entry for entry in entries if not entry.is_class])[1]
        return {"count": changes.count, "changes": {name: list(names) for name, names in changes.names().items()}}

    def events(self, id: str, after: int = 0) -> dict[str, Any]:
        """One page of events: ask again with "next" while there are "more"."""
        found, more = self._events.page(self.run_index.find(id).path / "events.jsonl", after)
        return {"events": found, "next": found[-1]["n"] if found else after, "more": more}

    def log(self, id: str, after: int | None = None) -> dict[str, Any]:
        return text_page(self.run_index.find(id).path / "log.txt", after)

    def report(self, id: str) -> dict[str, Any]:
        """The text for an issue about a run."""
        return {"text": report.report(self.run_index.find(id), self.maintenance.status(), self.host)}

    def sample(self, id: str, step: str, file: str) -> tuple[Path, str]:
        """(file, media type) of a preview picture. Raises a Refusal (404)."""
        run = self.run_index.find(id)
        path = run.samples / step / file if step.isascii() and step.isdigit() and is_component(file) else run.samples
        kind = SHOWN_TYPES.get(path.suffix.lower())
        if not kind or not path.is_file() or not path_policy.inside(path, [run.samples]):
            raise Refusal(404, "service.no_preview", "file", picture=shown(file), step=shown(step))
        return path, kind

    def open_folder(self, id: str) -> None:
        """Show the run's folder in this machine's file manager."""
        path = self.run_index.find(id).path
        if sys.platform == "win32":
            os.startfile(path)
            return
        opener = "open" if sys.platform == "darwin" else "xdg-open"
        try:
            subprocess.Popen([opener, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            raise Refusal(409, "service.no_file_manager", folder=path) from None

    def forget(self, run: Run) -> None:
        """Clear what is cached about a deleted run."""
        self.run_index.forget(run)
        self._events.forget(run.path / "events.jsonl")
        self._curves.forget(run.path / "events.jsonl")
