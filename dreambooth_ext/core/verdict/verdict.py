"""The verdict on a run as a whole, in words and as the JSON of `verdict --json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..config.run_config import RunConfig
from ..messages.message import Message, beside
from . import regions
from .advice import next_run
from .decision import Judged, State, flaw, recommended, state_of
from .scores import Scores

Level = Literal["high", "medium", "low"]
ENOUGH = 8  # photographs that say what a subject looks like
FEW = 4
DRIFTED = 0.04  # relative change of predictions for unrelated prompts; of runs that drew them as before, 0.01
FOLLOWS = 0.6  # what a base must follow of the prompts to judge by them


@dataclass(frozen=True)
class Trust:
    level: Level
    sentence: Message


@dataclass(frozen=True)
class Checkpoint:
    """A saved model, its state, and the reason."""

    judged: Judged
    state: State
    reason: Message

    def as_dict(self) -> dict[str, Any]:
        judged = self.judged
        known = {"step": judged.step, "file": judged.file, "weight": judged.weight, "state": self.state}
        return {**known, **judged.scores.as_dict(), **beside("sentence", self.reason)}


@dataclass(frozen=True)
class Verdict:
    """state: of the run, which is that of its last model. kept: the recommended model; None if none is of use."""

    sentence: Message
    kept: Judged | None
    checkpoints: Sequence[Checkpoint]
    base: Scores
    trust: Trust
    next_run: dict[str, Any]
    next_sentence: Message

    @property
    def state(self) -> State:
        return self.checkpoints[-1].state

    def as_dict(self) -> dict[str, Any]:
        sentence = beside("sentence", self.sentence)
        kept = self.kept and {"step": self.kept.step, "file": self.kept.file, "weight": self.kept.weight, **sentence}
        return {
            "recommended": kept,
            "run": self.state,
            **sentence,
            "checkpoints": [each.as_dict() for each in self.checkpoints],
            "base": self.base.as_dict(),
            "trust": {"level": self.trust.level, **beside("sentence", self.trust.sentence)},
            "next_run": self.next_run,
            **beside("next_run_sentence", self.next_sentence),
        }


def by_scores(config: RunConfig, judged: Sequence[Judged], base: Scores, word: str, trust: Trust) -> Verdict:
    """The verdict from what models draw. judged: by step, at least one. word: what calls the subject, if anything."""
    called = word or Message("verdict.subject")
    checkpoints = [
        Checkpoint(each, state_of(each.scores, base, each.is_finite), flaw(each, base, called)) for each in judged
    ]
    return _put_together(config, checkpoints, recommended(judged, base), base, word, trust)


def by_losses(
    config: RunConfig, judged: Sequence[Judged], measurements: Sequence[dict[str, Any]], word: str
) -> Verdict:
    """The verdict from the losses that were measured while training. judged: by step, without scores."""
    found = regions.of(measurements)
    called = word or Message("verdict.subject")
    checkpoints = []
    for each in judged:
        state: State = "good"
        reason: Message = Message("verdict.good_by_losses")
        drift = [one["drift"] for one in measurements if one["step"] <= each.step and one.get("drift") is not None]
        if drift and drift[-1] >= DRIFTED:
            state, reason = "drifted", Message("verdict.world_lost")
        elif found.good is None or each.step < found.good:
            state, reason = "undertrained", Message("verdict.still_learning")
        elif found.overfitting is not None and each.step >= found.overfitting:
            state, reason = "overtrained", Message("verdict.overfits")
        checkpoints.append(Checkpoint(each, state, reason))
    kept = next((each.judged for each in checkpoints if each.state == "good"), None)
    level: Level = "medium" if found.is_sure else "low"
    trust = Trust(level, Message("verdict.trust_losses_sure" if found.is_sure else "verdict.trust_losses"))
    return _put_together(config, checkpoints, kept, Scores(), called, trust)


def _put_together(
    config: RunConfig,
    checkpoints: Sequence[Checkpoint],
    kept: Judged | None,
    base: Scores,
    word: str,
    trust: Trust,
) -> Verdict:
    judged = [each.judged for each in checkpoints]
    changed, why = next_run(config, checkpoints[-1].state, judged, kept, base, word)
    sentence = _sentence(checkpoints, kept, word or Message("verdict.subject"))
    return Verdict(sentence, kept, checkpoints, base, trust, changed, why)


def _sentence(checkpoints: Sequence[Checkpoint], kept: Judged | None, called: str) -> Message:
    if kept is None:
        learns = any(each.state == "undertrained" for each in checkpoints)
        if learns and checkpoints[-1].judged.scores == Scores():
            return Message("verdict.none_learned_by_losses", word=called)
        return Message("verdict.none_learned", word=called) if learns else Message("verdict.none_broken")
    own = next(each for each in checkpoints if each.judged.step == kept.step)
    if own.state != "good":
        return Message("verdict.keep_least", step=kept.step, what=own.reason)
    if own.judged.scores == Scores():  # nothing was drawn
        return Message("verdict.keep_by_losses", step=kept.step, what=own.reason)
    if worse := [each for each in checkpoints if each.judged.step > kept.step and each.state != "good"]:
        known = {"later": worse[0].judged.step, "what": worse[0].reason}
        return Message("verdict.keep_before", step=kept.step, word=called, **known)
    if sum(each.state == "good" for each in checkpoints) == 1:
        return Message("verdict.keep_only", step=kept.step, word=called)
    return Message("verdict.keep", step=kept.step, word=called)


def trust_in(photographs: int, base: Scores) -> Trust:
    """How far to trust a verdict by drawn pictures."""
    reasons: list[Message] = []
    if photographs < ENOUGH:
        reasons.append(Message("verdict.few_photographs", count=photographs))
    if base.world_kept is None:
        reasons.append(Message("verdict.no_world"))
    elif base.world_kept < FOLLOWS:
        reasons.append(Message("verdict.base_draws_little"))
    if not reasons:
        return Trust("high", Message("verdict.trust_high"))
    if photographs < FEW or len(reasons) > 1:
        return Trust("low", Message("verdict.trust_low", reasons=reasons))
    return Trust("medium", Message("verdict.trust_medium", reasons=reasons))
