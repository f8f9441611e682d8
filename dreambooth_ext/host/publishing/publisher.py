"""Publishes the models that a run announces into the host's folders, refreshes its lists, and selects them on
request."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from ...core.checks import base_header
from ...core.errors import Problem, UserError
from ...core.messages.message import Message
from ...core.runs.job_options import JobOptions
from ...core.runs.run_folder import Run
from . import model_files, staging, unpublish

KEPT = 20  # publications that are remembered for pages


class Announced:
    """The artifacts of one run that wait to be published: once each, only the newest of a name.

    again: also those that a warning says could not be published before.
    """

    def __init__(self, options: JobOptions, again: bool = False):
        self.options, self.again = options, again
        self._open: dict[str, dict[str, Any]] = {}

    def note(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            if event["type"] == "artifact" and event["n"] > self.options.since:
                self._open.pop(event["name"], None)  # to keep the order of their making
                self._open[event["name"]] = event
            elif event["type"] == "published" or (event["type"] == "warning" and "artifact" in event):
                name = str(event.get("name") or event.get("artifact"))
                known = self._open.get(name, {})
                if known and known.get("step") == event.get("step") and self._is_dealt_with(known, event):
                    del self._open[name]

    def _is_dealt_with(self, artifact: dict[str, Any], event: dict[str, Any]) -> bool:
        """Whether an event settles an artifact. A final model must be in the last named folder, wherever it was
        published before."""
        if event["type"] == "warning":
            return not self.again
        folder = self.options.folder(str(artifact.get("kind")))
        return not artifact["final"] or folder is None or Path(str(event.get("path"))).parent == folder

    def take(self) -> list[dict[str, Any]]:
        """The waiting artifacts, oldest first; they then count as dealt with."""
        taken, self._open = list(self._open.values()), {}
        return taken


def due(run: Run, options: JobOptions, again: bool = False) -> list[dict[str, Any]]:
    """The artifacts that wait to be published, oldest first, according to the run's events."""
    run.events.catch_up()
    announced = Announced(options, again)
    announced.note(run.events.read())
    return announced.take()


class Shelves(Protocol):
    """The part of a host that publishing uses."""

    @property
    def name(self) -> str: ...

    def folders(self) -> dict[str, Path]: ...

    def lacks(self) -> dict[str, Message]: ...

    def versions(self) -> dict[str, str]: ...

    def data_folder(self) -> Path | None: ...

    def refresh(self, kind: str, path: Path) -> None: ...

    def select(self, path: Path) -> str: ...

    def forget(self, kind: str, path: Path) -> None: ...


class Terminal:
    """A host without lists, for folders that the command line named."""

    name = Message("publishing.command_line")

    def data_folder(self) -> None:
        """It has none."""

    def refresh(self, kind: str, path: Path) -> None:
        """Nothing lists the models."""

    def select(self, path: Path) -> str:
        return ""

    def forget(self, kind: str, path: Path) -> None:
        """Nothing lists the models."""

    def folders(self) -> dict[str, Path]:
        return {}

    def lacks(self) -> dict[str, Message]:
        return {}

    def versions(self) -> dict[str, str]:
        return {}


