"""What DeepSpeed's ZeRO does not go with is refused by name before anything is loaded, and what each card then holds.
None of this needs DeepSpeed, but for the last test."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import cards
from benchmarks.fake_card import full_size
from dreambooth_ext.core.checks import config_checks, sharding_checks
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.engine import memory_estimate, worker
from dreambooth_ext.engine.distribution import conditions, zero_memory
from tests import training
from tests.engine.runtime.test_distributed import together
from tests.engine.training.test_masked_loss import MASKED

CARD = {"method": "dreambooth", "device": "cuda:0", "processes": 2, "distribution": "zero2", "optimizer": "adamw"}
CARD |= {"mixed_precision": "bf16"}


@pytest.mark.parametrize("distribution", ["zero1", "zero2"])
@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, ""),
        (MASKED, ""),
        ({"clip_grad_mode": "value", "max_grad_norm": 0.1}, ""),
        ({"method": "lora"}, "distribution"),
        *(({"optimizer": name}, "optimizer") for name in ("adamw8bit", "adafactor", "prodigy_schedulefree")),
        ({"weight_precision": "bf16"}, "weight_precision"),
        ({"mixed_precision": "fp16"}, "mixed_precision"),
        ({"clip_grad_mode": "previous_norm"}, "clip_grad_mode"),
        ({"offload": "0.5"}, "offload"),
        ({"compile": "on"}, "compile"),
    ],
)
def test_what_it_does_not_go_with(settings, field, distribution):
    found = sharding_checks.problems(RunConfig(**CARD | {"distribution": distribution} | settings))
    assert [problem.field for problem in found] == ([field] if field else [])
    assert all(distribution in problem.message and problem.remedy for problem in found)


@pytest.mark.parametrize("asked", ["zero", "zero3", "ZeRO3", "deepspeed"])
def test_the_third_stage_is_what_fsdp_does(asked):
    found = config_checks.problems(RunConfig(**CARD | {"distribution": asked}))
    (told,) = (problem for problem in found if problem.field == "distribution")
    assert told.code == "sharding.other_zero" and "fsdp" in told.message and "fsdp" in told.remedy


def test_what_the_machine_has_to_have(monkeypatch):
    def found(**settings: Any) -> str:
        problems = conditions.problems(RunConfig(**CARD | {"device": "cpu"} | settings))
        assert all(problem.message and problem.remedy for problem in problems)
        return " ".join(problem.code for problem in problems)

    here: dict[str, Any] = {"spec": None, "version": "0.19.8"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: here["spec"])
    monkeypatch.setattr(importlib.metadata, "version", lambda name: here["version"])
    monkeypatch.setattr(conditions, "sys", SimpleNamespace(platform="linux", executable="python"))
    assert found() == "sharding.no_deepspeed"
    monkeypatch.setattr(conditions, "sys", SimpleNamespace(platform="linux", executable="/my trainer/python"))
    (problem,) = conditions.problems(RunConfig(**CARD | {"device": "cpu"}))
    assert "(pip --python '/my trainer/python' install deepspeed==" in problem.remedy
    here["spec"] = object()
    assert found() == ""
    for version, code in (("0.18.9", "sharding.old_deepspeed"), ("0.19.7", "sharding.old_deepspeed"), ("1.0", "")):
        here["version"] = version
        assert found() == code
    assert found(device="mps") == "sharding.device"
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    assert found(device="cuda:0") == "sharding.no_nccl"
    monkeypatch.setattr(conditions, "sys", SimpleNamespace(platform="win32", executable="python"))
    assert found() == "sharding.zero_on_windows"


@pytest.mark.skipif(training.has("deepspeed"), reason="DeepSpeed is installed")
def test_a_run_without_deepspeed_ends_before_anything_is_loaded(trainer):
    run = trainer.create(distribution="zero2", processes=2)
    assert together(run) == [worker.BAD_INPUT] * 2
    assert run.state()["problem"]["code"] == "sharding.no_deepspeed" and training.events(run, "step") == []


def test_one_process_has_nothing_to_divide(tmp_path):
    run = training.Trainer(tmp_path).train(max_train_steps=1, distribution="zero2")
    assert [event["code"] for event in training.events(run, "warning")] == ["plan.alone"]


# --- what each card holds


def test_each_process_holds_all_weights_and_its_share_of_the_rest():
    """Of SDXL's UNet, in bytes: weights 4; their copy that is stepped 4, AdamW's two states 8; gradients 4, in stage 1
    beside a part of them, and of stage 2 a part twice."""
    base = full_size("sdxl")
    config = cards.resolved("Full", "sdxl").replace(optimizer="adamw", use_ema=False)
    numbers = base.parameter_counts()["unet"]

    def training_bytes(distribution: str, count: int) -> float:
        planned = config.replace(distribution=distribution, processes=count)
        return memory_estimate.stages(planned, base, Subjects.of(planned))["training"]

    for distribution, divided in (("zero1", 16), ("zero2", 20)):
        one, two = (training_bytes(distribution, count) for count in (8, 16))
        assert one - two == pytest.approx(divided * numbers / 16, rel=0.01), distribution
    for count in (2, 8):
        needs = [training_bytes(name, count) for name in ("fsdp", "zero2", "zero1", "ddp")]
        assert needs == sorted(needs), count


COUNTED = """
import gc, json, sys
import torch
from torch import nn
from dreambooth_ext.engine.distribution import zero, zero_memory

