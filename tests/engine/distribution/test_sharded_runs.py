"""Whole runs on sharded models: what they learn, save, resume and draw is what other runs do, within the rounding of
sums that are added in another order."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

import pytest
import torch

from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from tests import training
from tests.engine.distribution.test_exchange import alone, trainer_of
from tests.engine.launching import test_together
from tests.engine.runtime.test_distributed import together
from tests.engine.training.test_masked_loss import masked
from tests.seldom import seldom
from tests.training import Trainer
from tests.waiting import until

FSDP: dict[str, Any] = {"distribution": "fsdp", "processes": 2, "gradient_accumulation_steps": 1}
DDP = {**FSDP, "distribution": "ddp"}
ALONE = {"distribution": "auto", "processes": 1, "gradient_accumulation_steps": 2}
CLASSES = {"class_prompt": "a photo of a person", "num_class_images": 2}
# SGD makes a difference of weights of one of gradients; AdamW could make a large one of the sign of a tiny gradient.
PLAIN = {"optimizer": "sgd", "learning_rate": 0.05, "max_grad_norm": 0.5, "max_train_steps": 3}
DRAWN = {"validation_prompts": ["a photo of sksper person"], "validation_steps": 2, "validation_inference_steps": 2}
QUICK: dict[str, tuple[str, dict[str, Any]]] = {
    "sd1, a text encoder that stops, average, classes, previews": (
        "sd1",
        {"text_encoder_steps": 2, "clip_skip": 2, "use_ema": True, **CLASSES, **DRAWN},
    ),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "unconditional": ("", {"use_ema": True, "validation_steps": 2, "ddpm_num_inference_steps": 2}),
    "sdxl, both text encoders learn": ("sdxl", {"text_encoder_steps": 9, "gradient_checkpointing": True}),
    "sd2, whose last norm is called on its own": ("sd2", {"text_encoder_steps": 9, "clip_skip": 2}),
    "fine-tuning, by value, masks": (
        "sd1",
        {
            "method": "finetune",
            "use_captions": False,
            "clip_grad_mode": "value",
            "max_grad_norm": 0.01,
            "masked_loss": True,
        },
    ),
    "in bf16": ("sd1", {"mixed_precision": "bf16", "text_encoder_steps": 1}),
    "shuffled tags, so that text encoders stay": (
        "sd1",
        {"use_captions": True, "shuffle_tags": True, "text_encoder_steps": 1},
    ),
    "four processes, classes": ("sd1", {"processes": 4, "text_encoder_steps": 2, **CLASSES}),
    "four processes, sdxl": ("sdxl", {"processes": 4, "text_encoder_steps": 2}),
    "four processes, unconditional": ("", {"processes": 4, "use_ema": True}),
    "held-out pictures and measurements": ("sd1", {"validation_split": 0.4, "validation_loss_steps": 1}),
}


def change(run: Run, **settings: Any) -> None:
    """Let a run go on with other settings."""
    path = run.path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}))


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=tolerance, atol=tolerance / 10, msg=key)


def state(run: Run) -> dict[str, torch.Tensor]:
    """Everything that a training state holds."""
    return {**training.weights(run), **dict(training.flat(training.trainer_state(run)))}


@pytest.mark.parametrize("name", [*QUICK, *seldom(OTHERS)])
def test_they_learn_what_one_process_learns_that_accumulates(tmp_path, name):
    family, settings = {**QUICK, **OTHERS}[name]
    trainer, tolerance = trainer_of(tmp_path, family), 1e-2 if "bf16" in name else 1e-5
    if "masked_loss" in settings:
        masked(tmp_path / "pictures", 4)
    if settings.get("shuffle_tags"):
        training.pictures(tmp_path / "pictures", 4, captions=True)
    count = settings.get("processes", 2)
    one = trainer.create(**PLAIN, **settings | {"processes": 1, "gradient_accumulation_steps": count})
    two = trainer.create(**PLAIN, **FSDP | settings)
    assert alone(one) == worker.DONE, training.log(one)
    assert together(two, count) == [worker.DONE] * count, training.log(two)
    assert_close(state(two), state(one), tolerance)
    assert_close(training.artifact(two), training.artifact(one), tolerance)
    for kind, values in (("step", ("loss", "grad_norm")), ("validation", ("loss",)), ("measurement", ("drift",))):
        found, expected = (
            [[event[value] for value in values] for event in training.events(run, kind)] for run in (two, one)
        )
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a == pytest.approx(b, rel=10 * tolerance)
    drawn, wanted = (
        {path.relative_to(run.samples): path.read_bytes() for path in run.samples.rglob("*.png")} for run in (two, one)
    )
    assert drawn.keys() == wanted.keys()
    for path in drawn.keys() & {path for path in drawn if path.parts[0] == "0"}:
        assert drawn[path] == wanted[path], path  # of the same weights


@pytest.mark.parametrize("family", ["", *seldom(["sd1"])])
def test_a_state_goes_on_with_any_number_of_processes_and_any_distribution(tmp_path, family):
    """Sharded, whole on two, alone on both's batches, sharded again, a step each: what an unbroken run comes to."""
    goes_on(tmp_path, family, [FSDP, DDP, ALONE, FSDP], text_steps=3)


