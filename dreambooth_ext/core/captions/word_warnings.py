"""Warnings of rare words that are poor ones for the base, by its vocabulary (`rare_words`)."""

from __future__ import annotations

from collections.abc import Iterator

from ..config.run_config import RunConfig
from ..data import captions
from ..data.concepts import Subjects
from ..errors import Problem, UserError
from ..facts.methods import SUBJECT_METHODS
from . import rare_words
from .clip_vocabulary import VOCABULARIES

SUGGESTED = 3


def warnings(config: RunConfig, subjects: Subjects) -> list[Problem]:
    """A warning for each word that can only mean a subject, and that the base knows or learns slowly."""
    try:
        vocabulary = VOCABULARIES.of_base(config.base_model)
    except UserError:
        return []  # opening the base tells it better
    found = []
    for word, field in dict(_words(config, subjects)).items():
        told = rare_words.report(word, vocabulary)
        if told.level != "good" and told.reason.code.startswith("words."):  # the others are told already
            words = rare_words.suggestions(vocabulary, SUGGESTED)
            found.append(Problem("words.poor", field, word=word, reason=told.reason, words=words))
    return found


def _words(config: RunConfig, subjects: Subjects) -> Iterator[tuple[str, str]]:
    """Each word with the setting that has it. Those of textual inversion get vectors of their own, whatever they are
    made of."""
    if config.method not in SUBJECT_METHODS:
        return
    for concept in subjects.concepts:
        rare = captions.rare_words(concept.instance_prompt or "", concept.class_prompt) - {"filewords", "name"}
        if len(rare) == 1:
            yield rare.pop(), concept.named("instance_prompt")
