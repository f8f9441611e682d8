"""Each picture's text as a run trains on it: what comes from the prompt and what from the caption, which tags stay and
which are shuffled or dropped, where it is cut, and a few of the texts that can result.

The texts come from the code that training uses: `picture_entries`, `variation`, `token_limit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..config.run_config import RunConfig
from ..data.concepts import Subjects, Variation
from ..data.entry import Entry
from .clip_vocabulary import Token, Vocabulary
from .token_limit import SLOTS, cut, length, with_learned
from .variation import PythonDraw, complete_text, tags, trained_text, varies

EXAMPLES = 3  # texts of different steps


@dataclass(frozen=True)
class Counted:
    """count: tokens of the text, without start and end. read: its letters up to which the text encoder reads."""

    text: str
    count: int
    read: int
    tokens: list[tuple[int, int]]  # each token's letters in the text

    def as_dict(self) -> dict[str, Any]:
        return {"text": self.text, "count": self.count, "read": self.read, "tokens": [list(one) for one in self.tokens]}


class Preview:
    """Texts of one run. most: how many tokens are read of each."""

    def __init__(self, config: RunConfig, subjects: Subjects, vocabulary: Vocabulary):
        self.config, self.vocabulary = config, vocabulary
        self.most = config.max_token_length
        self.variations = [concept.variation for concept in subjects.concepts]
        self._learned = _learned_words(config, vocabulary)

    def counted(self, text: str) -> Counted:
        """A text with its tokens, and where it is cut."""
        found = self.vocabulary.tokens(text)
        pieces = with_learned([token.number for token in found], self._learned)
        kept = cut(pieces, self.most)
        places = _places(found, pieces, self._learned)
        read = places[len(kept) - 1][1] if kept else 0
        return Counted(text, sum(map(length, pieces)), len(text) if len(kept) == len(pieces) else read, places)

    def of(self, entry: Entry) -> dict[str, Any]:
        """One picture's complete text and examples, as JSON.

        "spans": the text in pieces, each {"from", "to", "kind"}: "prompt" is not of the picture's own caption;
        "kept" are tags that stay where they are, "loose" ones that are shuffled or dropped; "caption" is all else.
        """
        variation = self.variations[entry.concept]
        text = self.shown_text(entry)
        examples: list[dict[str, Any]] = []
        for number in range(EXAMPLES):
            draw = PythonDraw(self.config.seed, entry.path.name, number)
            drop_at = draw.below(10**6) / 10**6
            made = trained_text(entry, variation, drop_at, draw)
            if made not in [one["text"] for one in examples]:
                examples.append(self.counted(made).as_dict())
        return {
            **self.counted(text).as_dict(),
            "most": self.most,
            "spans": spans(entry, text, variation),
            "examples": examples if len(examples) > 1 or examples[0]["text"] != text else [],
            "captions": len(entry.captions),
            "lines": len(entry.lines),
            "dropped": 0 if entry.is_class else variation.caption_dropout,
            "is_captioned": entry.is_captioned,
            "is_held": entry.is_held,
        }

    def shown_text(self, entry: Entry) -> str:
        """The complete text; where its tags vary, joined as training joins them."""
        variation = self.variations[entry.concept]
        if entry.lines or entry.is_class or not varies(entry.caption, variation):
            return complete_text(entry)
        return ", ".join(tags(entry.caption, variation.caption_separator))


def spans(entry: Entry, text: str, variation: Variation) -> list[dict[str, Any]]:
    """See `Preview.of`."""
    own = _own_part(entry, text)
    edges: list[tuple[int, str]] = []
    if entry.is_captioned and own:
        edges = [(0, "prompt"), (own[0], "caption"), (own[1], "prompt")]
    else:
        edges = [(0, "caption" if entry.is_captioned else "prompt")]
    if not entry.lines and not entry.is_class and varies(entry.caption, variation):
        found = tags(entry.caption, variation.caption_separator)
        kept = len(", ".join(found[: variation.keep_tokens]))
        edges = [(0, "kept"), (kept, "loose")] if kept else [(0, "loose")]
    ends = [at for at, _ in edges[1:]] + [len(text)]
    return [{"from": at, "to": end, "kind": kind} for (at, kind), end in zip(edges, ends, strict=True) if end > at]


def _own_part(entry: Entry, text: str) -> tuple[int, int] | None:
    """Where the picture's own caption stands in the text."""
    if entry.own and entry.own in text:
        start = text.rindex(entry.own)
        return start, start + len(entry.own)
    return None


def _learned_words(config: RunConfig, vocabulary: Vocabulary) -> list[tuple[list[int], range]]:
    """The words that textual inversion trains, by their tokens, with a number for each of their vectors."""
    if config.method != "textual_inversion":
        return []
    start = SLOTS
    found = []
    for word in config.tokens:
        slots = range(start, start + max(1, config.num_vectors or 1))
        found.append(([token.number for token in vocabulary.tokens(word)], slots))
        start = slots.stop
    return sorted(found, key=lambda pair: len(pair[0]), reverse=True)


def _places(tokens: Sequence[Token], pieces: Sequence[Any], learned: Sequence[Any]) -> list[tuple[int, int]]:
    """Each piece's letters in the text."""
    lengths = {slots: len(sought) for sought, slots in learned}
    found, at = [], 0
    for piece in pieces:
        count = lengths[piece] if isinstance(piece, range) else 1
        found.append((tokens[at].start, tokens[at + count - 1].end))
        at += count
    return found
