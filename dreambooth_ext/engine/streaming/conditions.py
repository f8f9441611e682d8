"""What has to hold so that blocks of the UNet can live in the computer's memory."""

from __future__ import annotations

from ...core.checks.kept_gradients import are_freed
from ...core.config.offload import offload_share
from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem
from ...core.facts.methods import WHOLE_METHODS
from ...core.facts.optimizer_facts import SMALL, optimizer_facts
from ...core.messages.message import Message


def problems(config: ResolvedConfig) -> list[Problem]:
    """Return why blocks cannot live in the computer's memory: the device, and what needs all gradients or states of
    trained weights at once. Of a run that several processes train, too."""
    if not offload_share(config.offload):
        return []
    if not config.device.startswith("cuda"):
        return [Problem("plan.offload_no_card", "offload", device=config.device)]
    facts = optimizer_facts(config.optimizer)
    if config.method not in WHOLE_METHODS:
        return []
    if not facts.steps_alone:
        return [Problem("plan.offload_optimizer", "optimizer", optimizer=config.optimizer)]
    if facts.is_paged:
        return [Problem("plan.offload_paged", "optimizer", optimizer=config.optimizer, other=SMALL)]
    if facts.averages:
        return [Problem("plan.offload_averages", "optimizer", optimizer=config.optimizer)]
    if config.gradient_accumulation_steps > 1:
        reason = Message("plan.offload_kept_accumulation")
        return [Problem("plan.offload_kept", "gradient_accumulation_steps", reason=reason)]
    if config.processes > 1:
        return [Problem("training.offload_processes", "offload")]
    if config.mixed_precision == "fp16":
        return [Problem("plan.offload_kept", "mixed_precision", reason=Message("plan.offload_kept_fp16"))]
    return [] if are_freed(config) else [Problem("plan.offload_gradients", "clip_grad_mode")]
