"""What the user of a host wants done with a run: `host.json` in the run's folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .. import files
from ..errors import UserError
from ..runs import Run

SELECT = ("final", "every", "never")
WHILE_TRAINING = ("refuse", "wait", "share")


@dataclass(frozen=True)
class Wishes:
    """A run with a `host.json` is a host's to start, to follow and to publish; one without belongs to a terminal."""

    publish: bool = True  # put its last model into the host's folders
    intermediate: bool = False  # those of saves on the way, too
    select: str = "final"  # which of those the host is to use at once: the run's last model, every one, none
    while_training: str = "wait"  # what `Host.handed_over` does with the host's own models and its users meanwhile
    total: int | None = None  # train up to this step in all; None: as the run's settings say
    # --- the dispatcher's notes
    since: int = 0  # only what the events after this number announce is published
    before: dict[str, Any] | None = None  # status and problem of a run that was put into the queue again
    settled: bool = False  # it has ended, and all that was to be done about it is done

    def __post_init__(self) -> None:
        if self.select not in SELECT:
            raise UserError("select", f"cannot be '{self.select}'.", f"Choose one of {', '.join(SELECT)}.")
        if self.while_training not in WHILE_TRAINING:
            choices = ", ".join(WHILE_TRAINING)
            raise UserError("while_training", f"cannot be '{self.while_training}'.", f"Choose one of {choices}.")
        flags, nothing = ("publish", "intermediate", "settled"), type(None)
        kinds = {**dict.fromkeys(flags, bool), "total": (int, nothing), "since": int, "before": (dict, nothing)}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise UserError(name, f"cannot be {getattr(self, name)!r}.", "Leave it out.")

    def but(self, **changes: Any) -> Wishes:
        return dataclasses.replace(self, **changes)

    def wants(self, artifact: dict[str, Any]) -> bool:
        """Whether a model is to be published: the last one, with which the run ends or its user stops it, or all."""
        return self.publish and (self.intermediate or self.select == "every" or is_last(artifact))

    def wants_selected(self, artifact: dict[str, Any]) -> bool:
        return self.select == "every" or (self.select == "final" and is_last(artifact))

    def write(self, run: Run) -> None:
        files.write_json(run.path / "host.json", dataclasses.asdict(self))


def is_last(artifact: dict[str, Any]) -> bool:
    return bool(artifact["final"] or artifact.get("stops"))


def read(run: Run) -> Wishes | None:
    """The run's wishes; None for a run that no host has to do with, or whose host.json is damaged."""
    try:
        content = files.read_json(run.path / "host.json")
        known = {field.name for field in dataclasses.fields(Wishes)}
        return Wishes(**{key: value for key, value in content.items() if key in known})
    except (OSError, ValueError, AttributeError, TypeError, UserError):
        return None
