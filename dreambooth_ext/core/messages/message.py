"""A text for users that keeps its code and values, by which languages translate it and the API tells faults apart.

`english/<topic>.json` is the catalogue: `{"too_few": ["only {count} pictures.", "{least} are enough."]}` in
`pictures.json` is the message "pictures.too_few" and its remedy "pictures.too_few.remedy". `localizations/` has the
same codes in other languages; the page puts the values into them (page/shared/localised.js).
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ENGLISH = Path(__file__).with_name("english")
REMEDY = ".remedy"  # behind a message's code: what to do about it
HOLE = re.compile(r"\{(\w+)\}")


class Message(str):
    """The English text of `code` with `values` filled in, usable as a str; both are kept for translation.

    A value may be a text, a number, a message of its own, or a list of these.
    """

    code: str
    values: dict[str, Any]

    def __new__(cls, code: str, /, **values: Any) -> Message:
        made = super().__new__(cls, filled(catalogue()[code], values).strip())  # a value may be empty
        made.code, made.values = code, values
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (self.code,), self.values

    def as_dict(self) -> dict[str, Any]:
        """{"code", "values", "text"}, for JSON."""
        return {"code": self.code, "values": values_for_json(self.values), "text": str(self)}


@functools.cache
def catalogue() -> dict[str, str]:
    """Every message and remedy in English, by its code."""
    found = {}
    for path in sorted(ENGLISH.glob("*.json")):
        for name, (message, *remedy) in json.loads(path.read_text(encoding="utf-8")).items():
            found[f"{path.stem}.{name}"] = message
            if remedy:
                found[f"{path.stem}.{name}{REMEDY}"] = remedy[0]
    return found


def filled(template: str, values: Mapping[str, Any]) -> str:
    """The template with its {values} filled in; a missing value leaves its {name}, because a message must not fail."""
    return HOLE.sub(lambda hole: written(values[hole[1]]) if hole[1] in values else hole[0], template)


def written(value: Any) -> str:
    """A value as text in a sentence: 2e-6, 1.5; lists are joined by commas, lists of messages by semicolons."""
    if isinstance(value, list | tuple):
        mark = "; " if any(isinstance(one, Message) for one in value) else ", "
        return mark.join(map(written, value))
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """A number as people and the tab write it: 2e-6, 1.5e-4, 0.002, 12, 1.5e6."""
    if not 0 < abs(value) < 1e-3 and not 1e6 <= abs(value) < math.inf:
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def values_for_json(values: Mapping[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Message):
            return value.as_dict()
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return value if isinstance(value, int) and not isinstance(value, bool) else written(value)

    return {name: plain(value) for name, value in values.items()}


def beside(name: str, text: str) -> dict[str, Any]:
    """{name: text} for JSON; for a Message also its code and values ("<name>_code", "<name>_values"), so that the page
    can translate it."""
    if not isinstance(text, Message):
        return {name: text}
    return {name: str(text), f"{name}_code": text.code, f"{name}_values": values_for_json(text.values)}


def reason_of(error: BaseException, longest: int = 300) -> str:
    """An error's text on one line, without the path that the system adds. A Message that it was raised with is returned
    as a Message, so that it can be translated."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if error.args and isinstance(error.args[0], Message):
        return error.args[0]
    of_code = isinstance(error, LookupError | TypeError | AttributeError | ArithmeticError)  # "'unet'" says too little
    lines = (repr(error) if of_code else str(error)).strip().splitlines()
    return lines[0][:longest] if lines else type(error).__name__


def from_json(value: Any) -> Any:
    """The inverse of `values_for_json`; a message with a code that this version does not know becomes plain text."""
    if isinstance(value, list):
        return [from_json(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("code") not in catalogue():
        return str(value.get("text", ""))
    return Message(value["code"], **{name: from_json(one) for name, one in value.get("values", {}).items()})
