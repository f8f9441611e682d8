"""Parses and checks learning rates: a number, or a schedule as in the WebUI, "2e-6:1000, 1e-6"."""

from __future__ import annotations

import math

from ..errors import Problem
from ..facts.optimizer_facts import optimizer_facts
from ..messages.message import Message
from .run_config import RunConfig
from .unfit_value import Unfit

# group of the optimizer -> its setting; "unet_up" and the like, LoRA+'s faster halves, follow theirs
RATE_SETTINGS = {"unet": "learning_rate", "text_encoder": "text_encoder_lr", "text_encoder_2": "text_encoder_2_lr"}
RATE_SETTINGS["embedding"] = "embedding_lr"
POLYNOMIAL_END = 1e-7  # where diffusers' polynomial schedule ends


def parse_rate_schedule(text: str | float) -> list[tuple[float, int | None]]:
    """Parse a rate or schedule into (rate, last step) pairs; only the last step may be None, the end of the run.

    As in the WebUI, the first pair "2e-6:1000" covers steps 1 to 1000, and step -1 means the end of the run. Raises
    Unfit; `example` of the setting is its advice.
    """
    pairs: list[tuple[float, int | None]] = []
    for pair in str(text).split(","):
        if not pair.strip():
            continue
        rate, _, step = pair.partition(":")
        if pairs and pairs[-1][1] is None:
            raise Unfit("rates.not_reached", pair=pair.strip())
        until = _step(step.strip(), pair) if ":" in pair else None
        if until is not None and until <= (pairs[-1][1] or 0 if pairs else 0):
            raise Unfit("rates.not_ascending", step=until, pair=pair.strip())
        pairs.append((_rate(rate.strip(), pair), until))
    if not pairs:
        raise Unfit("rates.empty")
    return pairs


def example(setting: str) -> Message:
    """An example of a schedule, for error messages about this setting."""
    return Message("rates.example_norm") if setting == "max_grad_norm" else Message("rates.example")


def is_zero(rate: str | float | None) -> bool:
    """Whether a rate, or every rate of a schedule, is 0. False for None and for text that is no rate."""
    try:
        return rate is not None and not any(value for value, _ in parse_rate_schedule(rate))
    except ValueError:
        return False


def value_at(pairs: list[tuple[float, int | None]], step: int) -> float:
    """The value of a schedule in the step that follows `step` finished steps."""
    return next((value for value, until in pairs if until is None or step < until), pairs[-1][0])


def scaled(text: str | float, factor: float) -> str | float:
    """A rate, or every rate of a schedule, multiplied by a factor."""
    if not isinstance(text, str):
        return text * factor
    pairs = parse_rate_schedule(text)
    return ", ".join(f"{rate * factor}" + ("" if until is None else f":{until}") for rate, until in pairs)


def is_schedule(pairs: list[tuple[float, int | None]]) -> bool:
    """Whether the pairs change the rate at some step, rather than being one fixed rate."""
    return len(pairs) > 1 or pairs[0][1] is not None


def rate_problems(config: RunConfig, total: int | None = None) -> list[Problem]:
    """Problems with a config's learning rates and scheduler. total: the run's steps, if known."""
    problems, rates = [], {}
    for name in RATE_SETTINGS.values():
        spec = getattr(config, name)
        try:
            if spec is not None:
                rates[name] = parse_rate_schedule(spec)
        except Unfit as unfit:
            problems.append(unfit.problem(name, example(name)))
    try:
        parse_rate_schedule(config.max_grad_norm)
    except Unfit as unfit:
        problems.append(unfit.problem("max_grad_norm", example("max_grad_norm")))
    for name, pairs in rates.items():
        problems += _schedule_problems(name, pairs, config, total)
    problems += _option_problems(config, total)
    if optimizer_facts(config.optimizer).finds_rate:
        problems += _factor_problems(config, rates)
    if optimizer_facts(config.optimizer).averages:
        problems += _falling_problems(config, rates)
    trained = rates if config.text_encoder_steps != 0 else {k: v for k, v in rates.items() if k == "learning_rate"}
    if "learning_rate" in trained and not any(rate for pairs in trained.values() for rate, _ in pairs):
        problems.append(Problem("rates.zero", "learning_rate"))
    return problems