zero.BUCKET = zero_memory.BUCKET = 100_000  # numbers: one layer
torch.distributed.init_process_group("gloo")
model = nn.Sequential(*(nn.Linear(300, 300) for _ in range(20)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
optimizer.param_groups[0]["name"] = "unet"
loss = zero.ZeroLoss(lambda batch, draws: model(batch).square().mean(), optimizer, int(sys.argv[1]))


def there():
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor):
            for tensor in (thing, thing.grad if thing.is_leaf else None):
                if tensor is not None:
                    storage = tensor.untyped_storage()
                    found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def backward(factor=1.0):
    loss.backward(factor * loss.loss(torch.randn(1, 300), torch.Generator(), True))


def counting(tensors):
    flat = flatten(tensors)
    counted.append(there())
    return flat


backward()
loss.step(1.0, "norm")
between, of_deepspeed, counted = there(), loss._engine.optimizer, []
flatten, of_deepspeed.flatten = of_deepspeed.flatten, counting
backward()
in_backward, after = max([0, *counted]), there()
counted.clear()
loss.step(1.0, "norm")
of_deepspeed.flatten, in_step = flatten, max(counted)
before = [parameter.clone() for parameter in model.parameters()]
backward(float("inf"))
assert not torch.isfinite(loss.step(0.0, "norm"))
assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
backward()
assert torch.isfinite(loss.step(0.0, "norm"))
assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters()))
numbers = sum(parameter.numel() for parameter in before)
if torch.distributed.get_rank() == 0:
    print(json.dumps([numbers, between, max(in_backward, after), in_step]))
"""


@pytest.mark.skipif(not training.has("deepspeed"), reason="needs DeepSpeed")
@pytest.mark.parametrize("stage", [1, 2])
def test_the_estimate_is_what_is_there(stage, tmp_path):
    """All tensors of a process, counted between steps, while gradients are sent, and where the step lays its part of
    them into one tensor. And a step that is not finite is left out."""
    script = tmp_path / "count.py"
    script.write_text(COUNTED, encoding="utf-8")
    said = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), str(stage)],
        cwd=training.REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(training.REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert said.returncode == 0, said.stderr[-3000:]
    numbers, between, passing, stepping = json.loads(said.stdout.strip().splitlines()[-1])
    passes, after = zero_memory.gradients(numbers, stage, 2)
    more = 8 * (zero_memory.BUCKET - 100_000)  # the script's buckets are smaller
    assert between == pytest.approx(zero_memory.held(numbers, 8, 2), rel=0.01)
    assert stepping - between == pytest.approx(4 * numbers, rel=0.01)  # twice its half
    assert after >= 4 * numbers
    assert passing - between == pytest.approx((after if stage == 1 else passes) - more, rel=0.1)
