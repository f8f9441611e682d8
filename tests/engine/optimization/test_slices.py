"""A weight that is stepped in slices is stepped as at once, to the bit, and its state is the same."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.facts.optimizer_facts import OPTIMIZERS
from dreambooth_ext.engine.optimization import single_steps, slices
from dreambooth_ext.engine.optimization.optimizer_creation import load_state, make_optimizer, missing_optimizer
from dreambooth_ext.engine.optimization.single_steps import SingleSteps

NAMES = [name for name, facts in OPTIMIZERS.items() if facts.is_elementwise]
SIZE = (5, 7001)  # three slices of 8192, and one of 10 429; its blocks of 256 are not all full


def stepped(name: str, sliced: bool, again_at: int = -1) -> tuple[torch.Tensor, dict]:
    def made() -> SingleSteps:
        config = RunConfig(optimizer=name, optimizer_args={"momentum": 0.9} if name == "sgd" else {})
        optimizer = make_optimizer(config, [{"name": "unet", "params": [weight], "rate": 1e-2}])
        return SingleSteps(optimizer, seed=1, sliced=sliced)

    drawn = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(SIZE, generator=drawn).bfloat16())
    steps = made()
    for step in range(4):
        if step == again_at:
            known, steps = steps.optimizer.state_dict(), made()
            load_state(steps.optimizer, known)
        steps.now = step
        weight.grad = torch.randn(SIZE, generator=drawn).bfloat16()
        steps.step_all()
    return weight.detach(), steps.optimizer.state[weight]


@pytest.mark.parametrize("name", NAMES)
def test_the_steps_and_the_state_are_the_same(name, monkeypatch):
    if reason := missing_optimizer(name, torch.device("cpu")):
        pytest.skip(reason)
    monkeypatch.setattr(slices, "SLICE", 8192)
    monkeypatch.setattr(single_steps, "rounded", lambda values, draws: values.bfloat16())  # draws come in other shapes
    places, cut = set(), slices.cut
    monkeypatch.setattr(slices, "cut", lambda value, *place: places.add(place[:2]) or cut(value, *place))
    whole, sliced, resumed = stepped(name, False), stepped(name, True), stepped(name, True, again_at=2)
    assert places == {(0, 8192), (8192, 16384), (16384, 24576), (24576, 35005)}
    assert torch.equal(whole[0], sliced[0]) and torch.equal(whole[0], resumed[0])
    assert whole[1].keys() == sliced[1].keys()
    for key, value in whole[1].items():
        if torch.is_tensor(value):
            assert value.shape == sliced[1][key].shape and torch.equal(value, sliced[1][key]), key
        else:
            assert value == sliced[1][key], key


def test_random_rounding_is_right_in_slices_too(monkeypatch):
    monkeypatch.setattr(slices, "SLICE", 8192)
    weight = torch.nn.Parameter(torch.ones(40_000, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([{"params": [weight], "name": "unet"}], lr=1e-3)
    weight.grad = torch.ones_like(weight)
    SingleSteps(optimizer, seed=1, sliced=True).step_all()
    assert set(weight.tolist()) == {1.0, 1 - 2.0**-8}
    assert weight.double().mean().item() == pytest.approx(1 - 1e-3, abs=3e-5)
