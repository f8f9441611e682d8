"""What a card's queues may do at once, shown without a card: nothing is used too early or overwritten in use, and a
block arrives while the one before it computes."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreambooth_ext.engine.optimization.fused_backward import FusedBackward
from dreambooth_ext.engine.optimization.single_steps import SingleSteps
from dreambooth_ext.engine.runtime.diffusers_models import EMAModel
from dreambooth_ext.engine.streaming import units
from dreambooth_ext.engine.streaming.average import AverageInMemory
from dreambooth_ext.engine.streaming.lanes import Lanes
from dreambooth_ext.engine.streaming.streaming import Streaming
from tests import tiny
from tests.engine.streaming.lanes import Log, Noted, late_lanes, noted_lanes, same

CPU = torch.device("cpu")
STEPS = 2


def make_unet(family: str, checkpointing: bool, learns: bool = True) -> nn.Module:
    unet = tiny.models(tiny.architecture(family))["unet"].train().requires_grad_(learns)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    return unet


def given(unet: nn.Module, step: int) -> dict[str, Any]:
    draws = torch.Generator().manual_seed(step)
    text = torch.randn(2, 7, unet.config.cross_attention_dim, generator=draws)
    more = {"text_embeds": torch.randn(2, 32, generator=draws), "time_ids": torch.ones(2, 6)}
    has_more = unet.config.addition_embed_type == "text_time"
    noised = torch.randn(2, 4, 8, 8, generator=draws).requires_grad_()
    about = {"encoder_hidden_states": text, **({"added_cond_kwargs": more} if has_more else {})}
    return {"sample": noised, "timestep": torch.tensor([3, 500]), **about}


def train(unet: nn.Module, streaming: Streaming | None, lanes: Lanes | None = None) -> dict[str, Tensor]:
    """Step within the backward pass, with a moving average. Returns all weights, states and averages."""
    optimizer = torch.optim.AdamW([{"params": list(unet.parameters()), "name": "unet"}], lr=1e-2)
    fused, average = FusedBackward(SingleSteps(optimizer, 0)), None
    if streaming:
        streaming.carry(optimizer)
    parameters = list(unet.parameters())
    if lanes:
        homeward = [streaming.lanes.outbound] if streaming else []
        average = AverageInMemory(parameters, CPU, lanes, homeward, portion=30_000, decay=0.9)
        average.is_away = lambda parameter: True  # type: ignore[method-assign]
    else:
        average = EMAModel(parameters, decay=0.9)
    for step in range(STEPS):
        loss = unet(**given(unet, step)).sample.square().mean()
        if isinstance(average, AverageInMemory):
            average.hold()
        with fused.stepping():
            loss.backward()
        average.step(parameters)
    if streaming:
        streaming.settle()
    numbers = dict(enumerate(average.state_dict()["shadow_params"]))
    states = {(n, k): v for n, p in enumerate(parameters) for k, v in optimizer.state[p].items()}
    found = {**unet.state_dict(), **{f"average {n}": t for n, t in numbers.items()}}
    return {k: v.detach().clone() for k, v in (found | {str(k): v for k, v in states.items()}).items()}


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_copies_that_come_as_late_as_they_may_change_nothing(family, checkpointing, share):
    usual = train(make_unet(family, checkpointing), None)
    unet, lanes = make_unet(family, checkpointing), late_lanes()
    streaming = Streaming(unet, share, CPU, lanes)
    streamed = train(unet, streaming, late_lanes())
    assert same(usual, streamed)


def note_use(compute: Noted, name: str, module: nn.Module, *_: Any) -> None:
    for parameter in module.parameters(recurse=False):
        compute.uses(name, parameter.data)


def noted_training(checkpointing: bool, deaf: str = "") -> tuple[Log, Streaming]:
    """Train with lanes that note themselves; what the blocks use is noted as the computation's."""
    log = Log()
    unet, lanes = make_unet("sd1", checkpointing), noted_lanes(log, deaf)
    streaming = Streaming(unet, 1.0, CPU, lanes)
    compute = lanes.compute
    assert isinstance(compute, Noted)
    for unit in streaming.units:
        for parameter in unit.parameters:
            parameter.register_post_accumulate_grad_hook(lambda p: compute.uses("gradient", p.data))
        for module in unit.module.modules():
            module.register_forward_hook(functools.partial(note_use, compute, unit.name))
    step = SingleSteps.step

    def stepped(self, parameter):
        step(self, parameter)
        compute.uses("step", parameter.data, writes=True)
        for value in self.optimizer.state[parameter].values():
            if value.dim():
                compute.uses("state", value, writes=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SingleSteps, "step", stepped)
        train(unet, streaming)
    return log, streaming


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_lane_uses_what_another_may_be_changing(checkpointing):
    log, _ = noted_training(checkpointing)
    assert len(log.accesses) > 1000 and log.races() == []


