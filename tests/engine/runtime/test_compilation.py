"""A compiled UNet learns the same under the same names; one that cannot be compiled trains as it is, and says so."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.runtime import compilation
from tests import training
from tests.seldom import seldom

WAYS = {
    "all weights, with gradient checkpointing": {"gradient_checkpointing": True},
    "all weights, stepped in the backward pass": {"clip_grad_mode": "previous_norm"},
    "LoRA, with gradient checkpointing": {"method": "lora", "gradient_checkpointing": True, "rank": 4},
    "autocast": {"method": "lora", "mixed_precision": "bf16"},
}


@pytest.fixture
def traced(monkeypatch):
    """All of the compiler but the last part, which writes C++. Returns how often compiled blocks were called."""
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    calls, in_training = [], compilation.in_training

    def counted(block):
        called = in_training(block)
        return lambda *given, **named: (calls.append(block.training), called(*given, **named))[1]

    monkeypatch.setattr(compilation, "in_training", counted)
    yield calls
    torch._dynamo.reset()


def close(one, other, tolerance: float = 2e-5) -> bool:
    return all(torch.allclose(one[key], other[key], rtol=1e-3, atol=tolerance) for key in one)


SLOW = {"all weights, with gradient checkpointing", "autocast"}  # the others show what these do


@pytest.mark.parametrize("way", seldom(WAYS, but=WAYS.keys() - SLOW))
def test_it_learns_the_same_under_the_same_names(tmp_path, traced, way):
    trainer, settings = training.Trainer(tmp_path), {"optimizer": "sgd", "learning_rate": 0.1, **WAYS[way]}
    plain = trainer.train(**settings)
    assert not traced
    compiled = trainer.train(compile="on", **settings)
    assert traced and not training.events(compiled, "warning")
    one, other = training.weights(plain), training.weights(compiled)
    tolerance = 2e-3 if way == "autocast" else 2e-5
    assert one.keys() == other.keys() and close(one, other, tolerance)
    assert training.artifact(plain).keys() == training.artifact(compiled).keys()
    assert training.losses(plain) == pytest.approx(training.losses(compiled), rel=1e-2 if way == "autocast" else 1e-5)
    kinds = [event.get("stage_code") for event in compiled.events.read()]
    assert "stages.compiling" in kinds


def test_the_trial_leaves_no_trace(tmp_path, monkeypatch):
    """Of a run that goes on, too: the norm by which its gradients are clipped is that of the step before."""
    trainer = training.Trainer(tmp_path)
    monkeypatch.setattr(compilation, "compile_blocks", lambda unet, trial: trial())
    for settings in ({}, {"clip_grad_mode": "previous_norm", "max_grad_norm": 0.5}):
        whole, tried = (trainer.train(compile=way, max_train_steps=4, **settings) for way in ("off", "on"))
        training.assert_same_run(whole, tried)
        part = trainer.train(compile="on", max_train_steps=2, **settings)
        assert training.go_on(part, total=4) == worker.DONE
        training.assert_same_run(whole, part)


def test_what_cannot_be_compiled_trains_as_it_is(tmp_path, monkeypatch):
    trainer = training.Trainer(tmp_path)
    plain = trainer.train()

    def broken(graph, inputs):
        raise RuntimeError("no such compiler\nand more")

    monkeypatch.setattr(compilation, "BACKEND", broken)
    run = trainer.train(compile="on")
    (warning,) = training.events(run, "warning")
    assert warning["code"] == "training.not_compiled" and "no such compiler" in warning["what"]
    training.assert_same_run(plain, run)


def test_previews_and_measurements_run_as_written(traced):
    class ResnetBlock2D(torch.nn.Module):
        def forward(self, x):
            return x * 2

    holder = torch.nn.Sequential(ResnetBlock2D())
    assert compilation.compile_blocks(holder, lambda: holder(torch.ones(2, requires_grad=True))) is None
    compiled = torch._dynamo.utils.counters
    compiled.clear()
    with torch.no_grad():
        holder(torch.ones(3))
    holder.eval()(torch.ones(5, requires_grad=True))
    assert len(traced) == 3 and not compiled["frames"]
    holder.train()(torch.ones(7, requires_grad=True))
    assert compiled["frames"]["ok"] and list(holder.state_dict()) == []


@dataclasses.dataclass
class Config:
    device: str = "cuda:0"
    max_train_steps: int | None = 2000
    enable_bucket: bool = False
    offload: str = "off"
    distribution: str = "ddp"


def test_what_auto_means(monkeypatch):
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(compilation.shutil, "which", lambda name: name)
    assert compilation.is_worth(Config())
    for other in ({"device": "cpu"}, {"max_train_steps": 1999}, {"max_train_steps": None}, {"enable_bucket": True}):
        assert not compilation.is_worth(Config(**other))
    assert not compilation.is_worth(Config(distribution="fsdp"))
    assert not compilation.is_worth(Config(offload="auto")) and compilation.obstacle(Config(device="mps"))
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: None)
    assert compilation.obstacle(Config()).code == "plan.compile_triton" and not compilation.obstacle(Config("cpu"))
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    assert compilation.obstacle(Config("cpu")).code == "plan.compile_compiler"


def test_where_it_is_impossible_the_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    run = training.Trainer(tmp_path).train(compile="on", ends=worker.BAD_INPUT)
    (error,) = training.events(run, "error")
    assert error["field"] == "compile" and "C compiler" in error["what"] + error["why"]
    assert RunConfig().compile == "auto"


@pytest.mark.slow
def test_with_the_real_compiler(tmp_path):
    trainer = training.Trainer(tmp_path)
    plain, compiled = (trainer.train(compile=way, optimizer="sgd", learning_rate=0.1) for way in ("off", "on"))
    assert not training.events(compiled, "warning")
    assert close(training.weights(plain), training.weights(compiled), 1e-4)
