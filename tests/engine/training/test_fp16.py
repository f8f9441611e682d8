"""Whole runs in fp16: the real worker, with the CPU's loss scaler and autocast where accelerate wants a card."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from accelerate import Accelerator

from dreambooth_ext.core.runs.event_text import told
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.methods import METHODS
from dreambooth_ext.engine.optimization import loss_scale
from dreambooth_ext.engine.optimization.optimizer_creation import missing_optimizer
from tests import training
from tests.engine.worker.test_failures import error_of, steps
from tests.engine.worker.test_resume import check
from tests.seldom import seldom

FITS = 2.0**12  # a loss scale that the tiny models' gradients fit
FIRST = 2.0**24  # one that those of SMALL overflow for three steps
METHOD = {
    "dreambooth": {"text_encoder_steps": 2, "use_ema": True, "gradient_accumulation_steps": 2},
    "lora": {"rank": 2, "placeholder_token": "sksper", "embedding_lr": 1e-2, "embedding_steps": 2, "num_vectors": 2},
    "textual_inversion": {"placeholder_token": "sksper"},
    "hypernetwork": {"gradient_checkpointing": True},
}
SMALL = {"method": "lora", "rank": 1}

TRAINER = {"mixed_precision": "fp16"}
pytestmark = pytest.mark.usefixtures("begin_with")


@pytest.fixture
def begin_with(monkeypatch):
    """`begin_with(scale)`: what runs' loss scales begin with from here on."""
    make, problems, scale = worker.make_accelerator, worker.plan.problems, [FITS]

    def made(config) -> Accelerator:
        accelerator = make(config)
        if config.mixed_precision == "fp16":
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale[0])
            accelerator.native_amp = True
        return accelerator

    monkeypatch.setattr(worker, "make_accelerator", made)
    monkeypatch.setattr(worker.plan, "problems", lambda *a: [p for p in problems(*a) if p.field != "mixed_precision"])
    return lambda new: scale.__setitem__(0, new)


def break_losses(monkeypatch, method: str, broken: range | list[int]) -> None:
    """The losses after so many finished steps are infinite."""
    loss, calls = METHODS[method].loss, []

    def infinite(*arguments):
        calls.append(1)
        return loss(*arguments) * (math.inf if len(calls) - 1 in broken else 1)

    monkeypatch.setattr(METHODS[method], "loss", infinite)


def test_losses_are_those_of_float32_to_three_digits(trainer):
    half, whole = (trainer.train(mixed_precision=precision, text_encoder_steps=2) for precision in ("fp16", "no"))
    assert training.losses(half) == pytest.approx(training.losses(whole), rel=2e-2)
    assert training.losses(half) != training.losses(whole)  # so it was fp16
    assert {weight.dtype for weight in training.weights(half).values()} == {torch.float32}
    assert training.trainer_state(half)["scaler"]["scale"] == FITS and training.trainer_state(whole)["scaler"] is None


@pytest.mark.parametrize("method", seldom(METHOD, but=["dreambooth", "lora"]))
def test_a_resumed_run_is_the_same(trainer, method):
    check(trainer, (2,), method=method, **METHOD[method])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adamw8bit", "adafactor"])
def test_skipped_steps_change_nothing_and_count_for_no_average(trainer, begin_with, optimizer):
    """accelerate does not notice them with torch's fused optimizers, which are called all the same."""
    if reason := missing_optimizer(optimizer, torch.device("cpu")):
        pytest.skip(reason)
    begin_with(FIRST)
    run = trainer.train(
        **SMALL,
        optimizer=optimizer,
        use_ema=True,
        max_train_steps=6,
        checkpointing_steps=1,
        save_intermediate_models=False,
    )
    changed = [
        training.difference(training.weights(run, step), training.weights(run, step + 1)) != "" for step in range(1, 6)
    ]
    scales = [
        training.training_state.Checkpoint(run.checkpoints / str(n)).trainer()["scaler"]["scale"] for n in range(1, 7)
    ]
    first = scales[0] == FIRST
    assert changed == [after == before for before, after in itertools.pairwise(scales)]
    assert 0 < sum(changed) < 5 and scales[-1] < FIRST
    assert training.trainer_state(run)["ema"]["optimization_step"] == sum(changed) + first
    norms = [event["grad_norm"] for event in training.events(run, "step")]
    assert [norm is not None for norm in norms] == [first, *changed]


def test_resuming_while_steps_are_skipped_is_the_same(trainer, begin_with):
    begin_with(FIRST)
    check(trainer, (2, 4), **SMALL, use_ema=True, max_train_steps=5)


def test_one_infinite_loss_is_left_out(trainer, monkeypatch):
    break_losses(monkeypatch, "dreambooth", [1])
    run = trainer.train(checkpointing_steps=1, save_intermediate_models=False)
    assert [loss is None for loss in training.losses(run)] == [False, True, False, False]
    one, two, three = (training.weights(run, step) for step in (1, 2, 3))
    assert training.difference(one, two) == "" and training.difference(two, three) != ""
    assert told(training.events(run, "step")[1]).startswith("step 2/4, loss overflowed (step skipped), ")


def test_losses_that_stay_infinite_end_the_run_with_its_state(trainer, monkeypatch):
    monkeypatch.setattr(loss_scale, "MOST_IN_A_ROW", 3)
    break_losses(monkeypatch, "lora", range(1, 99))
    run = trainer.train(method="lora", rank=2, max_train_steps=9, ends=worker.FAILED)
    error = error_of(run)
    assert "overflow in fp16 at every loss scale" in error["what"] and "at step 4" in error["what"]
    assert "step 4 is safe" in error["what"] and f"resume {run.id}" in error["remedy"] and "bf16" in error["remedy"]
    assert steps(run) == [4] and all(weight.isfinite().all() for weight in training.weights(run).values())


def test_an_infinite_validation_loss_does_not_end_the_run(trainer, monkeypatch):
    monkeypatch.setattr("dreambooth_ext.engine.training.measurements.measure", lambda *a: math.inf)
    run = trainer.train(validation_split=0.3, validation_loss_steps=1)
    assert training.events(run, "validation") == []
