"""Which of our optimizers another trainer's is, and what becomes of its rates, which mean something only with it."""

from __future__ import annotations

import re

from .common import Imported

OPTIMIZERS = {  # names without marks between words, of kohya and sd_dreambooth_extension
    "adamw": "adamw",
    "torchadamw": "adamw",
    "adamw8bit": "adamw8bit",
    "8bitadamw": "adamw8bit",
    "8bitadam": "adamw8bit",
    "pagedadamw8bit": "paged_adamw8bit",
    "paged8bitadamw": "paged_adamw8bit",
    "lion": "lion",
    "adafactor": "adafactor",
    "prodigy": "prodigy",
    "sgdnesterov": "sgd",
}
ALIKE = {  # the same steps in another precision
    "pagedadamw": "adamw",
    "pagedadamw32bit": "adamw",
    "lion8bit": "lion",
    "pagedlion8bit": "lion",
    "8bitlion": "lion",
    "paged8bitlion": "lion",
    "sgdnesterov8bit": "sgd",
}
OWN_RATE = ("dadapt", "prodigy")  # in names of those that find the rate themselves
RATES = ("learning_rate", "text_encoder_lr", "text_encoder_2_lr")
FITTING = (0.1, 10.0)  # what Prodigy's rate, a factor, may be


def take(found: Imported, theirs: str, name: str) -> str | None:
    """Take the optimizer over that `name` is or comes near to; its rates, which were taken before, follow it."""
    key = re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower())
    ours = OPTIMIZERS.get(key) or ALIKE.get(key)
    if ours is None and any(part in key for part in OWN_RATE):
        ours = "prodigy"
        found.ignore(theirs, "is not there: it is prodigy here, of the same idea, which finds the rate itself.", name)
    elif ours is None:
        found.ignore(theirs, "is not there: the guide's optimizer is used, with its rates.", name)
        drop_rates(found, "belongs to that optimizer: the guide's rate is used.")
        return None
    elif key in ALIKE:
        found.ignore(theirs, f"is {ours} here, which takes the same steps.", name)
    found.take(theirs, "optimizer", ours)
    if ours == "prodigy":
        _one_rate(found)
    return ours


def drop_rates(found: Imported, why: str) -> None:
    """Leave the rates to the guide; a text encoder that does not train stays so."""
    for ours in RATES:
        if found.settings.get(ours):
            found.drop(ours, why)


def _one_rate(found: Imported) -> None:
    """Prodigy has one rate, a factor near 1, for all that learns; 0 is for what does not."""
    given = found.settings.get("learning_rate")
    rate = given if isinstance(given, float) and FITTING[0] <= given <= FITTING[1] else 1.0
    for ours in RATES:
        if found.settings.get(ours) and found.settings[ours] != rate:
            found.ignore(found.origins[ours], f"became {rate:g}: prodigy has one rate for everything.")
            found.settings[ours] = rate
