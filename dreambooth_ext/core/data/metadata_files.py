"""Reads metadata files with the captions of many pictures: Hugging Face's metadata.jsonl, kohya's meta_cap.json etc.

https://huggingface.co/docs/datasets/image_dataset: one JSON object per line, with "file_name" and a column for the
text. kohya's is one object that maps a picture's path, with or without its ending, to {"caption", "tags"}; both are
joined as in fine_tune.py. Paths are relative to the file's folder, and may not lead out of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..config.parsing import shown
from ..errors import Problem
from ..messages.message import Message, reason_of
from ..system.files import parse_json, require_ordinary
from .folder_scan import MOST_FILES

JSONL = "metadata.jsonl"
KOHYA = (
    "meta_lat.json",
    "meta_clean.json",
    "meta_cap_dd.json",
    "meta_cap.json",
)  # the last that kohya's tools made first
LARGEST = 128 * 2**20  # bytes; 250 000 pictures with long captions have that
LONGEST_LINE = 2**20  # letters; what is longer reads as several lines, of which none is JSON
MOST_BAD = 1000  # lines, after which no more are looked at
NAMED_AT_MOST = 5  # bad lines that one message names


@dataclass
class Metadata:
    """Captions by a picture's normalised path, with or without its ending, and the problems with the files."""

    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    setting: str = "use_captions"  # by which they are read

    def of(self, path: str) -> tuple[str, ...]:
        """A picture's captions; () if the files do not name it, or have no text for it."""
        known = normal(path)
        return self.captions.get(known) or self.captions.get(os.path.splitext(known)[0]) or ()

    def names(self, path: str) -> bool:
        known = normal(path)
        return known in self.captions or os.path.splitext(known)[0] in self.captions


def normal(path: str) -> str:
    return os.path.normcase(os.path.normpath(path))


def read_below(folder: str, places: Iterable[str], column: str) -> Metadata:
    """Read the metadata files in `folder` and in `places`, the folders below it that hold pictures (as `os.path.join`
    makes them)."""
    found = Metadata()
    ancestors = {normal(folder): folder}
    for place in places:
        while (known := normal(place)) not in ancestors and place:
            ancestors[known] = place
            place = os.path.dirname(place)
    for place in sorted(ancestors.values()):  # a folder before those in it, whose own files then go before
        names = [name for name in (JSONL, *KOHYA) if os.path.isfile(os.path.join(place, name))]
        if names:
            read_file(os.path.join(place, names[0]), place, column, found)
    return found


def read_file(path: str, folder: str, column: str, found: Metadata) -> None:
    """Add one file's captions to `found`. `folder`: where its paths start, and which they may not leave."""
    try:
        require_ordinary(path, LARGEST)
        with open(path, encoding="utf-8-sig") as stream:
            if path.lower().endswith(".jsonl"):
                _read_lines(iter(lambda: stream.readline(LONGEST_LINE), ""), path, folder, column, found)
            else:
                _read_object(parse_json(stream.read()), path, folder, found)
    except UnicodeDecodeError:
        found.problems.append(Problem("captions.metadata_not_utf8", found.setting, file=path))
    except ValueError as error:
        found.problems.append(Problem("captions.metadata_not_json", found.setting, file=path, error=reason_of(error)))
    except OSError as error:
        problem = Problem("captions.metadata_unreadable", found.setting, file=path, error=reason_of(error))
        found.problems.append(problem)


def _read_lines(lines: Iterable[str], path: str, folder: str, column: str, found: Metadata) -> None:
    bad: list[Message] = []
    columns: dict[str, None] = {}
    any_text = False
    for number, line in enumerate(lines, 1):
        if number > MOST_FILES or len(bad) > MOST_BAD:
            bad.insert(0, Message("captions.lines_cut", lines=number - 1))
            break
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            bad.append(Message("captions.line_not_json", line=number, error=reason_of(error)))
            continue
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            bad.append(Message("captions.line_no_file_name", line=number))
            continue
        columns |= dict.fromkeys(map(str, row))
        texts = _texts(row.get(column))
        if texts is None:
            bad.append(Message("captions.line_no_text", line=number, column=repr(column)))
        elif (picture := inside(folder, row["file_name"])) is None:
            bad.append(Message("captions.line_outside", line=number, name=shown(row["file_name"])))
        else:
            any_text = any_text or bool(texts)
            found.captions[picture] = texts
    if columns and not any_text and not bad:
        found.problems.append(
            Problem(
                "captions.metadata_no_text",
                "caption_column",
                file=path,
                column=repr(column),
                columns=shown(", ".join(columns)),
            )
        )
    _tell(bad, path, found)


def _read_object(rows: Any, path: str, folder: str, found: Metadata) -> None:
    if not isinstance(rows, dict):
        found.problems.append(Problem("captions.metadata_not_kohya", found.setting, file=path))
        return
    bad: list[Message] = []
    for name, about in rows.items():
        caption, tags = (
            (_texts(about.get(key)) for key in ("caption", "tags")) if isinstance(about, dict) else (None,) * 2
        )
        if caption is None or tags is None:
            bad.append(Message("captions.entry_no_text", name=shown(name)))
        elif (picture := inside(folder, name)) is None:
            bad.append(Message("captions.entry_outside", name=shown(name)))
        else:  # as fine_tune.py: one text of both
            text = ", ".join(tags)
            found.captions[picture] = (
                tuple(f"{one}, {text}" for one in caption) if caption and text else caption or tags
            )
    _tell(bad, path, found)


def _tell(bad: list[Message], path: str, found: Metadata) -> None:
    faults, rest = bad[:NAMED_AT_MOST], len(bad) - NAMED_AT_MOST
    if rest > 0:
        found.problems.append(
            Problem("captions.metadata_many_faults", found.setting, file=path, faults=faults, more=rest)
        )
    elif bad:
        found.problems.append(Problem("captions.metadata_faults", found.setting, file=path, faults=faults))


def _texts(value: Any) -> tuple[str, ...] | None:
    """A text, or a list of texts, each on one line; None for anything else."""
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        return None
    return tuple(text for item in values if (text := " ".join(item.split())))


def inside(folder: str, name: str) -> str | None:
    """The normalised path of a picture that a file names; None if it leads out of the folder."""
    home = normal(folder)
    path = normal(os.path.join(folder, name.replace("\\", "/") if os.sep == "/" else name))
    return path if path.startswith(home.rstrip(os.sep) + os.sep) and "\0" not in path else None
