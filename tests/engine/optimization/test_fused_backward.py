"""Steps within the backward pass are the steps after it, bit by bit, with never more than a few gradients in memory."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.core.checks import kept_gradients
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.optimization.fused_backward import FusedBackward
from dreambooth_ext.engine.optimization.optimizer_creation import missing_optimizer
from dreambooth_ext.engine.optimization.single_steps import SingleSteps
from dreambooth_ext.engine.training import loop_state
from tests import training
from tests.training import Trainer

OFF = {"max_grad_norm": 0}


def assert_same(trainer: Trainer, monkeypatch, **settings) -> None:
    """With and without; with, the optimizer steps once for each parameter."""
    steps, step = [], FusedBackward._step

    def counted(*arguments) -> None:
        steps.append(1)
        step(*arguments)

    monkeypatch.setattr(FusedBackward, "_step", counted)
    one = trainer.train(**OFF, **settings)
    assert len(steps) > 100
    monkeypatch.setattr(loop_state, "are_freed", lambda *a: False)
    steps.clear()
    other = trainer.train(**OFF, **settings)
    assert steps == []
    training.assert_same_run(one, other)
    assert training.losses(one) == training.losses(other)
    assert training.difference(training.artifact(one), training.artifact(other)) == ""


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "lion", "adafactor", "came", "sgd"])
def test_the_steps_are_the_same(trainer, monkeypatch, optimizer):
    if reason := missing_optimizer(optimizer, torch.device("cpu")):
        pytest.skip(reason)
    assert_same(trainer, monkeypatch, optimizer=optimizer, text_encoder_steps=2)


def test_also_with_checkpointing_averages_and_schedules(trainer, monkeypatch):
    assert_same(
        trainer,
        monkeypatch,
        gradient_checkpointing=True,
        mixed_precision="bf16",
        use_ema=True,
        lr_scheduler="cosine",
        lr_warmup_steps=2,
        text_encoder_steps=3,
    )


def test_also_where_a_step_has_two_backward_passes(tmp_path, monkeypatch):
    """A class picture of another size than the instance picture."""
    folder = tmp_path / "class"
    for number in range(3):
        training.draw(folder / f"{number}.png", 50 + number, (320, 192))
    trainer = Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", sizes=((256, 256),)))
    prior = {"class_prompt": "a photo of a person", "class_data_dir": str(folder), "num_class_images": 3}
    assert_same(trainer, monkeypatch, enable_bucket=True, resolution=256, max_train_steps=2, **prior)


def test_a_resumed_run_is_the_same(trainer):
    whole = trainer.train(**OFF, max_train_steps=4, text_encoder_steps=3)
    run = trainer.train(**OFF, max_train_steps=2, text_encoder_steps=3)
    assert training.go_on(run, total=4) == worker.DONE
    training.assert_same_run(whole, run)


def test_gradients_are_let_go_as_they_come(monkeypatch):
    layers = torch.nn.Sequential(*(torch.nn.Linear(8, 8, bias=False) for _ in range(6)))
    alive, step = [], FusedBackward._step

    def counted(*arguments) -> None:
        alive.append(sum(p.grad is not None for p in layers.parameters()))
        step(*arguments)

    monkeypatch.setattr(FusedBackward, "_step", counted)
    optimizer = torch.optim.SGD([{"params": list(layers.parameters()), "name": "unet"}], lr=0.1)
    before = layers[0].weight.detach().clone()
    with FusedBackward(SingleSteps(optimizer, seed=0)).stepping():
        layers(torch.randn(4, 8)).sum().backward()
    assert len(alive) == 6 and max(alive) <= 2 and all(p.grad is None for p in layers.parameters())
    assert not torch.equal(before, layers[0].weight) and len(optimizer.param_groups[0]["params"]) == 6


def test_a_loss_that_is_no_number_does_not_reach_the_weights(trainer, monkeypatch):
    loss = worker.METHODS["dreambooth"].loss
    monkeypatch.setattr(worker.METHODS["dreambooth"], "loss", lambda *a: loss(*a) * float("nan"))
    monkeypatch.setattr(FusedBackward, "_step", lambda *a: pytest.fail("it did"))
    run = trainer.train(**OFF, ends=worker.FAILED)
    assert "the loss became nan at step 1" in run.state()["problem"]["message"]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_grad_norm": 1.0},
        {"max_grad_norm": 1.0, "clip_grad_mode": "value"},
        {"gradient_accumulation_steps": 2},
        {"mixed_precision": "fp16"},
        {"optimizer": "prodigy"},
        {"processes": 2},
        {"device": "cuda:0,1"},
    ],
)
def test_not_where_all_gradients_are_needed_at_once(settings):
    usual = {"max_grad_norm": 0, "mixed_precision": "bf16", "optimizer": "adamw8bit"}
    assert kept_gradients.are_freed(RunConfig(**usual))
    assert not kept_gradients.are_freed(RunConfig(**usual | settings))


# --- clipping by the norm of the step before


def assert_close(one: Run, other: Run) -> None:
    weights, others = training.weights(one), training.weights(other)
    assert weights.keys() == others.keys()
    assert all(torch.allclose(weights[key], others[key], atol=1e-7) for key in weights)


BEFORE = {"clip_grad_mode": "previous_norm", "max_grad_norm": 0.05}


def test_gradients_are_scaled_by_the_norm_of_the_step_before():
    """Held against SGD by hand: the first step is measured first, the second is scaled by the first one's norm."""
    weight, inputs = torch.nn.Parameter(torch.tensor([3.0, -4.0])), torch.tensor([[1.0, 2.0], [10.0, 0.5]])
    optimizer = torch.optim.SGD([{"params": [weight], "name": "unet"}], lr=1.0)
    fused = FusedBackward(SingleSteps(optimizer, seed=0), clips=True)
    expected, before, limit = weight.detach().clone(), None, 0.1
    for row in inputs:
        if fused.norm is None:
            with fused.measuring():
                (weight * row).sum().backward()
            assert torch.equal(weight.detach(), expected) and weight.grad is None
        norm = float(row.norm())
        expected = expected - row * min(1.0, limit / ((before or norm) + 1e-6))
        with fused.stepping(limit):
            (weight * row).sum().backward()
        before = norm
        assert fused.norm == pytest.approx(norm) and torch.allclose(weight.detach(), expected)


