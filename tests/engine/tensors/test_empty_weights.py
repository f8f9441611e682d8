"""Modules whose weights a file replaces."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dreambooth_ext.engine.tensors.empty_weights import empty_weights


@pytest.mark.parametrize("buffers", [True, False])
def test_weights_are_neither_kept_nor_drawn(buffers):
    before = torch.get_rng_state()
    with empty_weights(buffers=buffers):
        module = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        module[0].weight.data.normal_(mean=0.0, std=0.02)  # as transformers' models do
    assert all(weight.is_meta for weight in module.parameters())
    assert all(buffer.is_meta == buffers for buffer in module.buffers())
    assert torch.equal(torch.get_rng_state(), before)
    module.load_state_dict(
        {name: torch.ones(tensor.shape) for name, tensor in module.state_dict().items()}, assign=True
    )
    assert module[1].weight.sum().item() == 16


def test_what_is_elsewhere_is_drawn():
    with empty_weights(buffers=False):
        made = nn.init.normal_(torch.zeros(3))
        assert made.abs().sum() > 0 and torch.zeros(3).uniform_().sum() > 0
    assert not nn.Linear(2, 2).weight.is_meta
