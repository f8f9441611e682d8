"""Choose what the settings left open so that a run fits the card's free memory and is the fastest that does. A run that
goes on keeps what was chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..core.checks.kept_gradients import BEFORE, could_be_freed
from ..core.config.offload import offload_share
from ..core.config.run_config import RunConfig
from ..core.config.stages import CompletedConfig, ResolvedConfig
from ..core.data.concepts import Subjects
from ..core.errors import Problem
from ..core.facts.distribution import DIVIDED
from ..core.facts.methods import CHECKPOINT_METHODS, FROZEN_METHODS, PROMPTED_METHODS, WHOLE_METHODS
from ..core.facts.optimizer_facts import AUTO, SMALL, SMALLEST
from ..core.messages.message import Message
from ..core.runs.run_folder import Run
from ..core.system import files
from .memory_estimate import estimate, outside
from .models.base import Base
from .optimization.optimizer_creation import choose_optimizer
from .quantisation.packings import missing_packing
from .runtime import memory
from .streaming import conditions
from .training import training_state

# Of runs whose plan does not say
ONCE = {"weight_precision": "fp32", "frozen_precision": "bf16", "clip_grad_mode": "norm"}
# Without gradient checkpointing a card's allocator has many tensors of different sizes to place, and leaves gaps
GAPS = 1.1


@dataclass(frozen=True)
class Choice:
    """A value for a setting that was left open, which saves memory. cost: code of the message that says what else it
    does."""

    setting: str
    value: Any
    cost: str


# What may be chosen, what costs least first
CHOICES = (
    Choice("clip_grad_mode", BEFORE, "plan.costs_clip_grad_mode"),
    Choice("vae_tiling", "on", "plan.costs_vae_tiling"),
    Choice("gradient_checkpointing", True, "plan.costs_gradient_checkpointing"),
    Choice("weight_precision", "bf16", "plan.costs_weight_precision"),
    Choice("optimizer", SMALL, "plan.costs_optimizer_small"),
    Choice("optimizer", SMALLEST, "plan.costs_optimizer_smallest"),
    Choice("frozen_precision", "int8", "plan.costs_frozen_int8"),
    Choice("frozen_precision", "nf4", "plan.costs_frozen_nf4"),
    Choice("offload", "0.5", "plan.costs_offload"),
    Choice("offload", "1", "plan.costs_offload"),
)


def fitted(asked: RunConfig, resolved: ResolvedConfig, base: Base) -> ResolvedConfig:
    """Return the resolved config with the choices by which it fits its card's memory at the least cost: what is free of
    it, else all of it, which others may still give back. With all choices if none suffice. Settings that `asked` names
    are left alone, and on a CPU everything is."""
    if not resolved.device.startswith("cuda"):
        return resolved
    device, subjects = torch.device(resolved.device), Subjects.of(resolved)
    draws = subjects.uses_prior(resolved)
    open_ = {c.setting: getattr(asked, c.setting) in (AUTO, None) for c in CHOICES}
    if open_["gradient_checkpointing"]:
        resolved = resolved.replace(gradient_checkpointing=False)
    choices = [choice for choice in CHOICES if open_[choice.setting] and _is_of_use(choice, resolved)]

    def has_place(config: ResolvedConfig) -> bool:
        return not conditions.problems(config) and outside(config, base) <= memory.spare()

    for room in sorted({memory.free(device), memory.total(device)}):

        def fits(config: ResolvedConfig, room: int = room) -> bool:
            if not has_place(config):
                return False
            need = estimate(config, base, subjects, draws=draws and config.vae_tiling == "off")
            return need * (1 if config.gradient_checkpointing else GAPS) <= room

        if (found := _least(resolved, choices, fits)) is not None:
            return found
    if not has_place(_with(resolved, choices)):
        choices = [choice for choice in choices if choice.setting != "offload"]
    return _with(resolved, choices)


def _least(
    config: ResolvedConfig, choices: list[Choice], fits: Callable[[ResolvedConfig], bool]
) -> ResolvedConfig | None:
    """Return the config with the choices that make it fit, or None if all together do not. They are made one after the
    other; then those are taken back, the costliest first, without which it fits as well."""
    made: list[Choice] = []
    left = iter(choices)
    while not fits(_with(config, made)):
        if (choice := next(left, None)) is None:
            return None
        made.append(choice)
    for choice in reversed(made[:-1]):
        fewer = [other for other in made if other is not choice]
        if fits(_with(config, fewer)):
            made = fewer
    return _with(config, made)


def _with(config: ResolvedConfig, choices: list[Choice]) -> ResolvedConfig:
    return config.replace(**{choice.setting: choice.value for choice in choices})


def _is_of_use(choice: Choice, resolved: ResolvedConfig) -> bool:
    """Whether a choice can be made for this run, and may save memory."""
    if resolved.distribution in DIVIDED and choice.setting not in ("vae_tiling", "gradient_checkpointing"):
        return False
    is_whole = resolved.method in WHOLE_METHODS
    if choice.setting == "clip_grad_mode":
        return could_be_freed(resolved)
    if choice.setting == "vae_tiling":
        return resolved.method in PROMPTED_METHODS
    if choice.setting == "weight_precision":
        return resolved.method in CHECKPOINT_METHODS and resolved.mixed_precision == "bf16"
    if choice.setting == "frozen_precision":
        can = resolved.method in FROZEN_METHODS and resolved.mixed_precision != "no"
        return can and missing_packing(choice.value, resolved.device) is None
    if choice.setting == "offload":
        return resolved.method in PROMPTED_METHODS and resolved.processes == 1
    if choice.value == SMALL:  # whole models have it already, where it works
        return not is_whole and choose_optimizer("dreambooth", torch.device("cuda")) == SMALL
    return is_whole if choice.value == SMALLEST else True


def warnings(asked: RunConfig, resolved: ResolvedConfig) -> list[Problem]:
    """Say what was chosen so that the run fits, why, and what it costs."""
    if not resolved.device.startswith("cuda"):
        return []
    usual = {SMALL} if resolved.method in WHOLE_METHODS else set()  # where it works
    made = [
        choice
        for choice in CHOICES
        if getattr(asked, choice.setting) in (AUTO, None)
        and not (choice.setting == "clip_grad_mode" and offload_share(asked.offload))  # it needs that
        and getattr(resolved, choice.setting) == choice.value
        and choice.value not in usual
    ]
    if {choice.setting for choice in made} <= {"gradient_checkpointing"}:  # as usual
        return []
    device = torch.device(resolved.device)
    known: dict[str, Any] = {"device": resolved.device, "choices": [*map(_told, made)]}
    known |= {"free": files.human_size(memory.free(device)), "total": files.human_size(memory.total(device))}
    return [Problem("plan.chosen_to_fit", "device", **known)]


def _told(choice: Choice) -> Message:
    value = {True: "on"}.get(choice.value, choice.value)
    return Message(choice.cost, value=value)


def with_choices(run: Run) -> CompletedConfig:
    """Return the run's config with what its training states were made with where it says "auto": on another machine or
    in an older version that may mean something else, and their optimizer's state could not be loaded."""
    config, noted = run.completed(), run.state().get("plan") or {}
    if not training_state.found(run.checkpoints):
        return config
    made_with = {"optimizer": noted.get("optimizer"), **{name: noted.get(name, once) for name, once in ONCE.items()}}
    is_open = {name: known for name, known in made_with.items() if getattr(config, name) == AUTO and known}
    return config.replace(**is_open)