def _schedule_problems(
    name: str, pairs: list[tuple[float, int | None]], config: RunConfig, total: int | None
) -> list[Problem]:
    """Check one setting's schedule against `lr_scheduler` and the run's length."""
    problems = []
    if is_schedule(pairs):
        if config.lr_scheduler != "constant":
            beside = Problem("rates.scheduler_beside", "lr_scheduler", scheduler=config.lr_scheduler, setting=name)
            problems.append(beside)
        end = pairs[-1][1]
        if total is not None and end is not None and end < total:
            problems.append(Problem("rates.ends_early", name, end=end, total=total))
    elif config.lr_scheduler == "polynomial" and 0 < pairs[0][0] <= POLYNOMIAL_END:
        problems.append(Problem("rates.polynomial_end", name, end=POLYNOMIAL_END, rate=pairs[0][0]))
    return problems


def _option_problems(config: RunConfig, total: int | None) -> list[Problem]:
    """Check the options that only some schedulers use: none may be set without effect."""
    problems, kind = [], config.lr_scheduler
    if config.lr_warmup_steps and kind == "constant":
        problems.append(Problem("rates.warmup_unused", "lr_warmup_steps"))
    elif total is not None and config.lr_warmup_steps >= total:
        problems.append(Problem("rates.warmup_long", "lr_warmup_steps", total=total))
    if config.lr_num_cycles != 1 and kind != "cosine_with_restarts":
        problems.append(Problem("rates.cycles_unused", "lr_num_cycles", scheduler=kind))
    if config.lr_power != 1 and kind != "polynomial":
        problems.append(Problem("rates.power_unused", "lr_power", scheduler=kind))
    return problems


def _factor_problems(config: RunConfig, rates: dict[str, list[tuple[float, int | None]]]) -> list[Problem]:
    """An optimizer that finds the rate multiplies it by the setting: one factor for all groups (0 for some)."""
    optimizer = optimizer_facts(config.optimizer).class_name
    trained = list(rates) if config.text_encoder_steps != 0 else [name for name in rates if name == "learning_rate"]
    problems = []
    for name in trained:
        highest = max(rate for rate, _ in rates[name])
        if highest and not 0.1 <= highest <= 10:
            problems.append(Problem("rates.far_from_1", name, optimizer=optimizer, rate=highest))
    used = [rates[name] for name in trained if any(rate for rate, _ in rates[name])]
    if any(pairs != used[0] for pairs in used):
        problems.append(Problem("rates.one_for_all", "text_encoder_lr", optimizer=optimizer))
    return problems


def _falling_problems(config: RunConfig, rates: dict[str, list[tuple[float, int | None]]]) -> list[Problem]:
    """Averages take the place of a rate that changes: an optimizer that makes them needs a constant one."""
    optimizer = optimizer_facts(config.optimizer).class_name
    problems = []
    if config.lr_scheduler != "constant":
        problems.append(
            Problem("rates.averages_scheduler", "lr_scheduler", optimizer=optimizer, scheduler=config.lr_scheduler)
        )
    changing = [name for name, pairs in rates.items() if is_schedule(pairs)]
    return problems + [Problem("rates.averages_schedule", name, optimizer=optimizer) for name in changing]


def _rate(text: str, pair: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise Unfit("rates.not_number", text=text, pair=pair.strip()) from None
    if not (math.isfinite(rate) and rate >= 0):
        raise Unfit("rates.negative", text=text)
    return rate


def _step(text: str, pair: str) -> int | None:
    try:
        step = int(text)
    except ValueError:
        raise Unfit("rates.not_step", text=text, pair=pair.strip()) from None
    return None if step == -1 else step
