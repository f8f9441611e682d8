"""How many tokens of a text a text encoder reads: words with learned vectors count as many, and are never split."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

SLOTS = 2**20  # numbers from here on stand for learned vectors, smaller ones are tokens; no vocabulary is so large
Piece = int | range  # a token's number, or a learned word's slots, which stay together


def with_learned(tokens: Sequence[int], known: Sequence[tuple[Sequence[int], range]]) -> list[Piece]:
    """The tokens of a text with slots in place of learned words. known: each word's tokens with its slots, longest
    first."""
    found: list[Piece] = []
    position = 0
    while position < len(tokens):
        for sought, slots in known:
            if list(tokens[position : position + len(sought)]) == list(sought):
                found.append(slots)
                position += len(sought)
                break
        else:
            found.append(tokens[position])
            position += 1
    return found


def cut(pieces: list[Piece], most: int | None) -> list[Piece]:
    """What is read of a text: `most` tokens, learned words whole or not at all. None: no limit."""
    if most is None:
        return pieces
    lengths = itertools.accumulate(map(length, pieces))
    return [piece for piece, total in zip(pieces, lengths, strict=True) if total <= most]


def length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, range) else 1
