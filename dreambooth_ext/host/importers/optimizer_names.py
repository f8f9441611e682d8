"""Which of our optimizers another trainer's is, and what becomes of the learning rates that were meant for it."""

from __future__ import annotations

import re
from collections.abc import Callable

from ...core.facts.optimizer_facts import OPTIMIZERS, Elsewhere
from ...core.messages.message import Message
from .common import Imported

RATES = ("learning_rate", "text_encoder_lr", "text_encoder_2_lr")
FITTING = (0.1, 10.0)  # what the rate may be where it is a factor


def take(found: Imported, theirs: str, name: str) -> str | None:
    """Take the optimizer over that `name` is or comes near to; its rates, which were taken before, follow it."""
    key = re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower())
    ours = _named(lambda theirs: key in theirs.names)
    if ours is None and (ours := _named(lambda theirs: key in theirs.same_steps)):
        found.ignore(theirs, Message("import.same_steps", optimizer=ours), name)
    elif ours is None and (ours := _named(lambda theirs: any(part in key for part in theirs.same_idea))):
        found.ignore(theirs, Message("import.same_idea", optimizer=ours), name)
    elif ours is None:
        found.ignore(theirs, Message("import.no_optimizer"), name)
        drop_rates(found, Message("import.rate_of_optimizer"))
        return None
    found.take(theirs, "optimizer", ours)
    if OPTIMIZERS[ours].finds_rate:
        _one_rate(found, ours)
    return ours


def _named(is_it: Callable[[Elsewhere], bool]) -> str | None:
    return next((name for name, facts in OPTIMIZERS.items() if is_it(facts.elsewhere)), None)


def drop_rates(found: Imported, why: str) -> None:
    """Leave the rates to the guide; a text encoder that does not train stays so."""
    for ours in RATES:
        if found.settings.get(ours):
            found.drop(ours, why)


def _one_rate(found: Imported, optimizer: str) -> None:
    """What finds its own rate has one, a factor near 1, for all that learns; 0 is for what does not."""
    given = found.settings.get("learning_rate")
    rate = given if isinstance(given, float) and FITTING[0] <= given <= FITTING[1] else 1.0
    for ours in RATES:
        if found.settings.get(ours) and found.settings[ours] != rate:
            found.ignore(found.origins[ours], Message("import.one_rate", rate=rate, optimizer=optimizer))
            found.settings[ours] = rate
