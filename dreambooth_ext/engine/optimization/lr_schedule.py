"""Learning rate schedules: diffusers' schedulers, and step schedules such as "2e-6:1000, 1e-6"."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers.optimization import get_scheduler

from ...core.config.rates import RATE_SETTINGS, example, is_schedule, parse_rate_schedule, value_at
from ...core.config.stages import ResolvedConfig
from ...core.config.unfit_value import Unfit
from ...core.errors import UserError
from ...core.messages.message import reason_of
from .parameter_group import ParameterGroup


class RateSchedule:
    """A learning rate as a function of the step only, so that resuming needs no saved scheduler state.

    spec: a number, which follows `config.lr_scheduler` over the run's `total` steps with diffusers' formulas; or a text
    such as "2e-6:1000, 1e-6". Raises UserError if the text cannot be parsed.
    """

    def __init__(self, spec: float | str, config: ResolvedConfig, total: int, field: str = "learning_rate"):
        try:
            self.pairs = parse_rate_schedule(spec)
        except Unfit as unfit:
            raise UserError(unfit.message.code, field, **unfit.message.values, advice=example(field)) from unfit
        self.total = total
        self.factor = None
        if not is_schedule(self.pairs) and self.pairs[0][0] > 0:
            self.factor = _factor(self.pairs[0][0], config, total)

    def at(self, step: int) -> float:
        """Return the learning rate after `step` finished steps: `at(0)` is the first step's."""
        rate = value_at(self.pairs, step)
        # Beyond its end, cosine would rise again.
        return rate * self.factor(min(step, self.total)) if self.factor else rate


def _factor(rate: float, config: ResolvedConfig, total: int):
    """Return diffusers' function from step to factor, which is only available through a scheduler with an optimizer."""
    carrier = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=rate)
    try:
        scheduler = get_scheduler(
            config.lr_scheduler,
            carrier,
            num_warmup_steps=config.lr_warmup_steps,
            num_training_steps=total,
            num_cycles=config.lr_num_cycles,
            power=config.lr_power,
        )
    except ValueError as error:
        known = {"scheduler": config.lr_scheduler, "error": reason_of(error)}
        raise UserError("training.scheduler_fails", "lr_scheduler", **known) from error
    return scheduler.lr_lambdas[0]


class RateSchedules:
    """The schedules of an optimizer's parameter groups, by group name."""

    def __init__(self, config: ResolvedConfig, groups: Iterable[ParameterGroup], total: int):
        self.by_name = {
            group["name"]: RateSchedule(
                group["rate"], config, total, RATE_SETTINGS.get(group["name"].removesuffix("_up"), "learning_rate")
            )
            for group in groups
        }

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> dict[str, float]:
        """Set each group's learning rate for the step after `step` finished ones. Returns the learning rates by group
        name."""
        for group in optimizer.param_groups:
            group["lr"] = self.by_name[group["name"]].at(step)
        return {group["name"]: group["lr"] for group in optimizer.param_groups}
