"""Matches other trainers' optimizers to ours, and adjusts the learning rates that were set for them."""

from __future__ import annotations

import re
from collections.abc import Callable

from ...core.facts.optimizer_facts import OPTIMIZERS, Elsewhere
from ...core.messages.message import Message
from .common import Imported

RATES = ("learning_rate", "text_encoder_lr", "text_encoder_2_lr")
FITTING = (0.1, 10.0)  # what the rate may be where it is a factor


def take(found: Imported, theirs: str, name: str) -> str | None:
    """Import the optimizer that `name` means or resembles, and adjust its rates, which must have been imported
    before."""
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
    """Remove the learning rates, so that the guide sets them; a text encoder that does not train stays off."""
    for ours in RATES:
        if found.settings.get(ours):
            found.drop(ours, why)


def _one_rate(found: Imported, optimizer: str) -> None:
    """Set all learning rates to one factor near 1, as an optimizer that finds its own rate needs; 0 stays 0."""
    given = found.settings.get("learning_rate")
    rate = given if isinstance(given, float) and FITTING[0] <= given <= FITTING[1] else 1.0
    for ours in RATES:
        if found.settings.get(ours) and found.settings[ours] != rate:
            found.ignore(found.origins[ours], Message("import.one_rate", rate=rate, optimizer=optimizer))
            found.settings[ours] = rate
