"""Distributed training of one run, with a process per graphics card, on one machine or several.

Started by the launcher (`launching`), by `torchrun --nproc-per-node 2 -m dreambooth_ext.engine.worker RUN`, or by
`accelerate launch`. All processes take the same steps on different pictures; only the first one reports, takes
commands, draws and writes files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list, gather_object, reduce

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem, UserError
from ...core.runs.launch_place import SPLITTING

Thing = TypeVar("Thing")
LAUNCHED_WITH = {  # environment variable: the run's own setting, and the variable's default
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("gradient_accumulation_steps", "1"),
    "ACCELERATE_MIXED_PRECISION": ("mixed_precision", "no"),
    "ACCELERATE_USE_CPU": ("device", "false"),
    "ACCELERATE_DYNAMO_BACKEND": ("", "no"),
}


def launched() -> bool:
    """Whether a launcher started this process as one of several, according to the environment."""
    return "LOCAL_RANK" in os.environ


def processes() -> int:
    """How many processes train the run together, according to the environment."""
    return int(os.environ.get("WORLD_SIZE", "1")) if launched() else 1


def is_first() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def require_plain_launch() -> None:
    """Raise UserError if `accelerate launch` is configured to split the model: only the run's own setting does that."""
    for variable, name in SPLITTING.items():
        if _is_on(variable):
            raise UserError("device.split_model", "device", name=name)


def drop_settings(config: ResolvedConfig) -> list[Problem]:
    """Remove what `accelerate launch` configures for training, since only the run's own settings count. Returns a
    warning for each that differed."""
    found = []
    for variable, (field, usual) in LAUNCHED_WITH.items():
        value = os.environ.pop(variable, "")
        is_cpu = field == "device" and config.device == "cpu"
        if not value or is_cpu or value.lower() in (usual, str(getattr(config, field, ""))):
            continue
        known: dict[str, Any] = {"variable": variable, "value": value}
        if field:
            found.append(Problem("device.launch_ignored_for_setting", field, setting=field, **known))
        else:
            found.append(Problem("device.launch_ignored", **known))
    return found


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")


def mean(number: float, device: torch.device) -> float:
    """Return the mean of a number over all processes, in the precision of Python's numbers."""
    return float(reduce(torch.tensor(number, dtype=torch.float64, device=device), "mean"))


def of_all(thing: Thing) -> list[Thing]:
    """Return what each process gives, in the order of their ranks. All of them have to come here."""
    return gather_object([thing])


def of_first(thing: Thing) -> Thing:
    """Return what the first process gives, in all processes."""
    box = [thing]
    broadcast_object_list(box)
    return box[0]


@dataclass(frozen=True)
class Company:
    """The processes that do something together, as one of them sees it."""

    rank: int = 0
    world: int = 1

    def of_all(self, thing: Thing) -> list[Thing]:
        """Return what each process gives, in the order of their ranks. All of them have to come here."""
        return [thing] if self.world == 1 else of_all(thing)
