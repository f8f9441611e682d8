"""What to change in the next run, by the guide's table of troubles: settings, and a sentence that says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config.run_config import RunConfig
from ..data import captions
from ..facts.methods import SUBJECT_METHODS, TUNING_METHODS
from ..guide.tables import TEXT_ENCODER_SHARE
from ..messages.message import Message
from .decision import Judged, State, ignores_prompts
from .prompts import without
from .scores import Scores

LONGER = 500  # steps more, at least
FASTER, SLOWER, MUCH_SLOWER = 1.5, 0.5, 0.2  # times the learning rate
SOME = 0.1  # likeness from which more steps at the same rate will do


def next_run(
    config: RunConfig, state: State, judged: Sequence[Judged], kept: Judged | None, base: Scores, word: str
) -> tuple[dict[str, Any], Message]:
    """Return settings for the next run, as values of `RunConfig`, and the sentence.

    state: of the run. kept: the recommended model.
    """
    last = max(judged, key=lambda each: each.step)
    if state == "good":
        return {}, Message("verdict.next_good")
    if state == "broken":
        return _broken(config)
    if state == "undertrained":
        return _undertrained(config, last)
    if state == "drifted" and _lacks_class_pictures(config, word):
        return {"with_prior_preservation": True, "class_prompt": _class_prompt(config, word)}, Message(
            "verdict.next_class"
        )
    if _text_encoder_is_suspect(config, last, base):
        steps = max(1, round(TEXT_ENCODER_SHARE * last.step))
        changed = {"text_encoder_steps": steps, **_rates(config, SLOWER, ("text_encoder_lr",))}
        return changed, Message("verdict.next_text", steps=steps)
    return _overtrained(last, kept, config)


def _broken(config: RunConfig) -> tuple[dict[str, Any], Message]:
    changed = _rates(config, MUCH_SLOWER)
    if "learning_rate" not in changed:
        return changed, Message("verdict.next_broken_schedule")
    return changed, Message("verdict.next_broken", rate=changed["learning_rate"])


def _undertrained(config: RunConfig, last: Judged) -> tuple[dict[str, Any], Message]:
    steps = last.step + max(LONGER, last.step // 2)
    likeness = last.scores.likeness  # None: nothing was drawn
    rates = {} if likeness is None or likeness >= SOME else _rates(config, FASTER)
    if "learning_rate" in rates:
        rate = rates["learning_rate"]
        return {"max_train_steps": steps, **rates}, Message("verdict.next_longer_faster", steps=steps, rate=rate)
    return {"max_train_steps": steps}, Message("verdict.next_longer", steps=steps)


def _overtrained(last: Judged, kept: Judged | None, config: RunConfig) -> tuple[dict[str, Any], Message]:
    if kept is not None and kept.step < last.step:
        return {"max_train_steps": kept.step}, Message("verdict.next_fewer", steps=kept.step)
    steps = max(1, round(last.step * 2 / 3))
    return {"max_train_steps": steps, **_rates(config, SLOWER)}, Message("verdict.next_fewer_slower", steps=steps)


def _lacks_class_pictures(config: RunConfig, word: str) -> bool:
    return bool(word) and config.method in SUBJECT_METHODS and not config.with_prior_preservation


def _class_prompt(config: RunConfig, word: str) -> str:
    """What the pictures show, without the subject's word: "a photo of sksper person" becomes "a photo of person"."""
    prompt = config.instance_prompt or ""
    if config.use_captions or captions.has_template(prompt) or not prompt:
        return "[filewords]"
    return without(prompt, word) or str(config.subject_type or "object")


def _text_encoder_is_suspect(config: RunConfig, last: Judged, base: Scores) -> bool:
    """Whether text encoders learned for longer than the guide says, and prompts or other things have suffered."""
    if config.method not in TUNING_METHODS or not config.text_encoder_steps:
        return False
    too_long = config.text_encoder_steps > 2 * TEXT_ENCODER_SHARE * last.step
    lost = last.scores.world_kept is not None and last.scores.world_kept < 0.9 * (base.world_kept or 1)
    return too_long and (lost or ignores_prompts(last.scores, base))


def _rates(
    config: RunConfig, factor: float, names: Sequence[str] = ("learning_rate", "text_encoder_lr")
) -> dict[str, float]:
    """The learning rates times `factor`, where they are numbers and used by the method."""
    found = {}
    for name in names:
        if name == "text_encoder_lr" and config.method not in TUNING_METHODS:
            continue
        try:
            found[name] = float(f"{float(getattr(config, name)) * factor:.3g}")
        except (TypeError, ValueError):  # not set, or a schedule
            continue
    return found