class Publisher:
    """Publishes one model at a time, called from threads of the dispatcher and the API."""

    def __init__(self, host: Shelves):
        self.host = host
        self.revision = 0
        self._recent: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    @property
    def recent(self) -> list[dict[str, Any]]:
        return list(self._recent)

    def sweep(self) -> None:
        """Finish, or remove, what killed publishers left in the host's folders."""
        for folder in self.host.folders().values():
            with contextlib.suppress(OSError):
                if folder.is_dir():
                    with staging.alone(folder):
                        staging.sweep(folder, model_files.check_ours)

    def publish_wanted(self, run: Run, options: JobOptions, artifacts: list[dict[str, Any]]) -> None:
        """Publish those of a run's announced models that are wanted. Failures become warnings; training continues."""
        artifacts = [event for event in artifacts if options.wants(event)]
        if not artifacts:
            return
        known = (options.folders or {}).keys() | self.host.folders().keys() | self.host.lacks().keys()
        # other kinds are for no WebUI at all
        artifacts = [it for it in artifacts if it["kind"] in known and (run.artifacts / it["file"]).exists()]
        wanted = [event["n"] for event in artifacts if options.wants_selected(event)]
        for event in artifacts:
            try:
                self.publish(run, event, event["n"] == (wanted or [None])[-1], options.folder(event["kind"]))
            except UserError as error:
                self._warn(run, error.problem, event)

    def publish(self, run: Run, event: dict[str, Any], select: bool, named: Path | None = None) -> Path:
        """Publish one artifact, given by its event, into the folder named for it, else into the host's.

        Raises UserError if its file does not get there.
        """
        kind = event["kind"]
        own = self.host.folders().get(kind)
        family = (run.state().get("plan") or {}).get("family", "")  # a base that is a link is known by now
        lacks = self.host.lacks()
        reason = lacks.get(kind) or lacks.get(base_header.by_title(family))
        folder = named or (None if reason else own)
        if folder is None:
            reason = reason or Message("publishing.no_folder", host=self.host.name)
            raise UserError("publishing.no_place", "method", reason=reason, folder=run.artifacts)
        with self._lock:
            path = self._put(run, event, folder, own)
            is_listed = own is not None and path.parent == own
            if is_listed:
                self._refresh(run, event, path)
            title = self._select(run, event, path) if select and is_listed else ""
            self.revision += 1
            about = {"kind": kind, "path": str(path), "title": title, "selected": bool(title)}
            self._recent.append({"n": self.revision, "run": run.id, "name": event["name"], **about})
        with contextlib.suppress(OSError):  # a full disk; the model is there
            run.events.append("published", name=event["name"], step=event["step"], file=event["file"], **about)
        return path

    def unpublish(self, run: Run, event: dict[str, Any], path: Path) -> list[str]:
        """Remove one artifact from the host's folders; returns the names of what was deleted. Raises a Refusal."""
        with self._lock, staging.alone(path.parent):
            removed = unpublish.take_out(run.artifacts / event["file"], path, run.id)
            with self._told(run, "publishing.lists_after_removal", event):
                self.host.forget(event["kind"], path)
            self.revision += 1
        with contextlib.suppress(OSError):
            run.events.append("unpublished", name=event["name"], step=event["step"], file=event["file"], path=str(path))
        return removed

    def _put(self, run: Run, event: dict[str, Any], folder: Path, own: Path | None) -> Path:
        data = self.host.data_folder() if folder == own else None
        try:
            return model_files.publish(
                run.artifacts / event["file"],
                folder,
                run=run.id,
                name=run.config.name,
                data=data,
                versions=self.host.versions() if folder == own else None,
            )
        except UserError as error:
            about = {"file": event["file"], "reason": error.problem.message, "advice": error.problem.remedy}
            raise UserError("publishing.refused", error.problem.field, folder=run.artifacts, **about) from error
        except OSError as error:  # a full disk, or the old model is open (Windows)
            about = {"file": event["file"], "folder": folder, "error": error, "run_folder": run.artifacts}
            raise UserError("publishing.failed", "name", **about) from error

    def _refresh(self, run: Run, event: dict[str, Any], path: Path) -> None:
        with self._told(run, "publishing.lists", event):
            self.host.refresh(event["kind"], path)

    def _select(self, run: Run, event: dict[str, Any], path: Path) -> str:
        """The model's title in the host; "" if it could not be selected, or is no checkpoint."""
        if event["kind"] != "checkpoint":
            return ""
        with self._told(run, "publishing.not_selected", event):
            return self.host.select(path)
        return ""

    @contextlib.contextmanager
    def _told(self, run: Run, code: str, event: dict[str, Any]) -> Iterator[None]:
        """Turn errors inside into warnings: a host's code may raise anything, and the model is published."""
        try:
            yield
        except Exception as error:
            why = error.problem.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self._warn(run, Problem(code, file=event["file"], reason=why), None)

    def _warn(self, run: Run, problem: Problem, event: dict[str, Any] | None) -> None:
        """Append a warning event. event: the artifact that it settles, if any."""
        about = {"artifact": event["name"], "step": event["step"]} if event else {}
        with contextlib.suppress(OSError):
            run.events.append("warning", **problem.as_event(), **about)
