"""What a run is said to take: refused where it cannot fit, and told where others are in the way."""

from __future__ import annotations

import contextlib
from unittest import mock

import pytest
import torch

from dreambooth_ext.engine import memory, plan, worker
from dreambooth_ext.engine.base import open_base
from dreambooth_ext.engine.inspection import inspect
from tests import training
from tests.training import Trainer

COUNTS = {"unet": 860_000_000, "vae": 84_000_000, "text_encoders": 123_000_000}  # SD 1.5's
GB = 10**9


@pytest.fixture
def trainer(tmp_path) -> Trainer:
    return Trainer(tmp_path)


def device_of(monkeypatch, total: float, free: float) -> None:
    monkeypatch.setattr(memory, "total", lambda device: int(total * GB))
    monkeypatch.setattr(memory, "free", lambda device: int(free * GB))


def test_memory_that_others_hold_is_a_warning_and_the_run_trains(trainer, monkeypatch):
    device_of(monkeypatch, total=8, free=0.1)
    run = trainer.train()
    (warning,) = training.events(run, "warning")
    assert "of 7.5 GB are free, other programs hold the rest" in warning["what"]
    assert warning["remedy"].startswith("Close other programs; ") and warning["field"] == "device"
    answer = inspect(trainer.config().as_dict(), trainer.folder)
    assert answer["problems"] == [] and warning["what"] in answer["warnings"][-1]
    assert answer["plan"]["memory_free"] == GB / 10 and answer["plan"]["memory_available"] == 8 * GB


def test_memory_that_the_device_does_not_have_is_a_problem(trainer, monkeypatch):
    device_of(monkeypatch, total=0.5, free=0.4)
    monkeypatch.setattr(worker, "make_method", None)
    run = trainer.train(ends=worker.BAD_INPUT)
    (error,) = training.events(run, "error")
    assert "which has 476.8 MB" in error["what"] and error["field"] == "train_batch_size"
    assert training.events(run, "warning") == []


def test_memory_that_is_free_is_nothing_to_speak_of(trainer, monkeypatch):
    device_of(monkeypatch, total=8, free=4)
    assert training.events(trainer.train(), "warning") == []


def test_what_is_free_on_a_card_includes_what_this_process_has_reserved():
    with (
        mock.patch("torch.cuda.mem_get_info", return_value=(3 * GB, 12 * GB)),
        mock.patch("torch.cuda.memory_reserved", return_value=2 * GB),
    ):
        assert memory.free(torch.device("cuda", 0)) == 5 * GB
    assert 0 < memory.free(torch.device("cpu")) <= memory.total(torch.device("cpu"))


def estimate(trainer: Trainer, **settings) -> int:
    config = trainer.config(**settings)
    with contextlib.closing(open_base(str(trainer.base))) as base:
        config = plan.resolve(config, base)
        base.parameter_counts = lambda: COUNTS
        return plan.estimate(config, base)


def test_drawing_counts_where_it_takes_more_than_training(trainer):
    """A preview comes between two steps: beside weights and optimizer, but with no gradients."""
    preview = {"validation_prompts": ["a photo"], "validation_steps": 2}
    assert estimate(trainer, resolution=512, **preview) == estimate(trainer, resolution=512)
    wide = {"resolution": 2048, "gradient_checkpointing": True, "optimizer": "sgd", "mixed_precision": "bf16"}
    decoding = 4 * COUNTS["vae"] + plan.DECODING * 2048**2
    assert decoding > 10 * GB
    assert estimate(trainer, **wide, **preview) >= decoding + 4 * COUNTS["unet"] > estimate(trainer, **wide)
    prior = {"class_prompt": "a photo of a person", "num_class_images": 1}
    assert estimate(trainer, **wide, **prior) >= decoding + 4 * (COUNTS["unet"] + COUNTS["text_encoders"])
