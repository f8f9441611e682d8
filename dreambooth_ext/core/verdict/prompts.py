"""What is drawn to judge a run: the subject in several settings, the same without its word, and other things."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..config.run_config import RunConfig
from ..data import captions, prompt_templates
from ..data.concepts import Subjects
from ..data.entry import Entry
from ..guide import tables
from .measuring import UNRELATED
from .words import subject_words

SUBJECT_PROMPTS = 4  # of the subject, each drawn with several seeds
PHOTO_PROMPTS = 3
WORLD_PROMPTS = 4  # of what the pictures never showed


@dataclass(frozen=True)
class SubjectPrompt:
    """A prompt with the subject's word, and what is left of it without. plain: "" where nothing is left."""

    prompt: str
    plain: str


@dataclass(frozen=True)
class Prompts:
    """The prompts of a verdict. word: what calls the subject; "" if nothing does, as in fine-tuning. photo: captions of
    the photographs, under which copies of them would appear first."""

    word: str
    subject: list[SubjectPrompt]
    photo: list[str]
    world: list[str]

    @property
    def plain(self) -> list[str]:
        """The subject's prompts without its word, as far as something is left."""
        return [each.plain for each in self.subject if each.plain]


def prompts_of(config: RunConfig, subjects: Subjects, entries: Sequence[Entry]) -> Prompts:
    """The prompts for judging a run: its own preview prompts where they suffice, else the guide's.

    entries: the pictures that the run trains on. Preview prompts without the word show the rest of the world. Without
    a word, the captions of the pictures are drawn.
    """
    own = [entry for entry in entries if not entry.is_class]
    said = list(dict.fromkeys(filter(None, (_said(entry) for entry in own))))
    photo = said[:: max(1, -(-len(said) // PHOTO_PROMPTS))]
    word = word_of(config, subjects, own)
    given = [prompt for prompt in config.validation_prompts or () if prompt.strip()]
    world = [prompt for prompt in given if not (word and holds(prompt, word))] if word else []
    world = [*world, *(prompt for prompt in UNRELATED if len(world) < 2)][:WORLD_PROMPTS]
    if not word:
        asked = [*given, *said]
        return Prompts("", [SubjectPrompt(prompt, "") for prompt in asked][:SUBJECT_PROMPTS], photo, world)
    asked = [prompt for prompt in given if holds(prompt, word)]
    if len(asked) < 2:
        kind = config.subject_type if config.subject_type in tables.TEST_PROMPTS else "object"
        asked += [prompt for prompt in tables.test_prompts(str(kind), word) if prompt not in asked]
    subject = [SubjectPrompt(prompt, without(prompt, word)) for prompt in asked[:SUBJECT_PROMPTS]]
    return Prompts(word, subject, photo, world)


def _said(entry: Entry) -> str:
    """What the run is told of a picture: its caption, within the first of its template's lines where it has one."""
    if not entry.lines:
        return entry.caption
    return prompt_templates.filled(entry.lines[0], entry.caption, entry.word)


def word_of(config: RunConfig, subjects: Subjects, entries: Sequence[Entry]) -> str:
    """The word that calls the run's (first) subject; "" if there is none."""
    return next(iter(subject_words(config, subjects.concepts, entries)), "")


def holds(prompt: str, word: str) -> bool:
    """Whether the prompt contains the word, alone or with other letters of no word around it."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE) is not None


def without(prompt: str, word: str) -> str:
    """The prompt without the word and what only belongs to it: "in zkz style" goes as a whole."""
    found = re.escape(word)
    text = re.sub(rf",?\s*\bin (?:the )?{found} style\b", "", prompt, flags=re.IGNORECASE)
    text = re.sub(rf"(?<!\w){found}(?!\w)", "", text, flags=re.IGNORECASE)
    text = re.sub(r"(?:\s*,)+", ",", " ".join(text.split())).strip(" ,.")
    return text if captions.words(text) - {"a", "an", "the", "in", "on", "of"} else ""