@pytest.mark.parametrize("deaf", ["compute", "inbound", "outbound"])
def test_a_lane_that_does_not_wait_is_found_out(deaf):
    log, _ = noted_training(True, deaf)
    assert log.races()


def test_a_block_arrives_while_the_one_before_it_computes():
    """Of most copies to the card, the lane that brings them knows nothing of the computation that goes on."""
    log, streaming = noted_training(False)
    names = [unit.name for unit in streaming.units]
    arrivals = [a for a in log.accesses if a.lane == "inbound" and a.writes]
    first_pass = arrivals[: len(names)]
    beside = 0
    for index, copy in enumerate(first_pass[1:]):
        before = next(a for a in log.accesses if a.what == names[index])
        beside += not before.is_before(copy)
        used = next(a for a in log.accesses if a.what == names[index + 1])
        assert copy.is_before(used)
    assert beside == len(names) - 1


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_units_are_in_the_order_in_which_they_compute(family):
    unet, seen = make_unet(family, False), []
    names = list(units.sizes(units.numbers_of(unet)))
    for name in names:
        unet.get_submodule(name).register_forward_hook(lambda *a, name=name: seen.append(name))
    with torch.no_grad():
        unet(**given(unet, 0))
    assert seen == names and len(names) > 10


def test_frozen_units_only_come():
    unet = make_unet("sd1", True, learns=False)
    log = Log()
    streaming = Streaming(unet, 1.0, CPU, noted_lanes(log))
    unet(**given(unet, 0)).sample.square().mean().backward()
    assert {access.lane for access in log.accesses} == {"inbound"} and log.races() == []
    copies = sum(access.writes for access in log.accesses)
    # forwards all, backwards all but those that are still there
    assert len(streaming.units) < copies <= 2 * len(streaming.units)
    assert len(streaming.visits.places) == units.PLACES


# --- what is where


def test_what_is_on_the_card_is_what_is_said(monkeypatch):
    """The bytes of places and of what stays are those of `numbers_on_card`, up to the gaps between tensors."""
    for share in (0.25, 0.5, 1.0):
        for learns in (False, True):
            unet = make_unet("sdxl", False, learns)
            numbers = units.numbers_of(unet)
            streaming = Streaming(unet, share, CPU)
            outside = {id(tensor) for unit in streaming.units for tensor in unit.tensors}
            stays = sum(p.numel() for p in unet.parameters() if id(p) not in outside)
            places = sum(len(place.memory) for place in streaming.visits.places) / 4
            said = units.numbers_on_card(numbers, share, learns)
            assert said <= stays + places <= said * 1.1
            assert units.outside_bytes(numbers, share, 4) == 4 * (sum(numbers.values()) - stays)
            shares = (sum(numbers.values()) - stays) / sum(units.sizes(numbers).values())
            assert abs(shares - share) < 0.2


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_bases_header_tells_the_same_as_its_unet(tmp_path, family):
    from dreambooth_ext.engine.models.base_model import open_base

    base = open_base(str(tiny.single_file(tmp_path, family)))
    assert units.unet_numbers(base) == units.numbers_of(base.unet())
