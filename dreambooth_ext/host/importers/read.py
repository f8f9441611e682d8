"""Other trainers' configurations as our settings: kohya's (TOML, or its GUI's JSON) and sd_dreambooth_extension's.

Only what the text says is taken over; what it leaves out stays open for the guide. The text is a stranger's: its size
and depth are limited, every value passes through the settings' own converters, and no file that it names is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...core.config.run_config import SETTINGS
from ...core.errors import UserError
from ...core.system import toml
from ...core.system.files import parse_json
from . import kohya, kohya_names, sd_dreambooth_extension
from .common import SAME, Imported, Place

LARGEST = 256 * 1024  # letters; the largest real ones have 10 000
DEEPEST = 8  # a kohya data set has 4
MOST_VALUES = 10_000  # a form has 250
ACCEPTED = "Paste a file of kohya (TOML or JSON), a db_config.json of sd_dreambooth_extension, or a run's config.json."


def read(text: str, bases: Iterable[Mapping[str, str]] = (), may_look: bool = True) -> Imported:
    """What a configuration's text says, in our settings. Raises UserError("text") where nothing can be read.

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
        raise UserError("text", "holds no settings of a trainer that is known here.", ACCEPTED)
    found = Imported("dreambooth_ext", given=values)
    for name, value in values.items():
        if name in SETTINGS:
            found.take(name, name, value)
        else:
            found.ignore(name, "is no setting of this version.")
    found.ignored = [item for item in found.ignored if item["reason"] != SAME]  # a run's config.json says everything
    return found


def _parsed(text: str) -> Any:
    """The text's JSON or TOML, an object or a list of objects."""
    if len(text) > LARGEST:
        raise UserError("text", f"has {len(text)} letters, more than any configuration.", ACCEPTED)
    text = text.lstrip("\ufeff").strip()
    if not text:
        raise UserError("text", "is empty.", ACCEPTED)
    values = _json(text) if re.match(r"\{|\[\s*[{\]]", text) else _toml(text)
    depth, count = _measured(values)
    if depth > DEEPEST:
        raise UserError("text", "is nested more deeply than any configuration.", ACCEPTED)
    if count > MOST_VALUES:
        raise UserError("text", "has more values than any configuration.", ACCEPTED)
    if not isinstance(values, dict) and not (values and all(isinstance(item, dict) for item in values)):
        raise UserError("text", "holds no settings.", ACCEPTED)
    return values


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        remedy = "Correct it in an editor."
        if "escape" in str(error):
            remedy = "In JSON, write the folders of a Windows path with / or with \\\\ between them."
        raise UserError("text", f"is no JSON ({error}).", remedy) from None


def _toml(text: str) -> Any:
    try:
        return toml.loads(text)
    except (ValueError, RecursionError) as error:
        remedy = "Correct it in an editor. A Windows path stands in single quotation marks: 'C:\\pictures'."
        raise UserError("text", f"is neither JSON nor TOML ({error}).", remedy) from None


def _measured(values: Any) -> tuple[int, int]:
    """How deep they are nested, and how many they are."""
    level, depth, count = [values], 0, 0
    while level and depth <= DEEPEST:
        depth, count = depth + 1, count + len(level)
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inner for item in items]
    return depth, count


def _tables(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in values.values() if isinstance(value, dict)]
