"""An index of all runs for lists, which rereads only what may have changed."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.config.parsing import shown
from ...core.errors import Problem, UserError
from ...core.runs import notes
from ...core.runs.events import ENDED
from ...core.runs.run_folder import Run
from ...core.runs.time_taken import seconds_trained
from ...core.verdict import verdict_file
from ..errors import Refusal
from ..publishing import unpublish
from ..publishing.model_files import MODEL_SUFFIXES

PARTS = ("checkpoints", "samples", "artifacts")
BELONGING = {"frozen": "checkpoints"}  # folders that are counted among others (core/runs/training_states.py)
ASKED_OFTEN = ("name", "method", "resolution")  # of what a run's config.json tells
MEASURING = 0.3  # seconds of one look that go into sizes of runs
GROWING = 15.0  # seconds for which the size of a run that still writes holds
LONGEST_NAME = 255  # bytes, in most file systems
FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, UserError)  # of damaged run folders


@dataclass
class _Known:
    """A run's last description. stamp: of its files at that time; None while it can change without them."""

    stamp: Any
    told: dict[str, Any]
    revision: int  # at which that was new


@dataclass(frozen=True)
class _Measured:
    """What takes long to find out: bytes on disk, in all and by PARTS, and how long it has trained."""

    sizes: dict[str, int]
    seconds: float | None


