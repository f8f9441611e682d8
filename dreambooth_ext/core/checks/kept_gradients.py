"""Whether a step needs all gradients in memory at once, or each can be used and freed as soon as it is complete."""

from __future__ import annotations

from ..config import devices
from ..config.rates import is_zero
from ..config.run_config import RunConfig
from ..facts.optimizer_facts import optimizer_facts

BEFORE = "previous_norm"  # the setting `clip_grad_mode` with which clipping does not need them all


def are_kept(config: RunConfig) -> bool:
    """Whether all gradients have to be kept, however they are clipped: they are added up over batches, fp16's loss
    scale looks at all of them before any is used, they are averaged over processes, or the optimizer asks for all."""
    return (
        config.gradient_accumulation_steps > 1
        or config.mixed_precision == "fp16"
        or not optimizer_facts(config.optimizer).steps_alone
        or devices.processes(config.device, config.processes) > 1
    )


def are_freed(config: RunConfig) -> bool:
    """Whether the optimizer steps within the backward pass, after which each gradient is freed."""
    clips_at_once = not is_zero(config.max_grad_norm) and config.clip_grad_mode != BEFORE
    return not clips_at_once and not are_kept(config)


def could_be_freed(config: RunConfig) -> bool:
    """Whether clipping by the norm of the step before would free them, and now they are not."""
    return not are_freed(config) and are_freed(config.replace(clip_grad_mode=BEFORE))
