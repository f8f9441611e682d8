"""Checks whether a rare word is a good one to stand for the subject in prompts."""

from __future__ import annotations

import re

from ..errors import Problem
from ..messages.message import Message

# A good rare word matches all of them; else the first that it does not match says why. Also read by the page.
IDENTIFIER_RULES = (
    (r"\S*", Message("identifiers.space")),
    (r"[A-Za-z0-9]*", Message("identifiers.letters")),
    (r".{3,}", Message("identifiers.too_short")),
    (r".{0,12}", Message("identifiers.too_long")),
)
USED_WORDS = frozenset(["person", "man", "woman", "john", "photo", "style", "object", "dog", "cat", "girl", "boy"])

# Words that a base model knows well, and the names that people try first: teaching one of them a new meaning fights
# with all the pictures that the base has seen under it. Not a dictionary, only the likely ones.
_WORDS = """
a an and art as at background beautiful best black blue body boy by car cartoon cat character child close-up color
colour cute dark digital dog drawing drawn face female figure for from full girl green guy hair house image in is
it kid lady landscape light male man masterpiece me model my of on one or oil painting person pet photo photograph
photography picture portrait puppy quality red realistic selfie self shot sketch style subject test the thing this
to toy up white with woman yellow young object kitten new old
adam alex alexander alice amy andrew ann anna anton ben bob chris daniel david dmitry elena emily emma eva george
helen igor irina ivan jack james jane jim joe john julia kate kim lena lisa lucy maria mark mary max michael mike
nick nina oleg olga paul peter sam sarah sergey sofia sophia steve tanya tom victor vlad
"""
COMMON_WORDS = frozenset(_WORDS.split())

KNOWN = Message("identifiers.known")
ADVICE = Message("identifiers.poor.remedy")


def identifier_problem(word: str) -> Message | None:
    """What is wrong with a rare word; None for a good one."""
    for pattern, message in IDENTIFIER_RULES:
        if not re.fullmatch(pattern, word):
            return message
    return KNOWN if word.lower() in USED_WORDS else None


def identifier_warning(word: str, field: str = "") -> Problem | None:
    """A warning if `word` is a poor rare word; None for a good one."""
    problem = identifier_problem(word)
    if not problem and word.lower() in COMMON_WORDS:
        problem = KNOWN
    return Problem("identifiers.poor", field, word=word, problem=problem) if problem else None
