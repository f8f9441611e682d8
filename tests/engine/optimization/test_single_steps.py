"""Weights in bfloat16 learn as in float32: rounding is right on average, and nothing else of a step is rounded."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.engine import memory_choices, plan, worker
from dreambooth_ext.engine.optimization import single_steps
from dreambooth_ext.engine.optimization.optimizer_creation import missing_optimizer
from dreambooth_ext.engine.optimization.single_steps import SingleSteps, rounded
from tests import training
from tests.engine.test_plan import FULL, Full

BF16 = {"weight_precision": "bf16", "mixed_precision": "bf16"}


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_mean_and_the_variance_of_rounding():
    """At share p of the way from a to the next bfloat16 b: the mean is the value, the variance p (1 - p) (b - a)^2."""
    for low, high in ((1.0, 1.0078125), (-2.0, -2.015625), (3e-5, None)):
        low = float(torch.tensor(low, dtype=torch.bfloat16))
        high = high or float((torch.tensor([low]).view(torch.int32) + (1 << 16)).view(torch.float32))
        for share in (0.1, 0.5, 0.9):
            value = low + share * (high - low)
            found = rounded(torch.full((100_000,), value), draws(1)).double()
            assert set(found.tolist()) == {low, high}
            assert found.mean().item() == pytest.approx(value, abs=0.01 * abs(high - low))
            assert found.var().item() == pytest.approx(share * (1 - share) * (high - low) ** 2, rel=0.03)


def test_what_is_exact_stays_and_the_same_draws_round_alike():
    exact = torch.randn(1000, generator=draws(1)).bfloat16().float()
    special = torch.tensor([0.0, -0.0, float("inf"), float("-inf")])
    for values in (exact, special):
        assert torch.equal(rounded(values, draws(2)).float(), values)
    assert rounded(torch.tensor([float("nan")]), draws(2)).isnan().all()
    values = torch.randn(3, 5, generator=draws(3)).t()  # not contiguous
    assert torch.equal(rounded(values, draws(4)), rounded(values, draws(4)))
    assert not torch.equal(rounded(values, draws(4)), rounded(values, draws(5)))


def optimizer_of(name: str, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
    config = RunConfig(optimizer=name, weight_decay=0.0)
    return plan.make_optimizer(config, [{"name": "unet", "params": [parameter], "rate": 2e-6}])


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "lion", "adafactor"])
def test_small_steps_are_lost_without_it_and_add_up_with_it(name, monkeypatch):
    """At the guide's rate of 2e-6, where the numbers of weights are 0.004 apart, as in float32."""
    if reason := missing_optimizer(name, torch.device("cpu")):
        pytest.skip(reason)

    def moved(dtype: torch.dtype) -> float:
        weight = torch.nn.Parameter(torch.ones(128, 64, dtype=dtype))
        steps = SingleSteps(optimizer_of(name, weight), seed=3)
        for step in range(100):
            weight.grad, steps.now = torch.ones_like(weight), step
            steps.step_all()
        return (1 - weight.detach().double()).mean().item()

    exact = moved(torch.float32)
    assert exact > 5e-5 and moved(torch.bfloat16) == pytest.approx(exact, rel=0.1)
    monkeypatch.setattr(single_steps, "rounded", lambda values, generator: values.bfloat16())
    assert moved(torch.bfloat16) == 0


# --- runs


def test_steps_in_the_backward_pass_are_the_same_and_a_resumed_run_too(trainer):
    settings = {**BF16, "text_encoder_steps": 3, "use_ema": True, "ema_decay": 0.9}
    fused = trainer.train(**settings, max_train_steps=4, max_grad_norm=0)
    run = trainer.train(**settings, max_train_steps=2, max_grad_norm=0)
    assert training.go_on(run, total=4) == worker.DONE
    training.assert_same_run(fused, run)
    after = trainer.train(**settings, max_train_steps=4, max_grad_norm=1e6, clip_grad_mode="norm")
    assert training.difference(training.artifact(fused), training.artifact(after)) == ""


