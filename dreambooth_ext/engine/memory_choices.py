"""Choose what the settings left open so that a run fits the card, what costs least first; a run that goes on keeps what
was chosen."""

from __future__ import annotations

from typing import Any

import torch

from ..core.checks.kept_gradients import BEFORE, could_be_freed
from ..core.config.run_config import RunConfig
from ..core.config.stages import CompletedConfig, ResolvedConfig
from ..core.data.concepts import Subjects
from ..core.errors import Problem
from ..core.facts.methods import CHECKPOINT_METHODS
from ..core.facts.optimizer_facts import AUTO, SMALLEST
from ..core.runs.run_folder import Run
from ..core.system import files
from .memory_estimate import estimate
from .models.base import Base
from .runtime import distributed, memory
from .training import training_state

# Of runs whose plan does not say
ONCE = {"weight_precision": "fp32", "frozen_precision": "bf16", "clip_grad_mode": "norm"}


def fitted(asked: RunConfig, resolved: ResolvedConfig, base: Base) -> ResolvedConfig:
    """Return the resolved config with the cheapest choices by which it fits its card's memory; with all of them if none
    suffice. Settings that `asked` names are left alone, and on a CPU everything is."""
    if not resolved.device.startswith("cuda") or resolved.method not in CHECKPOINT_METHODS:
        return resolved
    total = memory.total(torch.device(resolved.device))
    subjects = Subjects.of(resolved)
    for choice in _choices(asked, resolved):
        if estimate(resolved, base, subjects, draws=False) <= total:
            break
        resolved = resolved.replace(**choice)
    return resolved


def warnings(asked: RunConfig, resolved: ResolvedConfig) -> list[Problem]:
    """Say what was chosen so that the run fits, and why."""
    saving: dict[str, Any] = {
        "vae_tiling": "on",
        "clip_grad_mode": BEFORE,
        "weight_precision": "bf16",
        "optimizer": SMALLEST,
    }
    made = [
        f"{name} {value}"
        for name, value in saving.items()
        if getattr(asked, name) == AUTO and getattr(resolved, name) == value
    ]
    if not made:
        return []
    total = files.human_size(memory.total(torch.device(resolved.device)))
    return [Problem("plan.chosen_to_fit", "device", total=total, device=resolved.device, choices=", ".join(made))]


def _choices(asked: RunConfig, resolved: ResolvedConfig) -> list[dict[str, Any]]:
    """What may be chosen to save memory, the cheapest first: gradients that are not kept cost nothing, random rounding
    a little time, and a factored optimizer state some of its exactness."""
    is_open = {name: getattr(asked, name) == AUTO for name in ("clip_grad_mode", "weight_precision", "optimizer")}
    found: list[dict[str, Any]] = []
    frees = could_be_freed(resolved, distributed.processes())
    if is_open["clip_grad_mode"] and frees:
        found.append({"clip_grad_mode": BEFORE})
    if is_open["weight_precision"] and resolved.mixed_precision == "bf16":
        found.append({"weight_precision": "bf16"})
    if is_open["optimizer"]:
        found.append({"optimizer": SMALLEST})
    return found


def with_choices(run: Run) -> CompletedConfig:
    """Return the run's config with what its training states were made with where it says "auto": on another machine or
    in an older version that may mean something else, and their optimizer's state could not be loaded."""
    config, noted = run.completed(), run.state().get("plan") or {}
    if not training_state.found(run.checkpoints):
        return config
    made_with = {"optimizer": noted.get("optimizer"), **{name: noted.get(name, once) for name, once in ONCE.items()}}
    is_open = {name: known for name, known in made_with.items() if getattr(config, name) == AUTO and known}
    return config.replace(**is_open)
