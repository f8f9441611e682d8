"""Learning rates as users write them: a number, or the WebUI's "2e-6:1000, 1e-6"."""

from __future__ import annotations

import math

from ..errors import Problem
from ..facts.optimizer_facts import optimizer_facts
from .run_config import RunConfig

# group of the optimizer -> its setting; "unet_up" and the like, LoRA+'s faster halves, follow theirs
RATE_SETTINGS = {"unet": "learning_rate", "text_encoder": "text_encoder_lr", "text_encoder_2": "text_encoder_2_lr"}
RATE_SETTINGS["embedding"] = "embedding_lr"
POLYNOMIAL_END = 1e-7  # where diffusers' polynomial schedule ends
CLIP_EXAMPLE = "Write one number, or '1:500, 0.1': 1 for the first 500 steps, then 0.1."
EXAMPLE = "Write one number, or '2e-6:1000, 1e-6': 2e-6 for the first 1000 steps, then 1e-6."


def parse_rate_schedule(text: str | float) -> list[tuple[float, int | None]]:
    """(rate, step that it ends at) in order; only the last may have None, which is the end of the run.

    As in the WebUI, the first pair "2e-6:1000" covers the steps 1 to 1000, and the step -1 is the end of the run.
    Raises ValueError with a sentence for the user.
    """
    pairs: list[tuple[float, int | None]] = []
    for pair in str(text).split(","):
        if not pair.strip():
            continue
        rate, _, step = pair.partition(":")
        if pairs and pairs[-1][1] is None:
            raise ValueError(f"'{pair.strip()}' is never reached: the rate before it has no step.")
        until = _step(step.strip(), pair) if ":" in pair else None
        if until is not None and until <= (pairs[-1][1] or 0 if pairs else 0):
            raise ValueError(f"step {until} in '{pair.strip()}' must be above 0 and above the one before it.")
        pairs.append((_rate(rate.strip(), pair), until))
    if not pairs:
        raise ValueError("has no rate in it.")
    return pairs


def is_zero(rate: str | float | None) -> bool:
    """Whether a rate, or each of a schedule, is 0; not for what is left out or no rate."""
    try:
        return rate is not None and not any(value for value, _ in parse_rate_schedule(rate))
    except ValueError:
        return False


def value_at(pairs: list[tuple[float, int | None]], step: int) -> float:
    """Of a schedule, what holds in the step that follows `step` finished ones."""
    return next((value for value, until in pairs if until is None or step < until), pairs[-1][0])


def scaled(text: str | float, factor: float) -> str | float:
    """A rate, or a schedule of rates, times a number."""
    if not isinstance(text, str):
        return text * factor
    pairs = parse_rate_schedule(text)
    return ", ".join(f"{rate * factor}" + ("" if until is None else f":{until}") for rate, until in pairs)


def is_schedule(pairs: list[tuple[float, int | None]]) -> bool:
    """Whether the text said when to change, rather than only how fast to go."""
    return len(pairs) > 1 or pairs[0][1] is not None


def rate_problems(config: RunConfig, total: int | None = None) -> list[Problem]:
    """What is wrong with a config's rates and their schedule. total: the run's steps, where they are known."""
    problems, rates = [], {}
    for name in RATE_SETTINGS.values():
        spec = getattr(config, name)
        try:
            if spec is not None:
                rates[name] = parse_rate_schedule(spec)
        except ValueError as error:
            problems.append(Problem(name, str(error), EXAMPLE))
    try:
        parse_rate_schedule(config.max_grad_norm)
    except ValueError as error:
        problems.append(Problem("max_grad_norm", str(error), CLIP_EXAMPLE))
    for name, pairs in rates.items():
        problems += _schedule_problems(name, pairs, config, total)
    problems += _option_problems(config, total)
    if optimizer_facts(config.optimizer).finds_rate:
        problems += _factor_problems(config, rates)
    trained = rates if config.text_encoder_steps != 0 else {k: v for k, v in rates.items() if k == "learning_rate"}
    if "learning_rate" in trained and not any(rate for pairs in trained.values() for rate, _ in pairs):
        problems.append(Problem("learning_rate", "at a rate of 0 nothing is learned.", "2e-6 is usual."))
    return problems