def test_weights_are_bfloat16_and_the_optimizers_numbers_and_the_average_are_not(trainer):
    run = trainer.train(**BF16, max_train_steps=2, text_encoder_steps=2, use_ema=True, optimizer="adamw")
    assert {tensor.dtype for tensor in training.weights(run).values() if tensor.is_floating_point()} == {torch.bfloat16}
    assert training.go_on(run, total=3) == worker.DONE
    known = training.trainer_state(run)
    numbers = [value for state in known["optimizer"]["state"].values() for value in state.values()]
    assert {number.dtype for number in numbers if torch.is_tensor(number)} == {torch.float32}
    assert {tensor.dtype for tensor in known["ema"]["shadow_params"]} == {torch.float32}


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"mixed_precision": "no"}, "plan.bf16_weights_alone"),
        ({"mixed_precision": "bf16", "optimizer": "prodigy", "learning_rate": 1.0}, "plan.bf16_weights_optimizer"),
    ],
)
def test_what_they_cannot_be_trained_with_is_refused(trainer, settings, code):
    run = trainer.train(**{"weight_precision": "bf16", **settings}, ends=worker.BAD_INPUT)
    assert run.state()["problem"]["code"] == code


# --- what is chosen where memory is short


@pytest.mark.parametrize(
    ("family", "gigabytes", "chosen"),
    [
        ("sd1", 12, ("norm", "fp32", "adamw8bit")),
        ("sd1", 8, ("previous_norm", "fp32", "adamw8bit")),
        ("sd1", 5, ("previous_norm", "bf16", "adamw8bit")),
        ("sd1", 4, ("previous_norm", "bf16", "adafactor")),
        ("sdxl", 24, ("previous_norm", "fp32", "adamw8bit")),
        ("sdxl", 12, ("previous_norm", "bf16", "adamw8bit")),
        ("sdxl", 10, ("previous_norm", "bf16", "adafactor")),
    ],
)
def test_the_cheapest_choice_that_fits_the_card(monkeypatch, family, gigabytes, chosen):
    monkeypatch.setattr(memory_choices.memory, "total", lambda device: int(gigabytes * 1e9))
    base = Full(family)
    open_ = RunConfig(**FULL | {"optimizer": "auto"})
    first = open_.replace(clip_grad_mode="norm", weight_precision="fp32", optimizer="adamw8bit", cache_latents=True)
    found = memory_choices.fitted(open_, first.replace(resolution=base.resolution), base)
    assert (found.clip_grad_mode, found.weight_precision, found.optimizer) == chosen


@pytest.mark.parametrize(
    "settings", [{"mixed_precision": "fp16"}, {"gradient_accumulation_steps": 2}, {"max_grad_norm": 0}]
)
def test_clipping_is_left_alone_where_that_saves_nothing(monkeypatch, settings):
    """In fp16 and with accumulation all gradients are kept anyway, without clipping none are."""
    monkeypatch.setattr(memory_choices.memory, "total", lambda device: 1)
    open_ = RunConfig(**FULL | {"optimizer": "auto"} | settings)
    first = open_.replace(clip_grad_mode="norm", weight_precision="fp32", optimizer="adamw8bit", cache_latents=True)
    found = memory_choices.fitted(open_, first.replace(resolution=512), Full("sd1"))
    assert (found.clip_grad_mode, found.optimizer) == ("norm", "adafactor")


def test_what_was_asked_for_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory_choices.memory, "total", lambda device: 1)
    asked = RunConfig(**FULL | {"clip_grad_mode": "norm", "weight_precision": "fp32"})
    assert (
        memory_choices.fitted(asked, asked.replace(resolution=512, cache_latents=True), Full("sd1")).optimizer
        == "adamw8bit"
    )
