"""What cannot go with blocks that live outside the card is refused by name, before anything is loaded."""

from __future__ import annotations

import contextlib

import pytest

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.offload import offload_share
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.engine import memory_estimate, plan, worker
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.streaming import conditions, units
from tests import training

FREE = {"method": "dreambooth", "device": "cuda", "optimizer": "adamw", "mixed_precision": "bf16", "offload": "1"}
FREE |= {"clip_grad_mode": "previous_norm"}


@pytest.mark.parametrize(
    ("settings", "field", "code"),
    [
        ({}, "", ""),
        ({"clip_grad_mode": "norm", "max_grad_norm": 0}, "", ""),
        ({"offload": "off", "device": "cpu", "clip_grad_mode": "norm"}, "", ""),
        ({"offload": "0", "device": "cpu"}, "", ""),
        ({"device": "cpu"}, "offload", "plan.offload_no_card"),
        ({"device": "mps"}, "offload", "plan.offload_no_card"),
        ({"clip_grad_mode": "norm"}, "clip_grad_mode", "plan.offload_gradients"),
        ({"clip_grad_mode": "value"}, "clip_grad_mode", "plan.offload_gradients"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps", "plan.offload_kept"),
        ({"mixed_precision": "fp16"}, "mixed_precision", "plan.offload_kept"),
        ({"optimizer": "prodigy"}, "optimizer", "plan.offload_optimizer"),
        ({"optimizer": "prodigy_schedulefree"}, "optimizer", "plan.offload_averages"),
        ({"optimizer": "paged_adamw8bit"}, "optimizer", "plan.offload_paged"),
        ({"method": "lora", "clip_grad_mode": "norm", "optimizer": "prodigy", "mixed_precision": "fp16"}, "", ""),
    ],
)
def test_what_it_does_not_go_with(settings, field, code):
    found = conditions.problems(RunConfig(**FREE | settings))
    assert [(problem.field, problem.code) for problem in found] == ([(field, code)] if code else [])
    assert all(problem.message and problem.remedy for problem in found)


def test_several_processes_whose_gradients_have_to_be_on_the_card_together():
    (found,) = conditions.problems(RunConfig(**FREE, processes=2))
    assert (found.field, found.code) == ("offload", "training.offload_processes")
    assert conditions.problems(RunConfig(**FREE | {"method": "lora", "processes": 2})) == []


def test_a_run_on_the_cpu_is_refused(trainer):
    run = trainer.train(offload="0.5", ends=worker.BAD_INPUT)
    assert run.state()["problem"]["code"] == "plan.offload_no_card"
    assert run.state()["problem"]["field"] == "offload"
    assert training.events(run, "step") == []


@pytest.mark.parametrize("value", ["1.5", "-0.1", "half", "nan", "on"])
def test_a_value_that_is_no_share(value):
    found = config_checks.range_problems(RunConfig(offload=value))
    assert [(problem.field, problem.code) for problem in found] == [("offload", "settings.offload_share")]


def test_shares():
    assert [offload_share(value) for value in ("auto", "off", "0", "0.25", "1")] == [0, 0, 0, 0.25, 1]


def test_what_is_open_is_off_and_clipping_follows(trainer):
    with contextlib.closing(open_base(str(trainer.base))) as base:
        resolve = lambda **settings: plan.resolve(trainer.config(**settings), base)  # noqa: E731
        assert resolve().offload == "off" and resolve().clip_grad_mode == "norm"
        assert resolve(offload="1").clip_grad_mode == "previous_norm"
        assert resolve(offload="1", max_grad_norm=0).clip_grad_mode == "norm"
        assert resolve(offload="1", method="lora").clip_grad_mode == "norm"
        assert resolve(offload="1", clip_grad_mode="value").clip_grad_mode == "value"


def test_the_estimate_counts_what_is_left_on_the_card(trainer):
    """All but the places of visitors is gone from what is held; the average of a run on a card is none of it."""
    with contextlib.closing(open_base(str(trainer.base))) as base:
        config = plan.resolve(trainer.config(max_grad_norm=0), base)
        held = lambda **settings: memory_estimate.stages(config.replace(**settings), base, Subjects.of(config))  # noqa: E731
        numbers = units.unet_numbers(base)
        away = sum(numbers.values()) - units.numbers_on_card(numbers, 1.0, True)
        assert away > 0.1 * sum(numbers.values())
        assert held()["training"] - held(offload="1")["training"] == pytest.approx(away * (4 + 8))
        assert held(use_ema=True)["training"] - held()["training"] == 4 * sum(numbers.values())
