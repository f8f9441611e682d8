"""Decide from the scores what state each saved model is in, which one to keep, and how the run went.

Two things are wanted, likeness and following the prompt; copies, variety, the class and the world are guarded. They are
never added up: a model is good if nothing is wrong with it, and of the good ones the earliest is kept that no later one
clearly beats, since more steps never bring variety back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..messages.message import Message
from .scores import Scores

State = Literal["undertrained", "good", "overtrained", "drifted", "broken"]
STATES: dict[str, Message] = {  # as users read them
    "undertrained": Message("verdict.state_undertrained"),
    "good": Message("verdict.state_good"),
    "overtrained": Message("verdict.state_overtrained"),
    "drifted": Message("verdict.state_drifted"),
    "broken": Message("verdict.state_broken"),
}

LEARNED = 0.35  # likeness from which the subject is there
BEGUN = 0.2  # likeness from which there is something to keep, where nothing is good
BROKEN = 0.58  # of how clearly the base follows other prompts, below which pictures show nothing any more
WORLD_KEPT = 0.66  # of the base's, below which other prompts have suffered
CLASS_KEPT, CLASS_KEPT_BEFORE = 0.6, 0.4  # once the subject is there, and before
COPIES = 0.34  # share of pictures that repeat a photograph
VARIETY = 0.12
PROMPT = 0.6  # of what the base follows
LEAST = 0.05  # what a score counts at least: several that are lost are still told apart
NEAR = 0.98  # of the best likeness: nobody sees the difference
ALIKE = 0.85  # of the least harm: scores of so few pictures scatter by more


@dataclass(frozen=True)
class Judged:
    """A saved model with its scores. file: relative to the run's folder. weight: the best one of a LoRA."""

    step: int
    file: str
    scores: Scores
    weight: float | None = None
    is_finite: bool = True


def state_of(scores: Scores, base: Scores, is_finite: bool = True) -> State:
    """The state of a model with these scores, beside the base's.

    Broken comes before all others: what shows nothing is not like anything either. A model that repeats photographs is
    overtrained whatever else it has lost; one that has not learned its subject is undertrained unless it has also lost
    what the base could.
    """
    if not is_finite or _share(scores.world_kept, base.world_kept) < BROKEN:
        return "broken"
    learned = scores.likeness is None or scores.likeness >= LEARNED
    if learned and _repeats(scores):
        return "overtrained"
    if _has_drifted(scores, base, learned):
        return "drifted"
    if not learned:
        return "undertrained"
    return "overtrained" if ignores_prompts(scores, base) else "good"


def _share(value: float | None, of: float | None) -> float:
    """How much is left of what the base could; 1 where that cannot be said."""
    return 1.0 if value is None or not of else value / of


def _repeats(scores: Scores) -> bool:
    return (scores.copies or 0) > COPIES or (scores.variety is not None and scores.variety < VARIETY)


def _has_drifted(scores: Scores, base: Scores, learned: bool) -> bool:
    """learned: what has not learned its subject yet changes everything a little, which is no drift."""
    least = CLASS_KEPT if learned else CLASS_KEPT_BEFORE
    lost_class = scores.class_kept is not None and scores.class_kept < least
    return lost_class or _share(scores.world_kept, base.world_kept) < WORLD_KEPT


def ignores_prompts(scores: Scores, base: Scores) -> bool:
    """Whether prompts are followed clearly less than by the base, where only the subject's word is left out."""
    return scores.prompt is not None and scores.prompt < PROMPT * max(base.prompt or 0.0, 0.5)


def recommended(judged: Sequence[Judged], base: Scores) -> Judged | None:
    """The model to keep; None if none has learned its subject or all are broken.

    Among good ones the earliest whose likeness is within NEAR of the best, and which follows prompts as well. If none
    is good but the subject has been learned, the least harmed of those in which it is seen; of those that are as little
    harmed the earliest, since harm only grows.
    """
    states = {each.step: state_of(each.scores, base, each.is_finite) for each in judged}
    good = [each for each in judged if states[each.step] == "good"]
    if good:
        return _earliest_of_the_best(good)
    harmed = [each for each in judged if states[each.step] in ("drifted", "overtrained")]
    last = max(judged, key=lambda each: each.step)
    if states[last.step] == "undertrained" or max((each.scores.likeness or 0 for each in harmed), default=0) < LEARNED:
        return None  # what seemed to be learned before was not
    if any(states[each.step] == "drifted" for each in harmed):  # then the subject may be seen before the harm is done
        harmed += [each for each in judged if states[each.step] == "undertrained"]
    seen = [each for each in harmed if (each.scores.likeness or 0) >= BEGUN]
    least = max(least_harm(each) for each in seen)
    return min((each for each in seen if least_harm(each) >= ALIKE * least), key=lambda each: each.step)


def _earliest_of_the_best(good: Sequence[Judged]) -> Judged:
    best = max(each.scores.likeness or 0 for each in good)
    near = [each for each in good if (each.scores.likeness or 0) >= NEAR * best]
    follows = max(each.scores.prompt or 0 for each in near)
    return min((each for each in near if (each.scores.prompt or 0) >= NEAR * follows), key=lambda each: each.step)


def least_harm(judged: Judged) -> float:
    """What orders models of which none is good, 0..1: what is wanted times the square of what is to be kept, since harm
    is what they have. Copies weigh less, because they may be in all of them."""
    scores = judged.scores
    wanted = (scores.likeness, scores.prompt)
    kept = (scores.class_kept, scores.world_kept)
    value = math.prod(max(each, LEAST) for each in wanted if each is not None)
    value *= math.prod(max(each, LEAST) ** 2 for each in kept if each is not None)
    return value * (1 - 0.9 * (scores.copies or 0))


def flaw(judged: Judged, base: Scores, word: str) -> Message:
    """What is wrong with a model, or that nothing is. word: what calls the subject."""
    scores = judged.scores
    state = state_of(scores, base, judged.is_finite)
    if state == "overtrained" and (scores.copies or 0) > COPIES:
        return Message("verdict.copies", percent=round(100 * (scores.copies or 0)))
    if state == "overtrained":
        return Message("verdict.alike") if _repeats(scores) else Message("verdict.ignores_prompt", word=word)
    if state == "drifted":
        lost_world = _share(scores.world_kept, base.world_kept) < WORLD_KEPT
        return Message("verdict.world_lost" if lost_world else "verdict.class_lost")
    if state == "broken":
        return Message("verdict.broken")
    return Message("verdict.undertrained", word=word) if state == "undertrained" else Message("verdict.good", word=word)
