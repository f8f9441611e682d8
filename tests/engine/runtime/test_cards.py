"""Each process of a run has a card of its own, or the run is refused."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.runtime import cards


@pytest.fixture
def four_cards(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


def as_process(monkeypatch, local: int, count: int) -> None:
    places = {"RANK": local, "LOCAL_RANK": local, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    for name, value in places.items():
        monkeypatch.setenv(name, str(value))


def test_one_process_has_the_card_of_the_setting(four_cards):
    assert cards.of_this_process("auto") == "cuda:0" and cards.of_this_process("cuda:3") == "cuda:3"


def test_each_of_several_has_the_next_one(four_cards, monkeypatch):
    as_process(monkeypatch, 2, 3)
    assert [cards.of_this_process(device) for device in ("auto", "cuda", "cuda:1")] == ["cuda:2", "cuda:2", "cuda:3"]
    assert cards.of_this_process("cpu") == "cpu"


@pytest.mark.parametrize(("device", "count", "most"), [("auto", 5, 4), ("cuda:2", 3, 2)])
def test_more_processes_than_cards_are_refused(four_cards, monkeypatch, device, count, most):
    as_process(monkeypatch, 0, count)
    with pytest.raises(UserError, match=f"{count} processes need a card each") as refused:
        cards.of_this_process(device)
    assert refused.value.problem.field == "processes" and f"to {most} at most" in str(refused.value)


def test_chosen_cards_are_taken_in_their_order(four_cards, monkeypatch):
    assert cards.of_this_process("cuda:3,1") == "cuda:3"
    as_process(monkeypatch, 1, 2)
    assert cards.of_this_process("cuda:3,1") == "cuda:1"
    with pytest.raises(UserError, match="'cuda:4' is not on this machine"):
        cards.of_this_process("cuda:0,4")
    as_process(monkeypatch, 0, 3)
    with pytest.raises(UserError, match="3 processes need a card each, and cuda:3,1 chooses 2"):
        cards.of_this_process("cuda:3,1")


def test_an_apple_gpu_is_one_card(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert cards.of_this_process("mps") == "mps"
    as_process(monkeypatch, 0, 2)
    with pytest.raises(UserError, match="there is one"):
        cards.of_this_process("mps")
