"""Parses values from JSON, a form or a command line into a `RunConfig`, with a problem for each value that does not
fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import Problem
from ..facts.setting import Setting
from ..messages.message import Message
from ..system.files import parse_json
from .links import hidden, masked, whole
from .run_config import SETTINGS, RunConfig
from .unfit_value import Unfit

LONGEST_NAME = 64  # letters of a name that may be a misspelt one
MOST_UNKNOWN = 200  # problems, after which names that are not known go untold
MOST_CONCEPTS = 1000
SHOWN = 100  # characters of a value that a message repeats
READ = 4096  # of those, before what a link may show of itself is known
NAMED_AT_MOST = 5  # files that one message names


def parse(values: Mapping[str, Any]) -> tuple[RunConfig, list[Problem]]:
    """Build a config from JSON or command-line values; everything that does not fit is returned as problems, all at
    once.

    Strings are converted ("12" for an int), since forms and command lines know nothing else. A value that does not
    fit leaves its field at the default, so that the other checks can still run.
    """
    given: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in values.items():
        known = SETTINGS.get(name)
        if known is None and len(problems) > MOST_UNKNOWN:
            continue
        if known is None:
            problems.append(_unknown(name))
            continue
        try:
            given[name] = convert(known, value)
        except Unfit as unfit:
            problems.append(unfit.problem(name, _advice(known)))
    return RunConfig(**given), problems


def _unknown(name: str) -> Problem:
    near = nearest(name, SETTINGS)
    return Problem("settings.misspelt", name, near=near[0]) if near else Problem("settings.unknown", name)


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The closest match in `known` for a misspelt name, as a list of one, or []."""
    return difflib.get_close_matches(name, known, n=1) if len(name) <= LONGEST_NAME else []


ADVICE = {  # by kind; of numbers the ones without limits
    "int": "settings.give_whole",
    "float": "settings.give_number",
    "bool": "settings.give_bool",
    "str": "settings.give_text",
    "path": "settings.give_path",
    "rate": "settings.give_rate",
    "list": "settings.give_texts",
    "numbers": "settings.give_numbers",
    "dict": "settings.give_object",
    "concepts": "settings.give_subjects",
}
ADVICE_WITHIN = {"int": "settings.give_whole_within", "float": "settings.give_number_within"}


def _advice(known: Setting) -> Message:
    """The remedy for a value of the wrong type: what to give instead."""
    advice = Message(ADVICE[known.kind])
    if known.kind in ADVICE_WITHIN and known.limits:
        low, high = known.limits
        advice = Message(ADVICE_WITHIN[known.kind], low=low, high=high)
    may_be_left_out = known.default not in ("", None) or known.optional
    return Message("settings.or_leave_out", advice=advice) if may_be_left_out else advice


def convert(known: Setting, value: Any) -> Any:
    """The value converted to the setting's type. Raises Unfit."""
    text = value.strip().lower() if isinstance(value, str) else value
    if known.name == "name" and text == "" and value:  # typed, and not seen: another name would come as a surprise
        raise Unfit("settings.blank")
    if text is None or text == "" or (text == "none" and known.kind != "str"):
        if known.optional:
            return None
        if known.default != "" and (value is None or known.kind not in ("str", "list", "numbers", "dict", "concepts")):
            raise Unfit("settings.needs_value")
        return type(known.default)()
    return _CONVERTERS[known.kind](value)


def _to_int(value: Any) -> int:
    number = _to_float(value)
    if number != int(number):
        raise Unfit("settings.not_whole", value=shown(value))
    return int(number)


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise Unfit("settings.not_number", value=shown(value))
    try:
        number = float(value)
    except (ValueError, TypeError):
        raise Unfit("settings.not_number", value=shown(value)) from None
    except OverflowError:  # a whole number of hundreds of digits
        number = float("inf")
    if number != number or number in (float("inf"), float("-inf")):
        raise Unfit("settings.not_finite", value=shown(value))
    return number


def _to_bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise Unfit("settings.not_bool", value=shown(value))


def _to_str(value: Any) -> str:
    return hidden(_to_text(value))


def _to_text(value: Any) -> str:
    if isinstance(value, bool | dict | list):
        raise Unfit("settings.not_text", value=shown(value))
    try:
        text = whole(value) if isinstance(value, str) else str(value)
    except ValueError:  # a whole number of thousands of digits
        raise Unfit("settings.not_text", value=shown(value)) from None
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):  # halves of letters: not UTF-8
        raise Unfit("settings.unwritable", value=shown(text))
    return text


def to_path(value: Any) -> str:
    """A path without the quotation marks that Windows' "Copy as path" puts around it."""
    text = _to_text(value).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return hidden(text)


def shown(value: Any) -> str:
    """A value as a message shows it: shortened, and links without secrets."""
    if isinstance(value, str):
        value = masked(value[:READ])[: SHOWN + 1]
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else masked(repr(value))
    except (RecursionError, ValueError):  # a whole number of thousands of digits
        text = "..."
    return text if len(text) <= SHOWN else text[: SHOWN - 4] + "..." + text[-1]


def some(names: Sequence[str]) -> str:
    """The first names of a list for a message, and how many more there are."""
    first, rest = ", ".join(names[:NAMED_AT_MOST]), len(names) - NAMED_AT_MOST
    return Message("pictures.names_and_more", names=first, more=rest) if rest > 0 else first


def _to_rate(value: Any) -> float | str:
    try:
        return _to_float(value)
    except ValueError:
        if isinstance(value, str) and (":" in value or "," in value):
            return masked(value.strip())  # a schedule; rates.py reads it
        raise


def _to_list(value: Any) -> list:
    if isinstance(value, str):
        return [line.strip() for line in _to_str(value).splitlines() if line.strip()]
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return [_to_str(item) for item in value if item.strip()]
    raise Unfit("settings.not_texts", value=shown(value))


def _to_numbers(value: Any) -> list[int | float]:
    """A list of numbers, also from a text as in the WebUI: "1, 2, 1". Whole numbers become int."""
    if isinstance(value, str):
        value = value.strip().strip("[]").split(",")
    if not isinstance(value, list | tuple):
        raise Unfit("settings.not_numbers", value=shown(value))
    numbers = [_to_float(item) for item in value if item != ""]
    return [int(number) if number == int(number) else number for number in numbers]


def _from_json(value: Any) -> Any:
    """Decode JSON text, which is how command lines and forms give objects and lists."""
    try:
        return parse_json(value) if isinstance(value, str) else value
    except ValueError as error:
        raise Unfit("settings.not_json", value=shown(value), error=str(error)) from None


def _to_dict(value: Any) -> dict:
    value = _from_json(value)
    if not isinstance(value, dict):
        raise Unfit("settings.not_object", value=shown(value))
    return dict(value)


def _to_concepts(value: Any) -> list[dict]:
    value = _from_json(value)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Unfit("settings.not_subjects", value=shown(value))
    if len(value) > MOST_CONCEPTS:
        raise Unfit("settings.many_subjects", most=MOST_CONCEPTS)
    return [{key: _in_concept(key, inner) for key, inner in item.items()} for item in value]


def _in_concept(key: str, value: Any) -> Any:
    """Convert a concept's value as the setting of the same name; `picture_entries.problems` reports other faults."""
    if not isinstance(value, str):
        return value
    return to_path(value) if key in SETTINGS and SETTINGS[key].kind == "path" else _to_str(value)


_CONVERTERS = {
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "str": _to_str,
    "path": to_path,
    "rate": _to_rate,
    "list": _to_list,
    "numbers": _to_numbers,
    "dict": _to_dict,
    "concepts": _to_concepts,
}
