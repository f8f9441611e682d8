"""What a tagger proposed for a set's pictures: kept beside it until somebody takes it, and never taken by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.captions import tag_edits
from ...core.captions.tag_edits import Captions, Edit
from ...core.captions.variation import tags
from ...core.errors import UserError
from ...core.system import files
from .caption_history import FOLDER

FILE = "proposals.json"  # what the verb `tag` writes: {"tagger", "captions": {picture: text}}
LARGEST = 16 * 2**20  # bytes
MODES = ("empty", "replace", "before", "after")


def path(place: Path) -> Path:
    return place / FOLDER / FILE


def read(place: Path) -> dict[str, Any] | None:
    """{"tagger", "captions": {picture: text}}; None where nothing was proposed."""
    try:
        known = files.read_json(path(place), LARGEST)
    except (OSError, ValueError):
        return None
    texts = known.get("captions") if isinstance(known, dict) else None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        return None
    return {"tagger": str(known.get("tagger") or ""), "captions": texts}


def forget(place: Path) -> None:
    path(place).unlink(missing_ok=True)


def edit(place: Path, asked: Mapping[str, Any], chosen: Captions) -> Edit:
    """The change that takes what was proposed. asked["mode"]: "empty" for pictures without a caption only, "replace",
    "before" or "after" what is there, without saying a tag twice. Raises UserError."""
    mode = asked.get("mode", "empty")
    if mode not in MODES:
        raise UserError("captions.unknown_mode", "mode", modes=list(MODES))
    known = read(place)
    if known is None:
        raise UserError("captions.no_proposals", "set")
    texts = {}
    for name, text in chosen.items():
        proposed = known["captions"].get(name)
        if proposed is None or (mode == "empty" and text):
            continue
        texts[name] = proposed if mode in ("empty", "replace") else _joined(text, proposed, mode)
    return Edit("set", texts=texts, text=known["tagger"])


def _joined(text: str, proposed: str, mode: str) -> str:
    first, second = (text, proposed) if mode == "after" else (proposed, text)
    said = {tag.casefold() for tag in tags(first, tag_edits.SEPARATOR)}
    rest = [tag for tag in tags(second, tag_edits.SEPARATOR) if tag.casefold() not in said]
    return tag_edits.joined([*tags(first, tag_edits.SEPARATOR), *rest])
