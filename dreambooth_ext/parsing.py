"""Values from JSON, a form or a command line -> `RunConfig`, with a sentence for each one that does not fit."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from .config import SETTINGS, RunConfig, Setting
from .errors import Problem


def parse(values: Mapping[str, Any]) -> tuple[RunConfig, list[Problem]]:
    """Build a config from JSON or command-line values; whatever does not fit comes back as problems, all at once.

    Strings are converted ("12" for an int), since forms and command lines know nothing else. A value that does not
    fit leaves its field at the default, so that the other checks can still run.
    """
    config, problems = RunConfig(), []
    for name, value in values.items():
        known = SETTINGS.get(name)
        if known is None:
            near = difflib.get_close_matches(name, SETTINGS, n=1)
            remedy = f"Did you mean '{near[0]}'?" if near else "The README lists all settings."
            problems.append(Problem(name, "there is no setting of this name.", remedy))
            continue
        try:
            setattr(config, name, convert(known, value))
        except (ValueError, TypeError) as error:
            problems.append(Problem(name, str(error), f"Its default is {known.default!r}."))
    return config, problems


def convert(known: Setting, value: Any) -> Any:
    """`value` as the setting's type. Raises ValueError with a sentence for the user."""
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none") and known.kind != "str"):
        if known.optional:
            return None
        if value is None or known.kind not in ("path", "list", "dict", "concepts"):
            raise ValueError("needs a value.")
        return type(known.default)()
    return _CONVERTERS[known.kind](value)


def _to_int(value: Any) -> int:
    number = _to_float(value)
    if number != int(number):
        raise ValueError(f"{value!r} is not a whole number.")
    return int(number)


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number.")
    try:
        number = float(value)
    except (ValueError, TypeError):
        raise ValueError(f"{value!r} is not a number.") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"{value!r} is not a finite number.")
    return number


def _to_bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError(f"{value!r} is neither true nor false.")


def _to_str(value: Any) -> str:
    if isinstance(value, bool | dict | list):
        raise ValueError(f"{value!r} is not a text.")
    return str(value)


def _to_rate(value: Any) -> float | str:
    try:
        return _to_float(value)
    except ValueError:
        if isinstance(value, str) and (":" in value or "," in value):
            return value.strip()  # a schedule; checks.py reads it
        raise


def _to_list(value: Any) -> list:
    if isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return list(value)
    raise ValueError(f"{value!r} is not a list of texts.")


def _from_json(value: Any) -> Any:
    """A command line's and a form's way to give objects and lists of them."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{value!r} is not JSON ({error}).") from None


def _to_dict(value: Any) -> dict:
    value = _from_json(value)
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not an object of names and values.")
    return dict(value)


def _to_concepts(value: Any) -> list[dict]:
    value = _from_json(value)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("must be a list of objects, one for each subject.")
    return [dict(item) for item in value]


_CONVERTERS = {
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "str": _to_str,
    "path": _to_str,
    "rate": _to_rate,
    "list": _to_list,
    "dict": _to_dict,
    "concepts": _to_concepts,
}
