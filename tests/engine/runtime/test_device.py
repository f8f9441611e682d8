"""The device that a run takes, and what its allocator is told."""

from __future__ import annotations

import contextlib
import sys
from unittest import mock

import pytest
import torch

from dreambooth_ext.engine import deep_check, plan, worker
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.runtime import device
from dreambooth_ext.engine.runtime.device import take_device
from tests.training import Trainer


@pytest.fixture
def card(monkeypatch) -> mock.Mock:
    """A card's calls, in order, on a machine that has none."""
    calls = mock.Mock()
    monkeypatch.setattr(torch.cuda, "set_device", calls.set_device)
    monkeypatch.setattr(torch.cuda.memory, "_set_allocator_settings", calls.allocator)
    monkeypatch.setattr(torch, "empty", calls.empty)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(sys, "platform", "linux")
    for name in device.ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    return calls


GROW, STAY = mock.call.allocator("expandable_segments:True"), mock.call.allocator("expandable_segments:False")


def test_it_is_the_current_one_and_its_segments_grow(card):
    take_device("cuda:1")
    one = torch.device("cuda", 1)
    assert card.mock_calls == [mock.call.set_device(one), GROW, mock.call.empty(1, device=one)]


def test_a_card_whose_segments_cannot_grow_keeps_them_as_they_are(card):
    card.empty.side_effect = RuntimeError("CUDA driver error: operation not supported")
    take_device("cuda:0")
    assert card.mock_calls[-1] == STAY


@pytest.mark.parametrize("name", device.ALLOCATOR)
def test_what_the_user_tells_the_allocator_stays(card, monkeypatch, name):
    monkeypatch.setenv(name, "max_split_size_mb:512")
    take_device("cuda:0")
    assert not card.allocator.called


@pytest.mark.parametrize(("platform", "cuda"), [("win32", "13.0"), ("linux", None)])
def test_only_where_pytorch_can(card, monkeypatch, platform, cuda):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    take_device("cuda")
    assert card.mock_calls == []


def test_nothing_is_tried_before_the_device_is_taken(tmp_path, monkeypatch):
    """A trial on "cuda" would open the first card, whichever the run is for. Optimizers are tried twice: to find what
    "auto" means, and with their arguments."""
    order = []
    tried, chosen = plan.make_optimizer, plan.choose_optimizer
    for module in (worker, deep_check):
        monkeypatch.setattr(module, "take_device", lambda name: order.append(name))
    monkeypatch.setattr(plan, "make_optimizer", lambda *given: order.append("trial") or tried(*given))
    monkeypatch.setattr(plan, "choose_optimizer", lambda *given: order.append("auto") or chosen(*given))
    trainer = Trainer(tmp_path, optimizer="auto")
    trainer.train(max_train_steps=1)
    assert order == ["cpu", "auto", "trial"]
    deep_check.inspect(trainer.config().as_dict(), trainer.folder)
    assert order == ["cpu", "auto", "trial"] * 2


def test_auto_is_tried_on_the_card_that_was_taken(tmp_path, monkeypatch):
    """And on no other, which a number would name for each of several processes."""
    asked = []
    monkeypatch.setattr(plan, "choose_device", lambda wanted: torch.device("cuda", 1))
    monkeypatch.setattr(plan, "half_precision", lambda card: "bf16")
    monkeypatch.setattr(plan, "choose_optimizer", lambda method, card: asked.append(card) or "adamw")
    for name in ("total", "free"):
        monkeypatch.setattr(plan.memory, name, lambda card: 10**12)
    trainer = Trainer(tmp_path)
    with contextlib.closing(open_base(trainer.config().base_model)) as base:
        assert plan.resolve(trainer.config(optimizer="auto"), base).device == "cuda:1"
    assert asked == [torch.device("cuda")]
