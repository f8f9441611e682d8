"""Rows: files of settings that are none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.bad_input.case import Case
from tests.bad_input.rows.descriptions import put
from tests.bad_input.verbs import CHECK_FILE, TRAIN_FILE

CONTENTS: dict[str, tuple[str | bytes | int, str]] = {
    "empty": ("", "is not a JSON file"),
    "a word": ("hello", "is not a JSON file"),
    "a comma too many": ('{"name": "a",}', "is not a JSON file"),
    "a path of Windows": ('{"instance_data_dir": "C:\\pics"}', "is not a JSON file"),
    "a path of Windows, and what to do": ('{"instance_data_dir": "C:\\pics"}', "by / or \\\\"),
    "a list": ("[1]", "does not contain an object"),
    "null": ("null", "does not contain an object"),
    "deep": ("[" * 100_000, "is not a JSON file"),
    "deep, and why": ("[" * 100_000, "nested too deeply"),
    "UTF-16": ("{}".encode("utf-16"), "is not UTF-8 text"),
    "any bytes": (bytes(range(256)), "is not UTF-8 text"),
    "gigabytes": (2**32, "has more than"),
}
if hasattr(sys, "set_int_max_str_digits"):  # an older Python reads numbers of any length
    CONTENTS["a number of 5000 digits"] = ('{"seed": ' + "9" * 5000 + "}", "is not a JSON file")


def holding(content: str | bytes | int) -> Callable[[Path], Path]:
    return lambda folder: put(folder / "c.json", content)


VERBS = (CHECK_FILE, TRAIN_FILE)
CASES = [
    Case(f"config file: {name}", holding(content), VERBS, "config", part) for name, (content, part) in CONTENTS.items()
]
CASES.append(Case("config file: none", lambda folder: folder / "none.json", VERBS, "config", "there is no file"))
CASES.append(Case("config file: a folder", lambda folder: folder, VERBS, "config", "cannot be read"))
