"""How good a rare word is for a base: into how many of CLIP's tokens it falls, and what the base may know of them.

The numbers of tokens grow with their rarity (`clip_vocabulary`), so the vocabulary itself tells what is common.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..data.identifiers import COMMON_WORDS, KNOWN, identifier_problem
from ..messages.message import Message, beside
from .clip_vocabulary import END, Token, Vocabulary
from .known_tokens import MEANINGFUL

RARE = 40_000  # tokens from this number on, the last fifth, are rare
FAMILIAR = 20_000  # words below it show how words are spelt
EVERYDAY = 12_000  # a word's part below it that is a word, too, is one that the base knows well
MOST_TOKENS = 3  # of a word that is learned quickly
SHORTEST_PART = 4  # letters of a part that can be a word by itself
SUGGESTED = re.compile(r"[a-z]{4,5}")
UNLIKE_WORDS = 3.1  # nats per letter: rare tokens above it read like no English word
NOUNS = ("person", "style", "object", "woman", "man", "girl", "boy", "face", "pet", "dog", "cat", "toy", "art")
MEANINGS = {"sks": Message("words.means_sks"), "ohwx": Message("words.means_ohwx")}


@dataclass(frozen=True)
class WordReport:
    """level: "good", "doubtful" or "bad"."""

    word: str
    level: str
    reason: Message
    tokens: list[Token]

    def as_dict(self) -> dict[str, Any]:
        """{"word", "level", "reason", "tokens": [{"text", "number", "rare"}]}"""
        tokens = [
            {"text": one.text.removesuffix(END), "number": one.number, "rare": one.number >= RARE}
            for one in self.tokens
        ]
        return {"word": self.word, "level": self.level, **beside("reason", self.reason), "tokens": tokens}


def report(word: str, vocabulary: Vocabulary) -> WordReport:
    """What is to be said of a word for the base with this vocabulary."""
    tokens = vocabulary.tokens(word)
    level, reason = _judged(word, tokens, vocabulary)
    return WordReport(word, level, reason, tokens)


def _judged(word: str, tokens: list[Token], vocabulary: Vocabulary) -> tuple[str, Message]:
    small = word.lower()
    problem = identifier_problem(word) or (KNOWN if small in COMMON_WORDS else None)
    if problem:
        return "bad", Message("identifiers.poor", word=word, problem=problem)
    if len(tokens) > 1:
        return _of_several(small, tokens, vocabulary)
    number, total = tokens[0].number, len(vocabulary)
    if number < RARE:
        return "bad", Message("words.common", number=number, total=total)
    if small in MEANINGS:
        return "doubtful", MEANINGS[small]
    if small in MEANINGFUL:
        return "doubtful", Message("words.means_something")
    if len(small) < SHORTEST_PART:
        return "doubtful", Message("words.abbreviation")
    if strangeness(small, vocabulary) < UNLIKE_WORDS:
        return "doubtful", Message("words.like_a_word")
    return "good", Message("words.one_rare", number=number, total=total)


def _of_several(word: str, tokens: list[Token], vocabulary: Vocabulary) -> tuple[str, Message]:
    parts = [token.text.removesuffix(END) for token in tokens]
    told: dict[str, Any] = {"count": len(parts), "tokens": " + ".join(parts)}
    noun = next((noun for noun in NOUNS if word.endswith(noun) and len(word) > len(noun)), "")
    for part in parts:
        is_known = vocabulary.numbers.get(part + END, RARE) < EVERYDAY or part in COMMON_WORDS
        if part != noun and len(part) >= SHORTEST_PART and is_known and part not in NOUNS:
            return "doubtful", Message("words.part_known", part=part, **told)
    if len(parts) > MOST_TOKENS:
        return "doubtful", Message("words.many_tokens", **told)
    if noun in parts:
        return "good", Message("words.with_noun", part=noun, **told)
    return "good", Message("words.several_tokens", **told)


def suggestions(vocabulary: Vocabulary, count: int = 12) -> list[str]:
    """Words of one token that are rare, read like no word, and mean nothing that is known; the rarest first."""
    return list(_suggested(vocabulary)[:count])


@functools.lru_cache(maxsize=4)
def _suggested(vocabulary: Vocabulary) -> tuple[str, ...]:
    found = [
        (number, word)
        for text, number in vocabulary.numbers.items()
        if number >= RARE and text.endswith(END) and SUGGESTED.fullmatch(word := text.removesuffix(END))
        if word not in MEANINGFUL and not re.search(r"(.)\1\1", word)
    ]
    return tuple(
        word for _, word in sorted(found, reverse=True) if strangeness(word, vocabulary) >= UNLIKE_WORDS
    )  # fmt: skip


def strangeness(word: str, vocabulary: Vocabulary) -> float:
    """How unlike the vocabulary's common words a word is: the mean surprise at its letters, in nats, each after the
    two before it."""
    threes, twos = _letters(vocabulary)
    text = f"^^{word}$"
    chances = [(threes[text[at : at + 3]] + 0.3) / (twos[text[at : at + 2]] + 8) for at in range(len(text) - 2)]
    return -sum(map(math.log, chances)) / len(chances)


@functools.lru_cache(maxsize=4)
def _letters(vocabulary: Vocabulary) -> tuple[Counter[str], Counter[str]]:
    """How often three and two letters follow each other in common words of four letters and more."""
    threes: Counter[str] = Counter()
    twos: Counter[str] = Counter()
    for text, number in vocabulary.numbers.items():
        word = text.removesuffix(END)
        if number < FAMILIAR and word != text and re.fullmatch(r"[a-z]{4,}", word):
            padded = f"^^{word}$"
            for at in range(len(padded) - 2):
                threes[padded[at : at + 3]] += 1
                twos[padded[at : at + 2]] += 1
    return threes, twos
