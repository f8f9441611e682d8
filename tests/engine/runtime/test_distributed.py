"""Several processes on one run, on the CPU: together they do what one does that accumulates as many batches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.runtime import distributed
from dreambooth_ext.engine.training.training_state import Checkpoint
from tests import training
from tests.training import Trainer


def together(run: Run, count: int = 2, total: int | None = None, **environment: str) -> list[int]:
    """The run's worker in so many processes, with the environment that launchers give them. Returns their codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    world |= {"MASTER_PORT": str(port), **environment}
    started = [training.start(run, total, RANK=str(n), LOCAL_RANK=str(n), **world) for n in range(count)]
    try:
        return [process.wait(200) for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()


def test_two_processes_train_as_one_that_accumulates_two_batches(tmp_path):
    """Class pictures, a text encoder that is frozen on the way, averages, previews, a resume; and all told once."""
    trainer = Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", 5))
    settings = {
        "class_prompt": "a photo of a person",
        "num_class_images": 2,
        "text_encoder_steps": 2,
        "use_ema": True,
        "max_grad_norm": 0.5,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "max_train_steps": 4,
        "validation_prompts": ["a photo of sksper person"],
        "validation_steps": 2,
    }
    one = trainer.train(**settings, gradient_accumulation_steps=2)
    two = trainer.create(**settings)
    stray = {"ACCELERATE_TORCH_DEVICE": "cuda:0"}  # of some other program's
    assert together(two, total=3, **stray) == [worker.DONE, worker.DONE], training.log(two)
    assert together(two, total=4) == [worker.DONE, worker.DONE], training.log(two)
    expected, found = training.weights(one), training.weights(two)
    assert expected.keys() == found.keys()
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-6, msg=key)
    assert training.losses(two) == pytest.approx(training.losses(one), rel=1e-4)
    assert [event["step"] for event in training.events(two, "step")] == [1, 2, 3, 4]
    assert [event["epoch"] for event in training.events(two, "step")] == [0.4, 0.8, 1.2, 1.6]
    assert [event["step"] for event in training.events(two, "checkpoint")] == [3, 4]
    assert two.state()["status"] == "done" and training.events(two, "error") == []
    pictures = {path.name for path in (tmp_path / "runs" / "class_pictures").rglob("*.png")}
    assert pictures == {"class-00000.png", "class-00001.png"}


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    trainer = Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", 5))
    run = trainer.train(max_train_steps=2)
    assert together(run, total=3) == [worker.DONE, worker.DONE], training.log(run)
    assert [event["epoch"] for event in training.events(run, "step")] == [0.2, 0.4, 0.8]
    assert training.trainer_state(run)["batches"] == 4
    assert training.go_on(run, total=4) == worker.DONE
    assert training.events(run, "step")[-1]["epoch"] == 1.0


def test_a_state_of_an_earlier_version_goes_on(tmp_path, monkeypatch):
    """Which did not say how many batches had been consumed."""
    trainer = Trainer(tmp_path)
    longer, run = (trainer.train(max_train_steps=steps) for steps in (4, 2))
    read = Checkpoint.trainer

    def old(state: Checkpoint, mapped: bool = False) -> dict:
        return {key: value for key, value in read(state, mapped).items() if key != "batches"}

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "trainer", old)
        assert training.go_on(run, total=4) == worker.DONE
    training.assert_same_run(longer, run)


@pytest.mark.slow
def test_all_processes_stop_when_the_first_finds_the_run_good(tmp_path):
    """It alone measures; the others wait for what it says."""
    trainer = Trainer(tmp_path)
    about = {"max_train_steps": 48, "train_batch_size": 3, "gradient_accumulation_steps": 6}
    run = trainer.create(**about, stop_when_good=True)
    assert together(run) == [worker.DONE, worker.DONE], training.log(run)
    steps = [event["step"] for event in training.events(run, "measurement")]
    assert steps[0] == 0 and steps[-1] == len(training.losses(run)) == run.state()["total"] < 48


def test_torchs_launcher_starts_it(tmp_path):
    """With the very command that users give."""
    run = Trainer(tmp_path).create(max_train_steps=1)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, "-m", "dreambooth_ext.engine.worker", str(run.path)],
        cwd=training.REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert run.state()["status"] == "done" and len(training.losses(run)) == 1


@pytest.mark.parametrize("variable", distributed.SPLITTING)
def test_accelerate_set_up_to_split_the_model_is_refused_by_name(tmp_path, monkeypatch, variable):
    run = Trainer(tmp_path).create()
    monkeypatch.setenv(variable, "true")
    assert training.go_on(run) == worker.BAD_INPUT
    assert distributed.SPLITTING[variable] in run.state()["problem"]["message"]
    monkeypatch.setenv(variable, "false")
    distributed.require_plain_launch()


def test_what_accelerate_launch_says_of_the_training_has_no_effect_and_is_told(tmp_path, monkeypatch):
    trainer = Trainer(tmp_path)
    usual = trainer.train()
    for name, value in {
        "GRADIENT_ACCUMULATION_STEPS": "4",
        "MIXED_PRECISION": "bf16",
        "DYNAMO_BACKEND": "EAGER",
    }.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    run = trainer.train()
    training.assert_same_run(usual, run)
    assert training.losses(usual) == training.losses(run)
    warnings = training.events(run, "warning")
    assert [event["field"] for event in warnings] == ["gradient_accumulation_steps", "mixed_precision", ""]
    assert "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4" in warnings[0]["what"]


def test_what_it_always_says_is_nothing_to_speak_of(monkeypatch):
    for name, value in {"MIXED_PRECISION": "no", "USE_CPU": "False", "DYNAMO_BACKEND": "NO"}.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    assert distributed.drop_settings(RunConfig(device="cuda:0", mixed_precision="bf16")) == []
    for device, count in {"cuda:0": 1, "cpu": 0}.items():
        monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
        assert len(distributed.drop_settings(RunConfig(device=device, mixed_precision="no"))) == count
