"""A set's own title, by which people call it, in `.set.json`: its folder keeps its name, since runs go by that."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from ...core.system import files
from ..errors import Refusal

FILE = ".set.json"
LONGEST = 100  # letters
LARGEST = 64 * 1024  # bytes of the file


def title(folder: Path) -> str:
    """The title that was chosen; "" without one, or if the file is damaged."""
    try:
        return cleaned(files.read_json(folder / FILE, LARGEST)["title"])
    except (OSError, ValueError, LookupError, TypeError, Refusal):
        return ""


def write_title(folder: Path, text: str) -> str:
    """Keep a title, or remove it if it is empty; the title as it is kept. Raises a Refusal."""
    text = cleaned(text)
    if text:
        files.write_json(folder / FILE, {"title": text})
    else:
        (folder / FILE).unlink(missing_ok=True)
    return text


def cleaned(text: Any) -> str:
    """Raises a Refusal (422) for what is no title."""
    if not isinstance(text, str):
        raise Refusal(422, "sets.title_letters", "title", most=LONGEST)
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if len(text) > LONGEST or not text.isprintable():
        raise Refusal(422, "sets.title_letters", "title", most=LONGEST)
    return text
