"""Imports other trainers' configurations: kohya's (TOML, or its GUI's JSON) and sd_dreambooth_extension's.

Only what the text sets is imported; the rest stays open for the guide. The text is untrusted: its size and depth are
limited, every value passes through the settings' own converters, and no file that it names is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...core.config.run_config import SETTINGS
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system import toml
from ...core.system.files import parse_json
from . import kohya, kohya_names, sd_dreambooth_extension
from .common import SAME, Imported, Place

LARGEST = 256 * 1024  # letters; the largest real ones have 10 000
DEEPEST = 8  # a kohya data set has 4
MOST_VALUES = 10_000  # a form has 250


def read(text: str, bases: Iterable[Mapping[str, str]] = (), may_look: bool = True) -> Imported:
    """Import a configuration's text. Raises UserError("text") if nothing can be read.

    `bases`: the checkpoints that the host lists. `may_look`: whether folders that the text names may be listed.
    """
    values = _parsed(text)
    place = Place(tuple(bases), may_look)
    if isinstance(values, list) or "concepts_list" in values or "lifetime_revision" in values:
        return sd_dreambooth_extension.read(values, place)
    if kohya_names.MARKS & {name for part in (values, *_tables(values)) for name in part}:
        return kohya.read(values, place)
    known = {name: value for name, value in values.items() if name in SETTINGS}
    if not known:
        raise UserError("import.unknown_trainer", "text")
    found = Imported("dreambooth_ext", given=values)
    for name, value in values.items():
        if name in SETTINGS:
            found.take(name, name, value)
        else:
            found.ignore(name, Message("import.unknown_setting"))
    found.ignored = [
        item for item in found.ignored if item.get("reason_code") != SAME.code
    ]  # a run's config.json says everything
    return found


def _parsed(text: str) -> Any:
    """The text's JSON or TOML: an object or a list of objects."""
    if len(text) > LARGEST:
        raise UserError("import.too_long", "text", count=len(text))
    text = text.lstrip("\ufeff").strip()
    if not text:
        raise UserError("import.empty", "text")
    values = _json(text) if re.match(r"\{|\[\s*[{\]]", text) else _toml(text)
    depth, count = _measured(values)
    if depth > DEEPEST:
        raise UserError("import.too_deep", "text")
    if count > MOST_VALUES:
        raise UserError("import.too_many_values", "text")
    if not isinstance(values, dict) and not (values and all(isinstance(item, dict) for item in values)):
        raise UserError("import.no_settings", "text")
    return values


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        code = "import.backslashes" if "escape" in str(error) else "import.bad_json"
        raise UserError(code, "text", error=reason_of(error)) from None


def _toml(text: str) -> Any:
    try:
        return toml.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError("import.neither_json_nor_toml", "text", error=reason_of(error)) from None


def _measured(values: Any) -> tuple[int, int]:
    """The depth and the number of nested values."""
    level, depth, count = [values], 0, 0
    while level and depth <= DEEPEST:
        depth, count = depth + 1, count + len(level)
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inner for item in items]
    return depth, count


def _tables(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in values.values() if isinstance(value, dict)]