def _schedule_problems(
    name: str, pairs: list[tuple[float, int | None]], config: RunConfig, total: int | None
) -> list[Problem]:
    """Of one setting: its own text against `lr_scheduler` and the run's length."""
    problems = []
    if is_schedule(pairs):
        if config.lr_scheduler != "constant":
            what = f"'{config.lr_scheduler}' cannot be used along with the schedule written in {name}."
            problems.append(Problem("lr_scheduler", what, f"Set it to 'constant', or {name} to one number."))
        end = pairs[-1][1]
        if total is not None and end is not None and end < total:
            what = f"ends at step {end}, but the run has {total} steps."
            problems.append(Problem(name, what, "Add a last rate without a step, as in '2e-6:1000, 1e-6'."))
    elif config.lr_scheduler == "polynomial" and 0 < pairs[0][0] <= POLYNOMIAL_END:
        what = f"'polynomial' goes down to {POLYNOMIAL_END}, which is not below {pairs[0][0]}."
        problems.append(Problem(name, what, "Choose a higher rate, or lr_scheduler 'linear'."))
    return problems


def _option_problems(config: RunConfig, total: int | None) -> list[Problem]:
    """Of the settings that belong to some schedules only: none may be set and then do nothing."""
    problems, kind = [], config.lr_scheduler
    if config.lr_warmup_steps and kind == "constant":
        remedy = "Choose lr_scheduler 'constant_with_warmup', or set lr_warmup_steps to 0."
        problems.append(Problem("lr_warmup_steps", "does nothing when lr_scheduler is 'constant'.", remedy))
    elif total is not None and config.lr_warmup_steps >= total:
        problems.append(
            Problem("lr_warmup_steps", f"must be below the run's {total} steps.", "A tenth of them is usual.")
        )
    if config.lr_num_cycles != 1 and kind != "cosine_with_restarts":
        what = f"does nothing when lr_scheduler is '{kind}'."
        problems.append(Problem("lr_num_cycles", what, "Choose lr_scheduler 'cosine_with_restarts', or set it to 1."))
    if config.lr_power != 1 and kind != "polynomial":
        what = f"does nothing when lr_scheduler is '{kind}'."
        problems.append(Problem("lr_power", what, "Choose lr_scheduler 'polynomial', or set it to 1."))
    return problems


def _factor_problems(config: RunConfig, rates: dict[str, list[tuple[float, int | None]]]) -> list[Problem]:
    """An optimizer that finds the rate multiplies it with the setting's, one for all groups (or 0 for some)."""
    optimizer = optimizer_facts(config.optimizer).class_name
    trained = list(rates) if config.text_encoder_steps != 0 else [name for name in rates if name == "learning_rate"]
    problems = []
    for name in trained:
        highest = max(rate for rate, _ in rates[name])
        if highest and not 0.1 <= highest <= 10:
            what = f"{optimizer} finds the rate itself and multiplies it with this one: {highest} is too far from 1."
            problems.append(Problem(name, what, "Set it to 1."))
    used = [rates[name] for name in trained if any(rate for rate, _ in rates[name])]
    if any(pairs != used[0] for pairs in used):
        message = f"{optimizer} finds one rate for everything."
        problems.append(Problem("text_encoder_lr", message, "Set all rates to 1."))
    return problems


def _rate(text: str, pair: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise ValueError(f"'{text}' in '{pair.strip()}' is not a number.") from None
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"the rate {text} must be 0 or more, and finite.")
    return rate


def _step(text: str, pair: str) -> int | None:
    try:
        step = int(text)
    except ValueError:
        raise ValueError(f"'{text}' in '{pair.strip()}' is not a whole number of steps.") from None
    return None if step == -1 else step
