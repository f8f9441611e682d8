"""Which devices the form offers: the WebUI's own PyTorch is asked only where it is loaded and uses a card already."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from dreambooth_ext.host.environment import device_list, probe

GB = 2**30


class Cuda:
    def __init__(self, *cards: tuple[str, int], initialized: bool = True):
        self.cards, self.initialized = cards, initialized

    def is_available(self) -> bool:
        return bool(self.cards)

    def is_initialized(self) -> bool:
        return self.initialized

    def device_count(self) -> int:
        return len(self.cards)

    def get_device_properties(self, number: int) -> SimpleNamespace:
        assert self.initialized, "this would take memory on the card"
        return SimpleNamespace(name=self.cards[number][0], total_memory=self.cards[number][1])


TWO = [
    {"name": "cuda:0", "title": "RTX 3090", "memory": 24 * GB},
    {"name": "cuda:1", "title": "RTX 3060", "memory": 12 * GB},
]


@pytest.fixture
def loaded(monkeypatch):
    def load(cuda: Cuda | None) -> None:
        torch = ModuleType("torch")
        if cuda:
            torch.cuda = cuda  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torch", torch)

    return load


def test_a_loaded_torch_that_uses_its_cards_tells_all_of_them(loaded):
    loaded(Cuda(("RTX 3090", 24 * GB), ("RTX 3060", 12 * GB)))
    assert device_list.devices({"device": "CPU only"}) == TWO


def test_one_that_is_not_loaded_or_does_not_use_them_is_not_asked(loaded, monkeypatch):
    known = {"device": "RTX 3090, 24 GB, CUDA 12.6", "devices": TWO}
    loaded(Cuda(("Other", GB), initialized=False))
    assert device_list.devices(known) == TWO
    loaded(None)  # broken
    assert device_list.devices(known) == TWO
    monkeypatch.delitem(sys.modules, "torch")
    assert device_list.devices(known) == TWO and "torch" not in sys.modules


def test_records_of_every_age():
    assert device_list.of_record({"device": "CPU only"}) == device_list.of_record({}) == []
    (card,) = device_list.of_record({"device": "RTX 3090, 24 GB, CUDA 12.6"})
    assert card == {"name": "cuda:0", "title": "RTX 3090, 24 GB, CUDA 12.6", "memory": None}
    (apple,) = device_list.of_record({"device": "Apple GPU (MPS)"})
    assert apple["name"] == "mps"
    assert device_list.of_record({"device": "CPU only", "devices": [3, {"title": "x"}]}) == []


def test_the_probe_lists_what_torch_sees():
    cuda = Cuda(("RTX 3090", 24 * GB), ("RTX 3060", 12 * GB))
    assert probe.devices(SimpleNamespace(cuda=cuda)) == TWO
    mps = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True))
    assert [one["name"] for one in probe.devices(SimpleNamespace(cuda=Cuda(), backends=mps))] == ["mps"]
    assert probe.devices(SimpleNamespace(cuda=Cuda())) == []
