"""What a run's events say of its measurements."""

from __future__ import annotations

import pytest

from dreambooth_ext.core.verdict import measurements


def test_a_resumed_run_has_measured_each_step_once():
    events = [
        {"type": "measurement", "step": 0, "held": 1.0},
        {"type": "step", "step": 1},
        {"type": "measurement", "step": 20, "held": 0.5},
        {"type": "measurement", "step": 40, "held": 9.0},
        {"type": "status", "status": "training", "step": 30},
        {"type": "measurement", "step": 40, "held": 0.25},
        {"type": "error"},
    ]
    assert [(one["step"], one["held"]) for one in measurements.of(events)] == [(0, 1.0), (20, 0.5), (40, 0.25)]


def test_the_numbers_of_one():
    known = {"learned": {"low": 0.5, "middle": 1.0, "high": 0.25}, "held": None, "drift": float("nan"), "word": 1}
    numbers = measurements.numbers(known)
    assert numbers == {"learned": pytest.approx(0.5), "held": None, "class": None, "drift": None, "word": 1.0}
    assert measurements.numbers({"learned": {"low": 0}})["learned"] is None
    assert list(measurements.numbers({})) == list(measurements.NUMBERS)
