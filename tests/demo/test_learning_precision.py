"""Weights in bfloat16, rounded at random, learn as float32 does: the smallest part of `benchmarks/learning.py`."""

from __future__ import annotations

import pytest
import torch

from benchmarks import learning


def test_a_movement_is_told_by_its_way_along_the_expected_one():
    expected = torch.tensor([3.0, 4.0, 0.0])
    same = learning.compared(expected, expected)
    assert same == pytest.approx({"along": 1, "norm": 1, "cosine": 1, "still": 1 / 3})
    half = learning.compared(torch.tensor([1.5, 2.0, 2.5]), expected)  # half of it, and as far at right angles
    assert half == pytest.approx({"along": 0.5, "norm": 0.5**0.5, "cosine": 0.5**0.5, "still": 0})
    assert learning.compared(torch.zeros(3), expected) == pytest.approx(
        {"along": 0, "norm": 0, "cosine": 0, "still": 1}
    )


@pytest.mark.slow
def test_weights_in_bfloat16_learn_the_subject(tmp_path):
    found = learning.result(tmp_path, "subject", "bf16", 1)
    assert found["subject"] > 0.4 and found["prompt"] > 0.6, found
    assert found["leak"] < 0.2 and found["world"] > 0.8, found


@pytest.mark.slow
def test_at_the_guides_rate_weights_in_bfloat16_move_only_if_they_are_rounded_at_random(tmp_path):
    moved = {row: learning.result(tmp_path, "guide", row, 1) for row in ("fp32", "bf16", "unrounded")}
    assert moved["bf16"]["along"] > 0.8, moved
    assert moved["unrounded"]["along"] < 0.2 and moved["unrounded"]["still"] > 0.9, moved
