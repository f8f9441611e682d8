"""Which text a picture is trained with: a choice among several captions, caption dropout, shuffled and dropped tags.

Training draws with torch's generators, previews with Python's; everything else is this one code.
"""

from __future__ import annotations

import random
from typing import Protocol

from ..data.concepts import Variation
from ..data.entry import Entry
from ..data.prompt_templates import filled


class Draw(Protocol):
    """Random choices."""

    def below(self, count: int) -> int:
        """A whole number below `count`."""

    def order(self, count: int) -> list[int]:
        """The numbers below `count` in any order."""

    def stay(self, count: int, dropout: float) -> list[bool]:
        """For each of `count` things whether it stays; each is dropped with this probability."""


class PythonDraw:
    """The choices of a preview, the same for the same seed."""

    def __init__(self, *seed: str | int):
        self._random = random.Random(repr(seed))

    def below(self, count: int) -> int:
        return self._random.randrange(count)

    def order(self, count: int) -> list[int]:
        return self._random.sample(range(count), count)

    def stay(self, count: int, dropout: float) -> list[bool]:
        return [self._random.random() >= dropout for _ in range(count)]


def trained_text(entry: Entry, variation: Variation, drop_at: float, draw: Draw) -> str:
    """The text of one training sample. drop_at: a random number in [0, 1) that decides about caption dropout."""
    caption = entry.caption
    if not entry.is_class:  # a class picture's caption is its prompt, which does not vary
        caption = vary(entry.captions, variation, drop_at, draw)
    if entry.lines:
        caption = filled(entry.lines[draw.below(len(entry.lines))], caption, entry.word)
    return caption


def complete_text(entry: Entry) -> str:
    """The text without random changes: the first caption, complete, in the first line."""
    return filled(entry.lines[0], entry.caption, entry.word) if entry.lines else entry.caption


def vary(captions: tuple[str, ...], variation: Variation, drop_at: float, draw: Draw) -> str:
    """One of a picture's captions, with caption dropout, tag shuffling and tag dropout applied.

    Tag dropout comes after shuffling, as in sd-scripts.
    """
    caption = captions[0]
    if len(captions) > 1:
        caption = captions[draw.below(len(captions))]
    if drop_at < variation.caption_dropout:
        return ""
    if not varies(caption, variation):  # unchanged: with frozen text encoders only this text is cached
        return caption
    all_tags = tags(caption, variation.caption_separator)
    kept, rest = all_tags[: variation.keep_tokens], all_tags[variation.keep_tokens :]
    if variation.shuffle_tags:
        rest = [rest[i] for i in draw.order(len(rest))]
    if variation.tag_dropout:
        rest = [tag for tag, stays in zip(rest, draw.stay(len(rest), variation.tag_dropout), strict=True) if stays]
    return ", ".join(kept + rest)


def varies(caption: str, variation: Variation) -> bool:
    """Whether this caption can result in several texts."""
    if not variation.varies_tags:
        return False
    loose = len(tags(caption, variation.caption_separator)) - variation.keep_tokens
    return loose > (0 if variation.tag_dropout else 1)


def tags(caption: str, separator: str) -> list[str]:
    """What stands between separators, without empty ones."""
    return [tag.strip() for tag in caption.split(separator) if tag.strip()]
