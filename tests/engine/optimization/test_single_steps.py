"""Weights in bfloat16 learn as in float32: rounding is right on average, and nothing else of a step is rounded."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.facts.optimizer_facts import OPTIMIZERS
from dreambooth_ext.engine import plan, worker
from dreambooth_ext.engine.optimization import single_steps
from dreambooth_ext.engine.optimization.fused_backward import FusedBackward
from dreambooth_ext.engine.optimization.optimizer_creation import missing_optimizer
from dreambooth_ext.engine.optimization.single_steps import SingleSteps, rounded
from tests import training

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


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "lion", "adafactor", "came"])
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


# --- every optimizer, held against its library's own step in float32

HELD = [name for name in OPTIMIZERS if not missing_optimizer(name, torch.device("cpu"))]
SHAPES = ((48, 40, 3, 3), (96, 64), (96,))  # a kernel, a matrix, and what is not factored
STEPS = 5


def rate_of(name: str) -> float:
    facts = OPTIMIZERS[name]
    return 1.0 if facts.finds_rate else 0.5 if facts.usual_rate > 1 else 1e-2


def weights_of(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    made = (torch.randn(shape, generator=draws(n)).bfloat16() for n, shape in enumerate(SHAPES))
    return [torch.nn.Parameter(weight.to(dtype)) for weight in made]


def gradients_of(step: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Of a bowl with its lowest point at 0, and some noise, so that Prodigy's rate grows; exact in bfloat16."""
    noise = (torch.randn(shape, generator=draws(100 * step + n)) for n, shape in enumerate(SHAPES))
    return [(w.detach() + 0.3 * n).bfloat16().to(dtype) for w, n in zip(weights_of(dtype), noise, strict=True)]


def optimizer_with(name: str, weights: list[torch.nn.Parameter], **settings) -> torch.optim.Optimizer:
    config = RunConfig(optimizer=name, **{"weight_decay": 0.1, **settings})
    first, *rest = weights
    groups = [{"name": "unet", "params": rest}, {"name": "text_encoder", "params": [first]}]
    return plan.make_optimizer(config, [{**group, "rate": rate_of(name)} for group in groups])


def library_steps(name: str, **settings) -> list[torch.nn.Parameter]:
    weights = weights_of(torch.float32)
    optimizer = optimizer_with(name, weights, **settings)
    for step in range(STEPS):
        for weight, gradient in zip(weights, gradients_of(step, torch.float32), strict=True):
            weight.grad = gradient
        optimizer.step()
    return weights


def our_steps(name: str, dtype: torch.dtype, fused: bool, seed: int = 1, **settings) -> list[torch.nn.Parameter]:
    weights = weights_of(dtype)
    optimizer = optimizer_with(name, weights, **settings)
    steps = SingleSteps(optimizer, seed, OPTIMIZERS[name].steps_alone)
    within = FusedBackward(steps) if fused else None
    for step in range(STEPS):
        steps.now = step
        gradients = gradients_of(step, dtype)
        if within:
            with within.stepping():  # the gradient of a sum of products are the factors
                sum((w * g).sum() for w, g in zip(weights, gradients, strict=True)).backward()
            continue
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        steps.step_all()
    assert all(weight.grad is None and weight.dtype == dtype for weight in weights)
    return weights


FUSED = [(name, fused) for name in HELD for fused in (False, True) if OPTIMIZERS[name].steps_alone or not fused]


@pytest.mark.parametrize(("name", "fused"), FUSED)
def test_a_step_of_single_parameters_is_the_librarys_own(name, fused):
    """In float32 to the last bits: only the order in which prodigyplus adds up its rate is another one."""
    ours, own = our_steps(name, torch.float32, fused), library_steps(name)
    for weight, other, before in zip(ours, own, weights_of(torch.float32), strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=1e-6 if OPTIMIZERS[name].averages else 0)
        assert not torch.equal(other, before)


def spacing(values: torch.Tensor) -> torch.Tensor:
    """The distance of bfloat16 numbers of this size."""
    return 2.0 ** (torch.frexp(values.abs().clamp_min(1e-30)).exponent - 8).double()


@pytest.mark.parametrize(("name", "fused"), FUSED)
def test_in_bfloat16_it_is_the_same_up_to_rounding_with_the_right_mean_and_variance(name, fused, monkeypatch):
    """One step from equal weights: each number is one of the two beside that of float32, the mean over many seeds is
    that number, and the variance p (1 - p) of their distance squared, p being its place between them."""
    monkeypatch.setattr("tests.engine.optimization.test_single_steps.STEPS", 1)
    settings = {"optimizer_args": {"d0": 1e-3}} if OPTIMIZERS[name].finds_rate else {}
    own = torch.cat([weight.detach().flatten() for weight in library_steps(name, **settings)]).double()
    made = [our_steps(name, torch.bfloat16, fused, seed, **settings) for seed in range(24)]
    found = torch.stack([torch.cat([w.detach().flatten() for w in weights]).double() for weights in made])
    wide = spacing(own)
    assert ((found - own).abs() <= wide * 1.001).all()
    count = own.numel()
    assert abs(((found.mean(0) - own) / wide).mean()) < 4 * 0.5 / (24 * count) ** 0.5
    share = torch.remainder(own / wide, 1.0)
    expected = share * (1 - share)
    assert expected.mean() > 0.01  # something was there to round
    assert (((found - own) / wide).square().mean(0) - expected).mean().abs() < 0.05 * expected.mean()


@pytest.mark.parametrize(("name", "fused"), FUSED)
def test_the_seed_alone_decides_how_is_rounded(name, fused):
    one, same, other = (our_steps(name, torch.bfloat16, fused, seed) for seed in (1, 1, 2))
    after = our_steps(name, torch.bfloat16, False, 1)
    assert all(map(torch.equal, one, same)) and not all(map(torch.equal, one, other))
    if not OPTIMIZERS[name].averages:  # there, the last bits of the rate may differ
        assert all(map(torch.equal, one, after))


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


def test_they_are_refused_where_is_computed_in_another_precision(trainer):
    run = trainer.train(weight_precision="bf16", mixed_precision="no", ends=worker.BAD_INPUT)
    assert run.state()["problem"]["code"] == "plan.bf16_weights_alone"


def test_prodigy_whose_step_needs_all_gradients_takes_it_after_the_backward_pass(trainer):
    settings = {**BF16, "optimizer": "prodigy", "learning_rate": 1.0, "optimizer_args": {"d0": 1e-3}}
    whole = trainer.train(**settings, max_train_steps=3, text_encoder_steps=2)
    run = trainer.train(**settings, max_train_steps=1, text_encoder_steps=2)
    assert training.go_on(run, total=3) == worker.DONE
    training.assert_same_run(whole, run)
