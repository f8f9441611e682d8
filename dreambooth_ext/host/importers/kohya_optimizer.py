"""Imports kohya's optimizer, its arguments and its learning-rate schedule."""

from __future__ import annotations

import ast
from typing import Any

from ...core.facts.optimizer_facts import OPTIMIZERS
from ...core.messages.message import Message
from . import optimizer_names
from .common import Imported, number, text_of

FINDS_RATE = Message("import.finds_rate")


def read(flat: dict[str, Any], found: Imported, steps: int | None) -> None:
    """`steps`: the run's, if they can be counted."""
    name = text_of(flat.get("optimizer_type"))
    name = name or ("AdamW8bit" if flat.get("use_8bit_adam") is True else "")
    name = name or ("Lion" if flat.get("use_lion_optimizer") is True else "")
    arguments = _arguments(flat.get("optimizer_args"), found)
    ours = optimizer_names.take(found, "optimizer_type", name) if name else None
    if ours:
        _take_arguments(ours, arguments, found)
    elif arguments:
        found.ignore("optimizer_args", Message("import.of_that_optimizer"))
    if found.settings.get("lr_scheduler", "constant") != "constant":
        _warmup(flat, found, steps)


def _take_arguments(ours: str, arguments: dict[str, Any], found: Imported) -> None:
    theirs = OPTIMIZERS[ours].elsewhere
    switches = [arguments.pop(name, default) for name, default in theirs.rate_switches.items()]
    if any(switches):
        optimizer_names.drop_rates(found, FINDS_RATE)
    arguments = {**theirs.defaults, **arguments}
    if not theirs.arguments:
        arguments.pop("decouple", None)
    if "weight_decay" in arguments:
        found.take("optimizer_args", "weight_decay", arguments.pop("weight_decay"))
    for name in [name for name in arguments if theirs.arguments and name not in theirs.arguments]:
        found.ignore(f"optimizer_args: {name}", Message("import.no_argument", optimizer=ours), arguments.pop(name))
    if arguments:
        found.take("optimizer_args", "optimizer_args", arguments)


def _warmup(flat: dict[str, Any], found: Imported, steps: int | None) -> None:
    given, percent = number(flat.get("lr_warmup_steps")), number(flat.get("lr_warmup"))
    share = given if 0 < given < 1 else percent / 100 if not given else 0.0
    if share > 0 and steps:
        found.take("lr_warmup", "lr_warmup_steps", round(share * steps))
    elif share > 0:
        found.ignore("lr_warmup", Message("import.uncounted_share"))
    elif given >= 1:
        found.take("lr_warmup_steps", "lr_warmup_steps", int(given))


def _arguments(given: Any, found: Imported) -> dict[str, Any]:
    """Parse ["betas=0.9,0.99"], or the form's "betas=0.9,0.99 eps=1e-8"; anything but Python literals is ignored."""
    pairs = given if isinstance(given, list) else text_of(given).split()
    known = {}
    for pair in (pair.strip("\"' ") for pair in pairs if isinstance(pair, str)):
        name, is_pair, value = pair.partition("=")
        literal = _literal(value) if is_pair and name.strip().isidentifier() and len(pair) < 200 else None
        if isinstance(literal, bool | int | float | tuple | list):
            known[name.strip()] = list(literal) if isinstance(literal, tuple) else literal
        elif pair:
            found.ignore("optimizer_args", Message("import.cannot_be_read"), pair)
    return known


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip().strip('"'))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
