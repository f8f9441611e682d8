"""The next run, by the guide's table of troubles."""

from __future__ import annotations

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.verdict.advice import next_run
from dreambooth_ext.core.verdict.decision import Judged
from dreambooth_ext.core.verdict.scores import Scores

BASE = Scores(likeness=0.0, prompt=0.7, variety=1.0, copies=0.0, class_kept=1.0, world_kept=0.95)
CONFIG = RunConfig(
    instance_prompt="a photo of sksper person",
    class_prompt="a photo of a person",
    with_prior_preservation=True,
    learning_rate=2e-6,
    text_encoder_lr=1e-6,
    text_encoder_steps=250,
)


def last(**scores: float) -> list[Judged]:
    return [Judged(1000, "a", Scores(**{"likeness": 0.8, "prompt": 0.9, "world_kept": 0.95, **scores}))]


def advised(config, state, judged, kept=None, word="sksper"):
    changed, sentence = next_run(config, state, judged, kept, BASE, word)
    return changed, sentence.code


def test_nothing_after_a_good_run():
    assert advised(CONFIG, "good", last()) == ({}, "verdict.next_good")


def test_more_steps_for_what_has_begun_to_learn():
    assert advised(CONFIG, "undertrained", last(likeness=0.2)) == ({"max_train_steps": 1500}, "verdict.next_longer")


def test_a_higher_rate_for_what_has_learned_nothing():
    changed, code = advised(CONFIG, "undertrained", last(likeness=0.0))
    assert changed == {"max_train_steps": 1500, "learning_rate": 3e-6, "text_encoder_lr": 1.5e-6}
    assert code == "verdict.next_longer_faster"


def test_the_steps_of_the_model_that_is_kept():
    kept = Judged(600, "b", Scores(likeness=0.8))
    assert advised(CONFIG, "overtrained", last(copies=1), kept) == ({"max_train_steps": 600}, "verdict.next_fewer")


def test_fewer_steps_at_half_the_rate_where_none_is_good():
    changed, code = advised(CONFIG, "overtrained", last(copies=1))
    assert changed == {"max_train_steps": 667, "learning_rate": 1e-6, "text_encoder_lr": 5e-7}
    assert code == "verdict.next_fewer_slower"


def test_class_pictures_where_there_were_none():
    config = RunConfig(instance_prompt="a photo of sksper person", with_prior_preservation=False, learning_rate=2e-6)
    changed, code = advised(config, "drifted", last(class_kept=0.1))
    assert changed == {"with_prior_preservation": True, "class_prompt": "a photo of person"}
    assert code == "verdict.next_class"


def test_fewer_text_encoder_steps_where_prompts_suffer_from_them():
    config = RunConfig(
        instance_prompt="sksper person",
        class_prompt="person",
        with_prior_preservation=True,
        learning_rate=2e-6,
        text_encoder_lr=2e-6,
        text_encoder_steps=1000,
    )
    changed, code = advised(config, "overtrained", last(prompt=0.1))
    assert changed == {"text_encoder_steps": 250, "text_encoder_lr": 1e-6} and code == "verdict.next_text"


def test_a_fifth_of_a_rate_that_broke_the_model():
    changed, code = advised(CONFIG, "broken", last())
    assert changed == {"learning_rate": 4e-7, "text_encoder_lr": 2e-7} and code == "verdict.next_broken"


def test_a_schedule_of_rates_is_left_to_the_user():
    config = RunConfig(learning_rate="2e-6:1000, 1e-6", method="hypernetwork")
    assert advised(config, "broken", last()) == ({}, "verdict.next_broken_schedule")
