"""A run's folder, the only record of its state, read by the command line, the tab and a restarted machine alike."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from ..config import links, stages
from ..config.parsing import parse
from ..config.run_config import RunConfig
from ..config.stages import CompletedConfig
from ..data import picture_entries, picture_list
from ..errors import Problem, UserError
from ..facts.methods import METHOD_LABELS
from ..messages.message import Message, reason_of
from ..system import files
from ..version import __version__
from .events import ENDED, STATUSES, EventLog, give_command, wants

DEFAULT_RUNS_DIR = Path(__file__).resolve().parents[3] / "runs"
SILENCE = 30.0  # seconds without a heartbeat after which a worker on another machine counts as dead


@dataclass(frozen=True)
class Run:
    """One run's folder. Everything is read from disk when asked for, because other processes write there too."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @cached_property
    def config(self) -> RunConfig:
        config, problems = parse(self._read("config.json"))
        if problems:
            first = problems[0]
            raise UserError("runs.other_version", "run", run=self.id, field=first.field, reason=first.message)
        return config

    def completed(self) -> CompletedConfig:
        """`config` as a CompletedConfig. Raises UserError if values that the guide fills in are missing."""
        if left := stages.missing(self.config):
            raise UserError("runs.lacks_values", "run", run=self.id, names=list(left))
        return stages.completed(self.config)

    def about(self) -> dict[str, Any]:
        """Name, method, resolution, base and words, without validating the rest.

        Raises UserError for a damaged run.
        """
        config = self._read("config.json")
        if not isinstance(config.get("name"), str) or config.get("method") not in METHOD_LABELS:
            raise UserError("runs.damaged", "run", run=self.id, file="config.json")
        about = {name: config.get(name) for name in ("name", "method", "resolution")}
        concepts = config.get("concepts")
        parts = [config, *(concepts if isinstance(concepts, list) else ())]
        prompts = [config.get("placeholder_token")]
        prompts += [one.get("instance_prompt") for one in parts if isinstance(one, dict)]
        words = dict.fromkeys(text for text in prompts if isinstance(text, str) and text)
        return {**about, "base": base_name(config.get("base_model")), "words": ", ".join(words)}

    def _read(self, name: str) -> dict[str, Any]:
        """The content of one of the run's JSON files. Raises UserError if it is damaged."""
        try:
            content = files.read_json(self.path / name)
        except (OSError, ValueError) as error:
            raise UserError("runs.unreadable", "run", run=self.id, file=name, error=reason_of(error)) from error
        if not isinstance(content, dict):
            raise UserError("runs.damaged", "run", run=self.id, file=name)
        return content

    @property
    def events(self) -> EventLog:
        return EventLog(self.path / "events.jsonl")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def commands(self) -> Path:
        return self.path / "commands"

    def recorded(self) -> dict[str, Any]:
        """The content of state.json as it stands. Raises UserError if it is damaged."""
        state = self._read("state.json")
        kinds: dict[str, Any] = {"step": int, "heartbeat": (int, float, type(None)), "host": (str, type(None))}
        if state.get("status") not in STATUSES or not all(isinstance(state.get(key), kinds[key]) for key in kinds):
            raise UserError("runs.damaged", "run", run=self.id, file="state.json")
        return state

    def state(self) -> dict[str, Any]:
        """The content of state.json, corrected for a run whose worker is gone and that nobody has concluded.

        Its status is "saving" while models are still to be published or the device returned, until whoever does that
        concludes the run: the final status is only shown once all of that is done, and never changes back. Otherwise it
        is the ending that its worker recorded, or "failed" if there is none.
        """
        state = self.recorded()
        if state["status"] in (*ENDED, "queued") or self.is_alive(state):
            return state
        owes = self.owes()
        state = self.recorded()  # it may have been concluded between the two looks
        if state["status"] in (*ENDED, "queued"):
            return state
        if owes and state.get("host") in (None, platform.node()):
            return {**state, "status": "saving"}
        if word := ending_of(state):
            return {**state, "status": word}
        return {**state, "status": "failed", "problem": worker_gone(self).as_dict()}

    def write_state(self, **changes: Any) -> dict[str, Any]:
        """Change values of state.json. Raises FileNotFoundError if the run's folder was deleted, so that it does not
        come back half made."""
        self.check_exists()
        path = self.path / "state.json"
        state = {**(files.read_json(path) if path.exists() else {}), **changes}
        files.write_json(path, state, parents=False)  # a folder that was deleted is not to come back
        return state

    def exists(self) -> bool:
        """Whether the run's folder still exists. Nothing ever replaces config.json."""
        return (self.path / "config.json").exists()

    def check_exists(self) -> None:
        """Raise FileNotFoundError if the folder was deleted."""
        if not self.exists():
            raise FileNotFoundError(errno.ENOENT, Message("runs.folder_deleted"), str(self.path))

    def is_alive(self, state: dict[str, Any] | None = None) -> bool:
        """Whether a worker is running: it holds the lock on this machine, or sends heartbeats from another."""
        state = state or self.recorded()
        if state.get("host") not in (None, platform.node()):
            return _beats(state)
        return self.is_held()

    def is_held(self) -> bool:
        """Whether a worker on this machine has the run: by its lock, or by its heartbeat if this user may not read the
        lock.

        Raises no OSError: another user's folder must not block one's own runs.
        """
        try:
            return files.is_locked(self.path / "worker.lock")
        except OSError:
            with contextlib.suppress(UserError):
                return _beats(self.recorded())
            return False

    def take(self, patience: float = 1.0) -> IO[bytes] | None:
        """The run's lock, held until it is closed or its process ends; None if another worker has it.

        Checking whether the run is alive holds the lock for an instant: hence the patience, in seconds. Raises OSError
        if this user may not write.
        """
        return self._lock("worker.lock", patience)

    def claim(self, patience: float = 1.0) -> IO[bytes] | None:
        """The right to publish the run's models and to conclude it, held like the lock of `take`.

        None if a host or a terminal has it. Only its holder publishes, so each model is published once.
        """
        return self._lock("host.lock", patience)

    def is_followed(self, patience: float = 0.0) -> bool:
        """Whether another process holds that right (`claim`) even after `patience` seconds. False if this user may not
        look."""
        deadline = time.monotonic() + patience
        try:
            while held := files.is_locked(self.path / "host.lock"):
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.02)
            return held
        except OSError:
            return False

    def _lock(self, name: str, patience: float) -> IO[bytes] | None:
        self.check_exists()
        deadline = time.monotonic() + patience
        while (lock := files.try_lock(self.path / name)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return lock

    def ending(self, how: str) -> dict[str, str]:
        """The first state of a run that has ended as `how`, one of ENDED: "saving" while something is still to be done.

        That is not the case if no model is due and no host is waiting to get its device back.
        """
        owes = self.owes() and (self.is_followed() or self._may_be_due())
        return {"status": "saving" if owes else how, "ending": how}

    def end(self, how: str, **about: Any) -> None:
        """Record how the run ended on behalf of a worker that could not. The run's lock must be held."""
        said = {**self.ending(how), **about}
        self.write_state(**said)
        self.events.append("status", **said)

    def last_word(self) -> str | None:
        """How it ended, one of ENDED, if its worker has recorded that and nobody has concluded the run yet."""
        try:
            return ending_of(self.recorded())
        except UserError:  # damaged, or deleted
            return None

    def before(self) -> dict[str, Any] | None:
        """Status and step of a finished or stopped run from before it was started or queued again, to restore if that
        is refused; None for a new or failed run."""
        state = self.recorded()
        status = state["status"]
        if status == "queued":
            status = (self._host_file().get("before") or {}).get("status")
        if status not in ("done", "stopped"):
            return None
        return {"status": status, "step": state["step"], "total": state.get("total")}

    def owes(self) -> bool:
        """Whether models are still to be published or the device returned: host.json (core/runs/job_options.py) says
        that the run is not settled."""
        return self._host_file().get("settled") is False

    def _may_be_due(self) -> bool:
        """Whether a model that is to be published has not been published since it was announced."""
        wished, open_ = self._host_file(), {}
        since = wished.get("since")
        for event in self.events.read(after=since if isinstance(since, int) else 0):
            if event["type"] == "artifact":
                open_[event["name"]] = event
            elif event["type"] == "published":
                open_.pop(event["name"], None)
        return bool(self.events.put_off()) or any(wants(wished, event) for event in open_.values())

    def _host_file(self) -> dict[str, Any]:
        try:
            wished = files.read_json(self.path / "host.json")
        except (OSError, ValueError):
            return {}
        return wished if isinstance(wished, dict) else {}

    def command(self, command: str) -> None:
        self.check_exists()
        give_command(self.commands, command)

    def artifact_events(self) -> list[dict[str, Any]]:
        """The events of artifacts that still exist, oldest first, the last event for each file."""
        latest = {event["file"]: event for event in self.events.read() if event["type"] == "artifact"}
        return [event for file, event in latest.items() if (self.artifacts / file).exists()]

    def size(self) -> int:
        """Bytes that the run takes on disk."""
        total = 0
        for path in self.path.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # the worker renames and deletes meanwhile
                total += path.stat().st_size if path.is_file() else 0
        return total

    def delete(self) -> None:
        if self.is_held():
            raise UserError("runs.training", "run", run=self.id, folder=str(self.path))
        if self.is_followed(patience=1.0):
            raise UserError("runs.publishing", "run", run=self.id)
        files.remove(self.path)  # whole: on Windows an open file keeps all of it, and a restart leaves no half of it
        with contextlib.suppress(files.Held), _making(self.path.parent):  # sweeps what could not go at once
            pass


def create(runs_dir: Path, config: RunConfig, host: Mapping[str, Any] | None = None) -> Run:
    """Create a run's folder with status "queued", completely or not at all. Its config.json never changes again.

    host: the content of its host.json, see core/runs/job_options.py.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    with _making(runs_dir):
        path = _free(runs_dir, f"{time.strftime('%Y%m%d-%H%M%S')}-{safe_name(config.name)}")
        with files.replacing(path) as temporary:
            _fill(Run(temporary), config, host)
    return Run(path)


@contextlib.contextmanager
def _making(runs_dir: Path) -> Iterator[None]:
    """Let only one process at a time create or delete runs, and remove what killed ones left unfinished."""
    with files.locked(runs_dir / "runs.lock"):
        for left in runs_dir.glob(f"{files.TEMPORARY}*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        yield


def _free(runs_dir: Path, stem: str) -> Path:
    for number in range(1, 1000):
        path = runs_dir / (stem if number == 1 else f"{stem}-{number}")
        if not path.exists():
            return path
    raise UserError("runs.too_many_of_name", "runs_dir", name=stem, folder=str(runs_dir))


def _fill(run: Run, config: RunConfig, host: Mapping[str, Any] | None) -> None:
    for folder in ("commands", "checkpoints", "samples", "artifacts"):
        (run.path / folder).mkdir(parents=True)
    files.write_json(run.path / "config.json", config.as_dict())
    entries, problems = picture_entries.entries(config)
    if entries and not problems:  # else the worker notes them: a data set that it fetches
        picture_list.note(run.path, entries, are_class=False)
    if host is not None:
        files.write_json(run.path / "host.json", host)
    run.write_state(
        status="queued",
        step=0,
        total=config.max_train_steps,
        pid=None,
        heartbeat=None,
        host=None,
        created=round(time.time(), 3),
        version=__version__,
    )
    run.events.append("status", status="queued")


def base_name(base: Any) -> str:
    """What people call a base: the last part of its path; a link or a Hub's name as it is."""
    if not isinstance(base, str) or links.is_link(base):
        return str(base or "")
    return re.split(r"[\\/]", base.rstrip("\\/"))[-1]


def safe_name(name: str) -> str:
    """The name with only characters that every file system accepts."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] or "run"


def ending_of(state: dict[str, Any]) -> str | None:
    """How a run ended, one of ENDED, as its worker recorded; None before that, and when the run is concluded."""
    ending = state.get("ending")
    return ending if state["status"] == "saving" and ending in ENDED else None


def _beats(state: dict[str, Any]) -> bool:
    return time.time() - (state.get("heartbeat") or 0) < SILENCE


def this_worker() -> dict[str, Any]:
    """This process and machine, as the state records its worker."""
    return {"pid": os.getpid(), "host": platform.node()}


def deleted(run: Run) -> Problem:
    """The problem of a run whose folder is deleted while it trains."""
    return Problem("runs.deleted", "run", folder=str(run.path))


def worker_gone(run: Run) -> Problem:
    """The problem of a run whose worker ended without recording how."""
    return Problem("runs.worker_gone", run=run.id)
