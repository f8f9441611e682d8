"""States and the choice of the model to keep, from scores."""

from __future__ import annotations

import pytest

from dreambooth_ext.core.verdict.decision import Judged, flaw, recommended, state_of
from dreambooth_ext.core.verdict.scores import Scores

BASE = Scores(likeness=0.0, prompt=0.7, variety=1.0, copies=0.0, class_kept=1.0, world_kept=0.95)
GOOD = {"likeness": 0.8, "prompt": 0.9, "variety": 0.7, "copies": 0.0, "class_kept": 0.9, "world_kept": 0.9}


def scores(**changed: float | None) -> Scores:
    return Scores(**{**GOOD, **changed})


@pytest.mark.parametrize(
    "changed, state, code",
    [
        ({}, "good", "good"),
        ({"likeness": 0.1}, "undertrained", "undertrained"),
        ({"copies": 0.5}, "overtrained", "copies"),
        ({"variety": 0.1}, "overtrained", "alike"),
        ({"prompt": 0.2}, "overtrained", "ignores_prompt"),
        ({"class_kept": 0.2}, "drifted", "class_lost"),
        ({"world_kept": 0.6}, "drifted", "world_lost"),
        ({"world_kept": 0.1}, "broken", "broken"),
        ({"likeness": 0.1, "class_kept": 0.5}, "undertrained", "undertrained"),
        ({"likeness": 0.1, "class_kept": 0.3}, "drifted", "class_lost"),
        ({"likeness": 0.1, "world_kept": 0.6}, "drifted", "world_lost"),
        ({"copies": 0.5, "class_kept": 0.1}, "overtrained", "copies"),
    ],
)
def test_one_thing_that_is_wrong_makes_the_state(changed, state, code):
    assert state_of(scores(**changed), BASE) == state
    assert flaw(Judged(10, "a", scores(**changed)), BASE, "zkz").code == f"verdict.{code}"


def test_what_cannot_be_measured_is_not_held_against_a_model():
    assert state_of(Scores(likeness=0.8, variety=0.9, copies=0.0), Scores(likeness=0.0)) == "good"


def test_a_model_that_cannot_draw_is_broken():
    assert state_of(Scores(), BASE, is_finite=False) == "broken"


def judged(*found: tuple[int, dict[str, float]]) -> list[Judged]:
    return [Judged(step, f"{step}.safetensors", scores(**changed)) for step, changed in found]


def test_the_earliest_is_kept_that_no_later_one_clearly_beats():
    found = judged((100, {"likeness": 0.5}), (200, {"likeness": 0.79}), (300, {}), (400, {"likeness": 0.8}))
    assert recommended(found, BASE).step == 200


def test_following_prompts_counts_among_those_that_know_the_subject():
    found = judged((200, {"prompt": 0.6}), (300, {"prompt": 0.95}))
    assert recommended(found, BASE).step == 300


def test_a_good_one_is_kept_before_a_more_similar_one_that_copies():
    found = judged((200, {"likeness": 0.6}), (400, {"likeness": 1.0, "copies": 0.9}))
    assert recommended(found, BASE).step == 200


def test_the_least_harmed_where_none_is_good():
    found = judged((200, {"class_kept": 0.1}), (400, {"class_kept": 0.4}), (600, {"copies": 1.0}))
    assert recommended(found, BASE).step == 400


def test_of_those_that_are_as_little_harmed_the_earliest():
    found = judged((100, {"class_kept": 0.5}), (200, {"class_kept": 0.52}), (300, {"class_kept": 0.1}))
    assert recommended(found, BASE).step == 100
    found = judged((100, {"class_kept": 0.4}), (200, {"class_kept": 0.52}), (300, {"class_kept": 0.52}))
    assert recommended(found, BASE).step == 200


def test_where_others_suffer_one_from_before_may_be_the_least_harmed():
    found = judged((100, {"likeness": 0.3, "class_kept": 0.7}), (400, {"likeness": 0.6, "class_kept": 0.01}))
    assert recommended(found, BASE).step == 100


def test_where_photographs_are_repeated_one_that_has_hardly_begun_is_no_way_out():
    found = judged((100, {"likeness": 0.3}), (400, {"likeness": 0.9, "copies": 1.0}))
    assert recommended(found, BASE).step == 400


def test_none_of_those_that_learned_nothing_or_are_broken():
    found = judged((200, {"likeness": 0.0}), (400, {"world_kept": 0.0}))
    assert recommended(found, BASE) is None
    assert recommended(judged((10, {"class_kept": 0.1}), (50, {"likeness": 0.1})), BASE) is None
