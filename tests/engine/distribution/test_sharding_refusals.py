"""What cannot be sharded is refused by name before anything is loaded, and what "auto" means for each card."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import cards
from benchmarks.fake_card import full_size
from dreambooth_ext.core.checks import config_checks, sharding_checks
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.errors import Problem
from dreambooth_ext.core.guide import completion
from dreambooth_ext.engine import memory_choices, memory_estimate, plan, worker
from dreambooth_ext.engine.distribution import conditions
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.runtime import memory
from dreambooth_ext.engine.training.loop_state import LoopState
from tests import training
from tests.engine.runtime.test_distributed import together
from tests.engine.training.test_masked_loss import MASKED

GB = 10**9
CARD = {"method": "dreambooth", "device": "cuda:0", "processes": 2, "distribution": "fsdp", "optimizer": "adamw"}
CARD |= {"mixed_precision": "bf16"}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, ""),
        ({"distribution": "auto", "optimizer": "came"}, ""),
        ({"distribution": "ddp", "method": "lora"}, ""),
        ({"method": "unconditional", "optimizer": "lion"}, ""),
        ({"optimizer": "sgd", "max_grad_norm": 0, "offload": "0", "gradient_accumulation_steps": 2}, ""),
        ({"method": "lora"}, "distribution"),
        ({"method": "textual_inversion"}, "distribution"),
        ({"method": "hypernetwork", "optimizer": "prodigy"}, "distribution"),
        *(({"optimizer": name}, "optimizer") for name in ("adamw8bit", "paged_adamw8bit", "adafactor", "came")),
        *(({"optimizer": name}, "optimizer") for name in ("prodigy", "prodigy_schedulefree")),
        ({"weight_precision": "bf16"}, "weight_precision"),
        ({"mixed_precision": "fp16"}, "mixed_precision"),
        ({"clip_grad_mode": "previous_norm"}, "clip_grad_mode"),
        ({"offload": "0.5"}, "offload"),
        ({"compile": "on"}, "compile"),
        (MASKED, "masked_prior_preservation_weight"),
    ],
)
def test_what_it_does_not_go_with(settings, field):
    found = sharding_checks.problems(RunConfig(**CARD | settings))
    assert [problem.field for problem in found] == ([field] if field else [])
    assert all(problem.message and problem.remedy for problem in found)
    told = config_checks.problems(RunConfig(**CARD | settings))
    assert not field or field in {problem.field for problem in told}


def test_what_the_machine_has_to_have(monkeypatch):
    assert conditions.problems(RunConfig(**CARD | {"device": "cpu"})) == []
    (found,) = conditions.problems(RunConfig(**CARD | {"device": "mps"}))
    assert found.code == "sharding.device"
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    (found,) = conditions.problems(RunConfig(**CARD))
    assert found.code == "sharding.no_nccl"
    monkeypatch.delattr(torch.nn.utils, "clip_grads_with_norm_")
    (found,) = conditions.problems(RunConfig(**CARD))
    assert found.code == "sharding.old_torch" and torch.__version__ in found.message


@pytest.mark.slow
def test_a_run_whose_optimizer_is_chosen_elsewhere_is_refused_in_all_processes(trainer):
    run = trainer.create(distribution="fsdp", optimizer="adamw")
    path = run.path / "config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"adamw"', '"came"'), encoding="utf-8")
    assert together(run) == [worker.BAD_INPUT] * 2
    assert run.state()["problem"]["code"] == "sharding.optimizer" and training.events(run, "step") == []


def test_running_out_of_memory_is_not_forgiven_where_the_others_would_wait():
    tried: list[int] = []

    def compute(some: list[int]) -> None:
        tried.append(len(some))
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        list(memory.in_batches(compute, [1, 2, 3, 4], 4, halves=False))
    assert tried == [4]
    told: list[Problem] = []
    for sharded, raises in ((None, contextlib.nullcontext()), (object(), pytest.raises(RuntimeError))):
        state: Any = SimpleNamespace(sharded=sharded)
        with raises, LoopState.sparing(state, Problem("training.preview_out_of_memory"), told.append):
            compute([1])
    assert len(told) == 1


# --- auto


@pytest.fixture
def card(monkeypatch):
    """A function that says how many GB a card has."""

    def has(gigabytes: float) -> None:
        for name in ("free", "total"):
            monkeypatch.setattr(memory, name, lambda device: int(gigabytes * GB))

    monkeypatch.setattr(plan, "choose_device", torch.device)
    monkeypatch.setattr(plan, "choose_optimizer", lambda method, device: "adamw8bit")
    monkeypatch.setattr(plan, "half_precision", lambda device: "bf16")
    monkeypatch.setattr(memory_choices, "missing_packing", lambda name, device: None)
    monkeypatch.setattr(memory_choices, "choose_optimizer", lambda method, device: "adamw8bit")
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    return has


def resolved(**settings: Any) -> Any:
    asked = RunConfig(**{"method": "finetune", "device": "cuda:0", "processes": 8, "text_encoder_steps": 0} | settings)
    return plan.resolve(completion.fill_in(asked, 10)[0], full_size("sdxl"))


def test_auto_is_ddp_where_a_card_holds_the_model_and_else_fsdp(card):
    for gigabytes, wanted in ((80, "ddp"), (40, "ddp"), (10, "fsdp"), (2, "ddp")):
        card(gigabytes)
        assert resolved().distribution == wanted, gigabytes
    card(10)
    sharded = resolved()
    assert (sharded.optimizer, sharded.weight_precision, sharded.compile) == ("adamw", "fp32", "off")
    assert resolved(method="lora").distribution == "ddp"
    assert resolved(optimizer="came").distribution == "ddp"
    assert resolved(processes=1).distribution == "ddp" == resolved(processes=1, distribution="fsdp").distribution


def test_what_is_asked_for_is_taken(card):
    card(80)
    assert resolved(distribution="fsdp").distribution == "fsdp" and resolved(distribution="fsdp").optimizer == "adamw"
    card(10)
    assert resolved(distribution="ddp").distribution == "ddp"


def test_each_process_holds_its_share(card):
    """Weights, gradients, states and average are divided; what is gathered of blocks is not."""
    base = full_size("sdxl")
    config = cards.resolved("Full", "sdxl").replace(optimizer="adamw", distribution="fsdp", use_ema=False)
    numbers = base.parameter_counts()["unet"]
    held = {
        count: memory_estimate.stages(config.replace(processes=count), base, Subjects.of(config))["training"]
        for count in (2, 4)
    }
    assert held[2] - held[4] == pytest.approx((4 + 4 + 8) * numbers / 4, rel=0.01)
    block = 4 * max(memory_estimate.sizes(memory_estimate.unet_numbers(base)).values())
    assert 4 * block < memory_estimate.gathered(config, base) < 0.12 * 4 * numbers


def test_the_plan_says_what_each_process_holds(trainer):
    with contextlib.closing(open_base(str(trainer.base))) as base:
        config = plan.resolve(trainer.config(processes=2, distribution="fsdp"), base)
        made = plan.make_plan(config, base, Subjects.of(config), 3, 0, 4, 1.0, GB, 0)
        alone = trainer.config(distribution="fsdp")
        (warning,) = plan.warnings(alone, plan.resolve(alone, base), base)
    assert (made.processes, made.distribution) == (2, "fsdp")
    assert (warning.field, warning.code) == ("distribution", "plan.alone")


def test_a_run_may_go_on_in_another_way_than_its_setting(tmp_path):
    run = training.Trainer(tmp_path).train(max_train_steps=1)
    training.forget_accelerate()
    assert worker.main([str(run.path), "--total", "2", "--distribution", "fsdp"]) == worker.DONE
    (warning,) = training.events(run, "warning")
    assert warning["code"] == "plan.alone" and run.config.distribution == "auto"
