"""A run's publishing options, `host.json` in its folder: what to do with it and its models."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..system import files
from . import events
from .run_folder import Run

SELECT = ("final", "every", "never")
WHILE_TRAINING = ("refuse", "wait", "share")


@dataclass(frozen=True)
class JobOptions:
    """The content of `host.json`. A run without one was started in a terminal, and no host publishes its models."""

    publish: bool = True  # put its last model into the host's folders
    intermediate: bool = False  # those of saves on the way, too
    select: str = "final"  # which of those the host is to use at once: the run's last model, every one, none
    while_training: str = "wait"  # what `Host.handed_over` does with the host's own models and its users meanwhile
    total: int | None = None  # train up to this step in all; None: as the run's settings say
    folders: dict[str, str] | None = None  # by kind, those that --webui or --output-dir named; None: the host's own
    # --- the dispatcher's and the command line's notes
    host_folders: dict[str, str] | None = None  # of the host that it was queued in, for who resumes it in a terminal
    by_terminal: bool = False  # started there: no host starts or adopts it, one may publish what it left
    since: int = 0  # only what the events after this number announce is published
    before: dict[str, Any] | None = None  # status and problem of a run that was put into the queue again
    settled: bool = False  # it has ended, and all that was to be done about it is done

    def __post_init__(self) -> None:
        if self.select not in SELECT:
            raise UserError("runs.bad_choice", "select", value=self.select, choices=list(SELECT))
        if self.while_training not in WHILE_TRAINING:
            choices = list(WHILE_TRAINING)
            raise UserError("runs.bad_choice", "while_training", value=self.while_training, choices=choices)
        nothing = type(None)
        kinds: dict[str, Any] = dict.fromkeys(("publish", "intermediate", "settled", "by_terminal"), bool)
        kinds |= {"total": (int, nothing), "since": int}
        kinds |= dict.fromkeys(("before", "folders", "host_folders"), (dict, nothing))
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise UserError("runs.bad_value", name, value=repr(getattr(self, name)))

    def but(self, **changes: Any) -> JobOptions:
        return dataclasses.replace(self, **changes)

    def with_intermediate(self, intermediate: bool) -> JobOptions:
        """The options with intermediate models on or off; if off, "every" becomes "final", since a model is only
        selected when published."""
        select = "final" if self.select == "every" and not intermediate else self.select
        return self.but(intermediate=intermediate, select=select)

    def wants(self, artifact: dict[str, Any]) -> bool:
        """Whether a model is to be published."""
        return events.wants(vars(self), artifact)

    def wants_selected(self, artifact: dict[str, Any]) -> bool:
        return self.select == "every" or (self.select == "final" and is_last(artifact))

    def folder(self, kind: str) -> Path | None:
        """The folder that the command line named for models of this kind; None to use the host's own."""
        named = (self.folders or {}).get(kind)
        return Path(named) if isinstance(named, str) else None

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def write(self, run: Run) -> None:
        run.check_exists()
        files.write_json(run.path / "host.json", self.as_dict())


def is_last(artifact: dict[str, Any]) -> bool:
    return bool(artifact["final"] or artifact.get("stops"))


def read(run: Run) -> JobOptions | None:
    """The run's options; None if it has no readable host.json, so that no host handles it."""
    try:
        content = files.read_json(run.path / "host.json")
        known = {field.name for field in dataclasses.fields(JobOptions)}
        return JobOptions(**{key: value for key, value in content.items() if key in known})
    except (OSError, ValueError, AttributeError, TypeError, UserError):
        return None


def stamp(run: Run) -> int:
    """A number that changes with each `write`; 0 if there is no file."""
    try:
        return (run.path / "host.json").stat().st_mtime_ns
    except OSError:
        return 0
