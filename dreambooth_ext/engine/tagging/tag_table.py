"""The tags that a WD14 tagger knows: selected_tags.csv with the columns tag_id, name, category and count."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.captions.taggers import TABLE
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import read_text

GENERAL, CHARACTER, RATING = 0, 4, 9  # Danbooru's categories, and 9 for SmilingWolf's ratings
LARGEST = 16 * 2**20  # bytes
# Faces made of punctuation, whose underscores are eyes and mouths
FACES = frozenset(
    [
        "0_0",
        "(o)_(o)",
        "+_+",
        "+_-",
        "._.",
        "<o>_<o>",
        "<|>_<|>",
        "=_=",
        ">_<",
        "3_3",
        "6_9",
        ">_o",
        "@_@",
        "^_^",
        "o_o",
        "u_u",
        "x_x",
        "|_|",
        "||_||",
    ]
)


@dataclass(frozen=True)
class TagChoice:
    """Which of the tags are proposed. threshold: the least probability of general tags; character_threshold: of
    characters' names. left_out: tags in small letters, with spaces."""

    threshold: float
    character_threshold: float
    ratings: bool = False
    characters: bool = True
    underscores: bool = False
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TagTable:
    names: tuple[str, ...]
    categories: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    def proposed(self, probabilities: Sequence[float], choice: TagChoice) -> list[str]:
        """The chosen tags of one picture: the likeliest rating, then characters, then general tags, likely ones first.

        probabilities: of each of the table's tags.
        """
        known = list(zip(self.names, self.categories, probabilities, strict=True))
        ratings = [(name, sure) for name, category, sure in known if category == RATING]
        found = [max(ratings, key=lambda pair: pair[1])[0]] if choice.ratings and ratings else []
        least = {GENERAL: choice.threshold, CHARACTER: choice.character_threshold}
        for wanted in (CHARACTER, GENERAL):
            if wanted == CHARACTER and not choice.characters:
                continue
            sure_ones = [(name, sure) for name, category, sure in known if category == wanted and sure >= least[wanted]]
            found += [name for name, _ in sorted(sure_ones, key=lambda pair: -pair[1])]
        return list(_spelled(found, choice))


def _spelled(names: Iterable[str], choice: TagChoice) -> Iterable[str]:
    for name in names:
        spoken = name if name in FACES else name.replace("_", " ")
        if spoken.casefold() not in choice.left_out:
            yield name if choice.underscores else spoken


def read(folder: Path, field: str = "tagger") -> TagTable:
    """Raises UserError for a table that cannot be read."""
    try:
        rows = list(csv.DictReader(read_text(folder / TABLE, LARGEST).splitlines()))
        names = [" ".join(row["name"].replace(",", " ").split()) for row in rows]
        categories = [int(row["category"]) for row in rows]
        if not names or not all(names):
            raise ValueError(Message("tagging.no_tags"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UserError("tagging.bad_table", field, file=TABLE, error=reason_of(error)) from error
    return TagTable(tuple(names), tuple(categories))
