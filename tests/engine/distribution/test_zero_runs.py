"""Whole runs by DeepSpeed's ZeRO, where it is installed: what they learn, save and resume is what one process does that
accumulates, within the rounding of sums that are added in another order."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from dreambooth_ext.engine import worker
from dreambooth_ext.engine.distribution.conditions import TRIED
from tests import training
from tests.engine.distribution.test_exchange import alone, trainer_of
from tests.engine.distribution.test_sharded_runs import (
    ALONE,
    CLASSES,
    DDP,
    DRAWN,
    FSDP,
    PLAIN,
    assert_close,
    goes_on,
    killed,
    state,
)
from tests.engine.runtime.test_distributed import together
from tests.engine.training.test_masked_loss import MASKED, masked
from tests.seldom import seldom

pytestmark = pytest.mark.skipif(
    not training.has("deepspeed"), reason=f"needs DeepSpeed, which the lock leaves out (tried with {TRIED})"
)
ZERO1 = {**FSDP, "distribution": "zero1"}
ZERO2 = {**FSDP, "distribution": "zero2"}
SEVERAL = {"text_encoder_steps": 2, "clip_skip": 2, "use_ema": True, **CLASSES, **DRAWN}
BY_VALUE = {"method": "finetune", "use_captions": False, "clip_grad_mode": "value", "max_grad_norm": 0.01}
TWICE = {"gradient_accumulation_steps": 2, "max_grad_norm": 0, "weight_decay": 0.1}
QUICK: dict[str, tuple[str, dict[str, Any]]] = {
    "zero2, sd1, a text encoder that stops, average, classes, previews": ("sd1", {**ZERO2, **SEVERAL}),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "zero1, the same": ("sd1", {**ZERO1, **SEVERAL}),
    "zero1, unconditional": ("", {**ZERO1, "use_ema": True, "validation_steps": 2, "ddpm_num_inference_steps": 2}),
    "zero2, unconditional, two batches a step": ("", {**ZERO2, **TWICE}),
    "zero1, unconditional, two batches a step": ("", {**ZERO1, **TWICE}),
    "zero2, sdxl, both text encoders learn": (
        "sdxl",
        {**ZERO2, "text_encoder_steps": 9, "gradient_checkpointing": True},
    ),
    "zero2, sd2, whose last norm is called on its own": ("sd2", {**ZERO2, "text_encoder_steps": 9, "clip_skip": 2}),
    "zero2, fine-tuning, by value, masks": ("sd1", {**ZERO2, **BY_VALUE, "masked_loss": True}),
    "zero1, the base itself is a second target": ("sd1", {**ZERO1, **MASKED}),
    "zero2, in bf16": ("sd1", {**ZERO2, "mixed_precision": "bf16", "text_encoder_steps": 1}),
    "zero2, held-out pictures and measurements": (
        "sd1",
        {**ZERO2, "validation_split": 0.4, "validation_loss_steps": 1},
    ),
    "zero2, lion": ("", {**ZERO2, "optimizer": "lion", "learning_rate": 1e-4}),
}


@pytest.mark.parametrize("name", [*QUICK, *seldom(OTHERS)])
def test_they_learn_what_one_process_learns_that_accumulates(tmp_path, name):
    family, settings = {**QUICK, **OTHERS}[name]
    trainer, tolerance = trainer_of(tmp_path, family), 1e-2 if "bf16" in name else 1e-5
    if "masked_loss" in settings:
        masked(tmp_path / "pictures", 4)
    settings = {**PLAIN, **settings}
    micros = 2 * settings["gradient_accumulation_steps"]
    one = trainer.create(**{**settings, **ALONE, "gradient_accumulation_steps": micros})
    two = trainer.create(**settings)
    assert alone(one) == worker.DONE, training.log(one)
    assert together(two) == [worker.DONE, worker.DONE], training.log(two)
    assert_close(state(two), state(one), tolerance)
    assert_close(training.artifact(two), training.artifact(one), tolerance)
    for kind, value in (("step", "loss"), ("step", "grad_norm"), ("validation", "loss"), ("measurement", "drift")):
        if value == "grad_norm" and not settings["max_grad_norm"]:
            continue  # of gradients that are not clipped only DeepSpeed computes it
        found, expected = ([event[value] for event in training.events(run, kind)] for run in (two, one))
        assert found == pytest.approx(expected, rel=10 * tolerance)
    drawn, wanted = (sorted(path.relative_to(run.samples) for path in run.samples.rglob("*.png")) for run in (two, one))
    assert drawn == wanted


@pytest.mark.parametrize("family", ["", *seldom(["sd1"])])
def test_a_state_goes_on_with_any_number_of_processes_and_any_distribution(tmp_path, family):
    """In both stages, alone on both's batches, whole on two, a step each: what an unbroken run comes to."""
    goes_on(tmp_path, family, [ZERO2, ALONE, ZERO1, ZERO2, DDP, ZERO2], text_steps=4)


@pytest.mark.slow
def test_adamw_goes_on_where_it_stopped(tmp_path):
    """Its state holds two tensors a weight, and a number of steps."""
    trainer = trainer_of(tmp_path, "")
    usual = {"optimizer": "adamw", "learning_rate": 1e-4, "max_train_steps": 4, "validation_steps": 0, **ZERO2}
    whole, run = trainer.create(**usual), trainer.create(**usual)
    assert together(whole) == [worker.DONE] * 2, training.log(whole)
    for step in (1, 2, 4):
        assert together(run, total=step) == [worker.DONE] * 2, training.log(run)
    assert_close(state(run), state(whole), 1e-6)
    assert all(int(values["step"]) == 4 for values in training.trainer_state(run)["optimizer"]["state"].values())


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "count"), [(ZERO1, 4), (ZERO2, 3), (ZERO2, 4)])
def test_more_processes_have_parts_of_unequal_use(tmp_path, settings, count):
    trainer = trainer_of(tmp_path, "")
    one = trainer.create(**{**PLAIN, **ALONE, "gradient_accumulation_steps": count, "validation_steps": 0})
    more = trainer.create(**{**PLAIN, **settings, "processes": count, "validation_steps": 0})
    assert alone(one) == worker.DONE, training.log(one)
    assert together(more, count=count) == [worker.DONE] * count, training.log(more)
    assert_close(state(more), state(one), 1e-5)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_process_that_is_killed_ends_all_and_the_last_state_is_left(tmp_path):
    killed(tmp_path, ZERO2, victim=1)
