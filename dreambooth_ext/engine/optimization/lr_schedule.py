"""The learning rate as a function of the step: diffusers' schedules, and rates with the steps that they are for."""

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
    """A learning rate as a function of the step and of nothing else, so that resuming has nothing to restore.

    spec: a number, which goes over the run's `total` steps as `config.lr_scheduler` says, with diffusers' own
    formulas; or a text, "2e-6:1000, 1e-6". Raises UserError for a text that cannot be read.
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
        """The rate of the step that follows `step` finished ones: `at(0)` is the first step's."""
        rate = value_at(self.pairs, step)
        # Beyond its end, cosine would rise again.
        return rate * self.factor(min(step, self.total)) if self.factor else rate


def _factor(rate: float, config: ResolvedConfig, total: int):
    """diffusers' function from step to factor. It comes only with an optimizer around it."""
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
    """The schedules of an optimizer's groups, each under its group's name."""

    def __init__(self, config: ResolvedConfig, groups: Iterable[ParameterGroup], total: int):
        self.by_name = {
            group["name"]: RateSchedule(
                group["rate"], config, total, RATE_SETTINGS.get(group["name"].removesuffix("_up"), "learning_rate")
            )
            for group in groups
        }

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> dict[str, float]:
        """Give each group its rate for the step after `step` finished ones. Returns them by name."""
        for group in optimizer.param_groups:
            group["lr"] = self.by_name[group["name"]].at(step)
        return {group["name"]: group["lr"] for group in optimizer.param_groups}
