"""The words that call a run's subjects, found in one way for its measurements and for its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..config.run_config import RunConfig
from ..data import captions
from ..data.concepts import Concept
from ..data.entry import Entry
from ..data.identifiers import COMMON_WORDS

LONG = 7  # letters; a rare word that was made up has fewer


def subject_words(config: RunConfig, concepts: Sequence[Concept], entries: Iterable[Entry]) -> list[str]:
    """The words of all subjects as they are written, the first subject's first; [] if nothing calls them.

    Those that are trained; else for each subject the rare words of its prompt, else what file names call it and its
    captions say, else the one rare word that all its captions share.
    """
    own = [entry for entry in entries if not entry.is_class]
    if config.tokens or config.method in ("textual_inversion", "finetune"):
        taught = [word for entry in own if entry.word for word in entry.word.split()]
        return list(dict.fromkeys([*taught, *config.tokens]))
    found: list[str] = []
    for index, concept in enumerate(concepts):
        found += _of_subject(concept, [entry for entry in own if entry.concept == index])
    return list({word.casefold(): word for word in reversed(found)}.values())[::-1]


def spoken(words: Iterable[str]) -> set[str]:
    """Words in lower case, as `captions.words` finds them in captions; of "my_sksper" only "sksper"."""
    found: set[str] = set()
    for word in words:
        parts = captions.words(word)
        found |= parts - COMMON_WORDS or parts
    return found


def _of_subject(concept: Concept, entries: Sequence[Entry]) -> list[str]:
    prompt = concept.instance_prompt or ""
    if prompt and not captions.has_template(prompt):
        rare = captions.rare_words(prompt, concept.class_prompt)
        if found := [word.strip(",.;:") for word in prompt.split() if captions.words(word) & rare]:
            return found
    texts = [captions.words(entry.caption) for entry in entries]
    return _named(entries, texts) or _shared(texts)


def _named(entries: Sequence[Entry], texts: Sequence[set[str]]) -> list[str]:
    """Words of file names that most captions have, or most of those of the pictures that are called by them alone."""
    counts: Counter[str] = Counter()
    for entry in entries:
        counts.update(word for word in dict.fromkeys(entry.identifier.split()) if captions.words(word) - COMMON_WORDS)
    found = []
    for word, _ in counts.most_common():
        alone = [text for entry, text in zip(entries, texts, strict=True) if entry.identifier == word]
        asked = (texts, alone) if len(alone) > 1 else (texts,)
        if any(2 * sum(captions.words(word) <= text for text in those) > len(those) for those in asked):
            found.append(word)
    return found


def _shared(texts: Sequence[set[str]]) -> list[str]:
    shared = set.intersection(*texts) - COMMON_WORDS if texts else set()
    return [min(shared, key=lambda word: (len(word) > LONG, word))] if shared else []
