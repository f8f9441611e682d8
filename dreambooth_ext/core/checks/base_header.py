"""Finds a base's family, and whether it predicts the flow, from names in its files, without loading it."""

from __future__ import annotations

import functools
import os
import struct
from pathlib import Path

from ..errors import Problem
from ..facts.family_marks import BASE_FAMILIES
from ..system.files import expanded, read_json, require_ordinary

LARGEST_HEAD = 2**25  # bytes of a header that are looked at; usual are less than one million
LARGEST_PICKLE = 2**22


def family_of(base: str) -> str:
    """The name of a base's family; "" if its files are not on this machine or do not show it."""
    try:
        path = expanded(base)
        about = path.stat()
        return _family(os.path.abspath(path), about.st_mtime_ns, about.st_size)
    except (OSError, ValueError):
        return ""


@functools.lru_cache(maxsize=4096)
def _family(path: str, _time: int, _size: int) -> str:
    """The family of a path, cached by time and size, because a form asks again at each change."""
    try:
        return _family_of_folder(Path(path)) if os.path.isdir(path) else _family_of_names(_head(Path(path)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error):
        return ""


def _family_of_names(names: bytes) -> str:
    found = (name for name, facts in BASE_FAMILIES.items() if any(mark in names for mark in facts.marks))
    return next(found, "")


def _head(path: Path) -> bytes:
    """The first part of a file, which names its tensors: the header of a safetensors file, or the pickle at the start
    of PyTorch's archives (stored uncompressed) and older files. Raises OSError, also for devices and pipes."""
    require_ordinary(path)
    with path.open("rb") as file:
        if path.suffix.lower() == ".safetensors":
            return file.read(min(struct.unpack("<Q", file.read(8))[0], LARGEST_HEAD))
        return file.read(LARGEST_PICKLE)


def _family_of_folder(folder: Path) -> str:
    pipeline = read_json(folder / "model_index.json")["_class_name"]
    width = read_json(folder / "text_encoder" / "config.json")["hidden_size"]
    found = (
        name
        for name, facts in BASE_FAMILIES.items()
        if pipeline.startswith(facts.pipeline) and facts.text_width in (None, width)
    )
    return next(found, "")


def by_title(title: str) -> str:
    """The name of the family with this title, as plans show it; "" for any other."""
    return next((name for name, facts in BASE_FAMILIES.items() if facts.title == title), "")


def predicts_flow(base: str, family: str) -> bool:
    """Whether a base of that family is made for rectified flow, recognised as in Forge Neo by a word in its path."""
    word = BASE_FAMILIES[family].flow_word if family in BASE_FAMILIES else ""
    return bool(word) and word in base.lower()


def flow_problems(base: str, family: str) -> list[Problem]:
    """Refuse a base that predicts the flow: training it like other models would make it unlearn that."""
    if not predicts_flow(base, family):
        return []
    facts = BASE_FAMILIES[family]
    return [Problem("hosts.rectified_flow", "base_model", family=facts.title, word=facts.flow_word)]


def name_warnings(name: str, base: str) -> list[Problem]:
    """Warn if the new model's name would make WebUIs take it for one that predicts the flow."""
    family = family_of(base)
    if not predicts_flow(name, family):
        return []
    facts = BASE_FAMILIES[family]
    return [Problem("hosts.flow_name", "name", is_grave=True, family=facts.title, word=facts.flow_word)]