class RunIndex:
    """Runs by their id; what can no longer change is read once."""

    def __init__(self, runs_dir: Path, folders: Callable[[], Iterable[Path]] = tuple):
        """folders: those of the host, where runs' models may be now."""
        self.runs_dir, self.folders = runs_dir, folders
        self._measured: dict[str, tuple[Any, float, _Measured]] = {}  # id -> (state's stamp, when, what)
        self._about: dict[str, dict[str, Any]] = {}  # id -> what its config.json says, which never changes
        self._known: dict[str, _Known] = {}
        self._gone: dict[str, int] = {}  # id -> the revision at which it was missed
        self._revision = 0  # grows with every change that is seen
        self._life = secrets.token_hex(4)  # another process knows nothing of our revisions
        self._looking = threading.Lock()

    def find(self, id: str) -> Run:
        """The run with exactly this id. Raises a Refusal (404): ids are untrusted and become a path here."""
        path = self.runs_dir / id if is_component(id) else None
        if path is None or not (path / "state.json").is_file():
            raise Refusal(404, "service.no_run", "run", run=shown(id))
        if os.path.realpath(path) != os.path.join(os.path.realpath(self.runs_dir), id):
            raise Refusal(404, "service.linked_run", "run", run=shown(id))
        return Run(path)

    def changed(self, since: str = "") -> dict[str, Any]:
        """{"runs": newest first, "gone": ids, "revision"}: changes since that revision, or everything without one."""
        with self._looking:
            self._look()
            life, _, number = since.partition("-")
            before = int(number) if life == self._life and number.isdecimal() else -1
            found = [
                self._known[id].told for id in sorted(self._known, reverse=True) if self._known[id].revision > before
            ]
            gone = [id for id, revision in self._gone.items() if revision > before >= 0]
            return {"runs": found, "gone": gone, "revision": f"{self._life}-{self._revision}"}

    def all(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        return self.changed()["runs"]

    def _look(self) -> None:
        """Read again what may have changed. Sizes take long: those that do not fit into the time follow later."""
        ids, deadline = self._ids(), time.monotonic() + MEASURING
        places = tuple(_stamp(folder) for folder in self.folders())
        for id in [id for id in self._known if id not in ids]:
            self.forget(Run(self.runs_dir / id))
            self._revision += 1
            self._gone[id] = self._revision
        for id in sorted(ids, reverse=True):
            run, known = Run(self.runs_dir / id), self._known.get(id)
            stamp = (*_stamps(self.runs_dir, id), places)
            if known and known.stamp == stamp:
                continue
            told = self.describe(run, deadline)
            if not known or known.told != told:
                self._revision += 1
                self._gone.pop(id, None)
                self._known[id] = known = _Known(None, told, self._revision)
            settled = told["status"] in (*ENDED, "damaged") and told["size"] is not None
            known.stamp = stamp if settled else None

    def _ids(self) -> set[str]:
        try:
            with os.scandir(self.runs_dir) as items:
                names = [item.name for item in items if is_component(item.name)]
        except OSError:
            return set()
        return {name for name in names if os.path.isfile(os.path.join(self.runs_dir, name, "state.json"))}

    def describe(self, run: Run, deadline: float = math.inf) -> dict[str, Any]:
        """state.json with id, name, method, base and words, note and star, seconds of training, sizes, the files of its
        models that the host's folders have, a picture, and the state that its verdict names. A damaged run is shown as
        such, so that it hides no others.

        deadline: of `time.monotonic`, after which sizes and seconds that are not known stay None.
        """
        try:
            described = {**self._told(run), **run.state()}
            settled = described["status"] in ENDED
        except FAULTS as error:
            described = {"id": run.id, "name": "", "method": "?", "status": "damaged", "step": 0, "total": None}
            described["problem"] = damage(error).as_dict()
            settled = True
        measured = self._measure(run, settled, deadline)
        return {
            **described,
            **notes.read(run).as_dict(),
            "seconds": measured and measured.seconds,
            "size": measured and measured.sizes["total"],
            "sizes": measured and measured.sizes,
            "in_host": self._in_host(run),
            "picture": newest_picture(run),
            "verdict": verdict_state(run),
        }

    def _told(self, run: Run) -> dict[str, Any]:
        """What its config.json says. Raises FAULTS for a damaged run."""
        if run.id not in self._about:
            self._about[run.id] = run.about()
        return {"id": run.id, **self._about[run.id]}

    def brief(self, run: Run) -> dict[str, Any]:
        """state.json with id, name and method: what can be asked every second. Raises FAULTS for a damaged run."""
        told = self._told(run)
        return {"id": run.id, **{name: told[name] for name in ASKED_OFTEN}, **run.state()}

    def _in_host(self, run: Run) -> list[str]:
        """The files of its models that are in the host's folders now, as this run's."""
        folders = list(self.folders())
        try:
            files = sorted(os.listdir(run.artifacts)) if folders else []
        except OSError:
            return []
        return [
            file
            for file in files
            if file.endswith(MODEL_SUFFIXES)
            and any(unpublish.is_published(run.artifacts / file, folder / file, run.id) for folder in folders)
        ]

    def forget(self, run: Run) -> None:
        for cache in (self._measured, self._about, self._known):
            cache.pop(run.id, None)

    def _measure(self, run: Run, settled: bool, deadline: float) -> _Measured | None:
        """Looked at once for a run that has ended. None after the deadline."""
        stamp = (_stamp(run.path / "state.json"), _stamp(run.path / "events.jsonl"))
        known = self._measured.get(run.id)
        if known and ((settled and known[0] == stamp) or time.monotonic() - known[1] < GROWING):
            return known[2]
        if time.monotonic() > deadline:
            return known[2] if known else None
        sizes = {"total": 0, **dict.fromkeys(PARTS, 0)}
        for folder, _, names in os.walk(run.path):
            inner = os.path.relpath(folder, run.path).split(os.sep)[0]
            inner = BELONGING.get(inner, inner)
            for name in names:
                with contextlib.suppress(OSError):  # the worker renames and deletes meanwhile
                    size = os.stat(os.path.join(folder, name)).st_size
                    sizes["total"] += size
                    if inner in sizes:
                        sizes[inner] += size
        measured = _Measured(sizes, seconds_trained(run.path / "events.jsonl"))
        self._measured[run.id] = stamp if settled else None, time.monotonic(), measured
        return measured


def damage(error: Exception) -> Problem:
    """The problem with a run's folder, from the error that reading it raised."""
    if isinstance(error, UserError):
        return Problem("service.damaged_run", "run", reason=error.problem.message)
    return Problem("service.unreadable_run", "run", error=f"{type(error).__name__}: {error}")


def is_component(name: str) -> bool:
    """Whether an untrusted text may become one part of a path: no separators, no device, no hidden file."""
    fits = 0 < len(name.encode("utf-8", "replace")) <= LONGEST_NAME
    return fits and name.isprintable() and not name.startswith(".") and not set(name) & set('/\\:*?"<>|')


def verdict_state(run: Run) -> str | None:
    """The state of a run by its verdict, such as "good"; None without one."""
    found = verdict_file.read(run)
    state = found.get("run") if found else None
    return state if isinstance(state, str) else None


def newest_picture(run: Run) -> str | None:
    """The path "<step>/<file>" of a preview of the last step that has any; None without previews."""
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


def _stamps(runs_dir: Path, id: str) -> tuple[Any, ...]:
    """Stamps of the files that every change of a run touches."""
    folder = os.path.join(runs_dir, id)
    return tuple(
        _stamp(os.path.join(folder, name)) for name in ("state.json", "events.jsonl", notes.FILE, verdict_file.FILE)
    )


def _stamp(path: str | Path) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size
