"""What cannot work where each process steps only a part of the weights (`distribution` fsdp, zero1 and zero2)."""

from __future__ import annotations

from typing import Any

from ..config.offload import offload_problems, offload_share
from ..config.run_config import RunConfig
from ..errors import Problem
from ..facts.distribution import DDP, DIVIDED, FSDP, STAGES
from ..facts.methods import WHOLE_METHODS, title
from ..facts.optimizer_facts import OPTIMIZERS, optimizer_facts
from .kept_gradients import BEFORE


def steps_parts(optimizer: str) -> bool:
    """Whether an optimizer's step of a part of a weight is a part of its step of the weight: it steps each number by
    itself, and keeps no state in 8 bits, whose blocks would be other ones."""
    facts = optimizer_facts(optimizer)
    return facts.is_elementwise and not facts.small_form_of


def problems(config: RunConfig) -> list[Problem]:
    """Return why the settings cannot be trained with parts of a model."""
    if config.distribution not in DIVIDED:
        return []
    shares: dict[str, Any] = {"distribution": config.distribution, "other": DDP}
    if config.method not in WHOLE_METHODS:
        return [Problem("sharding.method", "distribution", method=title(config.method), **shares)]
    found, is_zero = [], config.distribution in STAGES
    if not steps_parts(config.optimizer):
        known = [name for name in OPTIMIZERS if steps_parts(name)]
        found.append(Problem("sharding.optimizer", "optimizer", optimizer=config.optimizer, known=known, **shares))
    for setting, is_wrong, code in (
        ("weight_precision", config.weight_precision == "bf16", "sharding.weight_precision"),
        ("mixed_precision", config.mixed_precision == "fp16", "sharding.fp16"),
        ("clip_grad_mode", config.clip_grad_mode == BEFORE, "sharding.clip_grad_mode"),
        ("offload", not offload_problems(config.offload) and offload_share(config.offload) > 0, "sharding.offload"),
        ("compile", config.compile == "on", "sharding.compile_zero" if is_zero else "sharding.compile"),
        (
            "masked_prior_preservation_weight",
            config.masked_prior_preservation_weight > 0 and config.distribution == FSDP,
            "sharding.base_target",
        ),
    ):
        if is_wrong:
            found.append(Problem(code, setting, **shares))
    return found