def goes_on(tmp_path, family: str, ways: list[dict[str, Any]], text_steps: int) -> None:
    """A run that takes each step in another of these ways comes to what one comes to that takes all alone."""
    trainer, steps = trainer_of(tmp_path, family), len(ways)
    usual = {**PLAIN, "optimizer_args": {"momentum": 0.9}, "use_ema": True, "validation_steps": 0}
    usual |= {"max_train_steps": steps, **({"text_encoder_steps": text_steps} if family else {})}
    whole = trainer.create(**usual, gradient_accumulation_steps=2)
    assert alone(whole) == worker.DONE, training.log(whole)
    run = trainer.create(**usual, **ways[0])
    for step, settings in enumerate(ways, start=1):
        change(run, **settings)
        codes = [training.go_on(run, step)] if settings is ALONE else together(run, total=step)
        assert set(codes) == {worker.DONE}, training.log(run)
    assert_close(state(run), state(whole), 1e-5)
    assert training.losses(run) == pytest.approx(training.losses(whole), rel=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("victim", [*seldom([0]), 1])
def test_a_process_that_is_killed_ends_all_and_the_last_state_is_left(tmp_path, victim):
    """The others wait in an exchange; there is nobody to gather the state from."""
    killed(tmp_path, FSDP, victim)


def killed(tmp_path, settings: dict[str, Any], victim: int) -> None:
    """One of two processes is killed: all end within ten seconds, and the run goes on from its last state."""
    run = Trainer(tmp_path).create(
        max_train_steps=400, checkpointing_steps=2, save_intermediate_models=False, **settings
    )
    launcher = test_together.start(run)
    until(lambda: len(training.events(run, "checkpoint")) >= 2 or launcher.poll() is not None, 120)
    os.kill(test_together.workers(run)[victim], signal.SIGKILL)
    begun = time.monotonic()
    assert launcher.wait(30) == (worker.FAILED if victim else -signal.SIGKILL), training.log(run)  # the first one's
    assert time.monotonic() - begun < 10 and not test_together.workers(run)
    if victim:
        assert "process 2 of 2 ended without a word" in run.state()["problem"]["message"]
    kept = training.newest(run).step
    assert kept % 2 == 0 and kept >= 4
    assert together(run, total=kept + 1) == [worker.DONE] * 2, training.log(run)


@pytest.mark.slow
def test_commands_are_obeyed_by_all(tmp_path):
    """Save, sample and stop, each of which all processes have to do together."""
    run = Trainer(tmp_path).create(max_train_steps=2000, use_ema=True, **{**DRAWN, "validation_steps": 0}, **FSDP)
    launcher = test_together.start(run)
    until(lambda: len(training.losses(run)) >= 2, 120)
    run.command("sample")
    run.command("save")
    until(lambda: training.events(run, "sample") and training.events(run, "artifact"), 60)
    run.command("stop_and_save")
    assert launcher.wait(60) == worker.STOPPED, training.log(run)
    assert training.newest(run).step == run.state()["step"]
    assert len(training.events(run, "artifact")) == 2


@pytest.mark.slow
def test_all_processes_stop_when_the_run_is_good(tmp_path):
    about = {"max_train_steps": 48, "train_batch_size": 3, "gradient_accumulation_steps": 6}
    run = Trainer(tmp_path).create(**{**FSDP, **about}, stop_when_good=True)
    assert together(run) == [worker.DONE, worker.DONE], training.log(run)
    steps = [event["step"] for event in training.events(run, "measurement")]
    assert steps[0] == 0 and steps[-1] == len(training.losses(run)) == run.state()["total"] < 48


@pytest.mark.slow
def test_a_run_goes_on_measuring_what_the_first_process_has_kept(tmp_path):
    about = {"max_train_steps": 48, "train_batch_size": 3, "gradient_accumulation_steps": 6}
    run = Trainer(tmp_path).create(**{**FSDP, **about})
    for total in (24, 48):
        assert together(run, total=total) == [worker.DONE] * 2, training.log(run)
        steps = [event["step"] for event in training.events(run, "measurement")]
        assert steps[0] == 0 and steps[-1] == total
    assert not [event for event in training.events(run, "warning") if event["code"] == "training.measured_others"]
