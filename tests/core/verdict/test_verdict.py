"""The verdict as JSON and in words."""

from __future__ import annotations

import json

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.core.verdict.decision import Judged
from dreambooth_ext.core.verdict.scores import NAMES, Scores
from dreambooth_ext.core.verdict.verdict import Trust, by_losses, by_scores, trust_in

BASE = Scores(likeness=0.0, prompt=0.7, variety=1.0, copies=0.0, class_kept=1.0, world_kept=0.95)
CONFIG = RunConfig(instance_prompt="zkz cat", class_prompt="cat", learning_rate=2e-6, with_prior_preservation=True)
HIGH = Trust("high", Message("verdict.trust_high"))


def judged(step: int, **changed: float) -> Judged:
    good = {"likeness": 0.8, "prompt": 0.9, "variety": 0.7, "copies": 0.0, "class_kept": 0.9, "world_kept": 0.9}
    return Judged(step, f"artifacts/cat_{step}.safetensors", Scores(**{**good, **changed}))


def test_the_keys_of_the_contract():
    found = by_scores(CONFIG, [judged(600), judged(900), judged(1200, copies=0.9)], BASE, "zkz", HIGH).as_dict()
    found = json.loads(json.dumps(found))
    assert found["recommended"]["step"] == 600 and found["recommended"]["file"] == "artifacts/cat_600.safetensors"
    assert found["run"] == "overtrained" and found["next_run"] == {"max_train_steps": 600}
    assert [each["state"] for each in found["checkpoints"]] == ["good", "good", "overtrained"]
    assert set(NAMES) < set(found["checkpoints"][0]) and set(found["base"]) == set(NAMES)
    assert found["trust"]["level"] == "high" and found["next_run_sentence"]
    assert found["sentence"] == (
        "Keep step 600: it knows zkz as well as any later one, still follows the prompt, and repeats no photograph. "
        "From step 1200 on, 90 % of its pictures repeat a photograph."
    )
    assert found["sentence_code"] == "verdict.keep_before"


def test_the_words_for_other_cases():
    def sentence(*each: Judged) -> str:
        return by_scores(CONFIG, each, BASE, "zkz", HIGH).sentence

    assert sentence(judged(10, likeness=0.0)).code == "verdict.none_learned"
    assert sentence(judged(10, world_kept=0.0)).code == "verdict.none_broken"
    assert sentence(judged(10, class_kept=0.1)).code == "verdict.keep_least"
    assert sentence(judged(10)).code == "verdict.keep_only"
    assert sentence(judged(10), judged(20)).code == "verdict.keep"


def test_drift_is_what_was_measured_last():
    levels = {"low": 0.5, "middle": 0.5, "high": 0.5}
    measured = [
        {"step": n, "learned": levels, "held": None, "drift": 0.2 if n == 30 else None} for n in range(0, 60, 10)
    ]
    found = by_losses(CONFIG, [judged(20), judged(50)], measured, "zkz").as_dict()["checkpoints"]
    assert [each["state"] for each in found] == ["undertrained", "drifted"]


def test_losses_promise_nothing_of_pictures():
    losses = [1, 0.6, 0.4, 0.3, 0.3, 0.3, 0.3]
    levels = ("low", "middle", "high")
    measured = [{"step": 10 * n, "learned": dict.fromkeys(levels, x), "held": x} for n, x in enumerate(losses)]
    found = by_losses(CONFIG, [Judged(60, "a", Scores())], measured, "zkz")
    assert found.state == "good" and found.sentence.code == "verdict.keep_by_losses"


def test_trust_says_why_it_is_not_high():
    assert trust_in(12, BASE).level == "high"
    assert trust_in(5, BASE).level == "medium"
    assert trust_in(3, BASE).level == "low"
    assert trust_in(5, Scores(world_kept=0.3)).level == "low"
    assert "5 photographs" in trust_in(5, BASE).sentence


def measured(*learned: float, held: tuple[float, ...] = ()) -> list[dict[str, object]]:
    rows = []
    for number, value in enumerate(learned):
        known = held[number] if held else None
        rows.append({"step": 100 * number, "learned": {"low": value, "middle": value, "high": value}, "held": known})
    return rows


def test_losses_alone_say_where_it_still_learned_and_where_it_overfits():
    own = (1.0, 0.8, 0.6, 0.5, 0.42, 0.36, 0.3, 0.25)
    held = (1.0, 0.85, 0.7, 0.66, 0.7, 0.78, 0.85, 0.9)
    models = [Judged(step, f"{step}", Scores()) for step in (100, 300, 700)]
    found = by_losses(CONFIG, models, measured(*own, held=held), "zkz")
    assert [each.state for each in found.checkpoints] == ["undertrained", "good", "overtrained"]
    assert found.kept.step == 300 and found.trust.level == "medium"


def test_losses_alone_say_that_unrelated_prompts_have_changed():
    rows = measured(1.0, 0.8, 0.6, 0.5, 0.45, 0.44, 0.44, 0.44, held=(1.0, 0.85, 0.7, 0.66, 0.66, 0.66, 0.66, 0.66))
    rows = [{**row, "drift": 0.02 * number} for number, row in enumerate(rows)]
    found = by_losses(CONFIG, [Judged(100, "a", Scores()), Judged(600, "b", Scores())], rows, "zkz")
    assert [each.state for each in found.checkpoints] == ["undertrained", "drifted"]


def test_losses_alone_do_not_speak_of_pictures():
    found = by_losses(CONFIG, [Judged(100, "a", Scores())], measured(1.0, 0.8, held=(1.0, 0.85)), "zkz")
    assert found.sentence.code == "verdict.none_learned_by_losses" and found.next_run == {"max_train_steps": 600}