def test_the_first_step_is_the_one_of_usual_clipping(trainer):
    usual = trainer.train(max_grad_norm=0.05, clip_grad_mode="norm", optimizer="sgd", max_train_steps=1)
    before = trainer.train(**BEFORE, optimizer="sgd", max_train_steps=1)
    assert_close(usual, before)
    norms = [training.events(run, "step")[0]["grad_norm"] for run in (usual, before)]
    assert norms[0] > 0.05 and norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_later_steps_are_clipped_too_and_a_resumed_run_is_the_same(trainer):
    whole = trainer.train(**BEFORE, max_train_steps=4, text_encoder_steps=3)
    run = trainer.train(**BEFORE, max_train_steps=2, text_encoder_steps=3)
    assert training.go_on(run, total=4) == worker.DONE
    training.assert_same_run(whole, run)
    other = trainer.train(clip_grad_mode="norm", max_grad_norm=0.05, max_train_steps=4, text_encoder_steps=3)
    assert training.difference(training.artifact(whole), training.artifact(other)) != ""


def test_two_backward_passes_are_measured_together(tmp_path):
    folder = tmp_path / "class"
    for number in range(3):
        training.draw(folder / f"{number}.png", 50 + number, (320, 192))
    trainer = Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", sizes=((256, 256),)))
    prior = {"class_prompt": "a photo of a person", "class_data_dir": str(folder), "num_class_images": 3}
    settings = {"enable_bucket": True, "resolution": 256, "max_train_steps": 1, "optimizer": "sgd", **prior}
    usual = trainer.train(**settings, max_grad_norm=0.05, clip_grad_mode="norm")
    assert_close(usual, trainer.train(**settings, **BEFORE))
