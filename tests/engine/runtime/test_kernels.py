"""What a card may choose from is set where it does not change what was asked for; numbers stay what they are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dreambooth_ext.engine.runtime import kernels

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def as_before():
    precision, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.parametrize(
    ("device", "precision", "buckets", "expected"),
    [
        ("cuda:0", "bf16", False, ("high", True)),
        ("cuda:0", "fp16", True, ("high", False)),
        ("cuda", "no", False, ("highest", True)),
        ("cpu", "bf16", False, ("highest", False)),
    ],
)
def test_what_a_card_may_choose(device, precision, buckets, expected):
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
    kernels.choose(SimpleNamespace(device=device, mixed_precision=precision, enable_bucket=buckets))
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == expected


def test_frozen_kernels_of_16_bits_are_ordered_by_pixel():
    torch.manual_seed(0)
    frozen, learning, full = (nn.Conv2d(4, 6, 3).bfloat16() for _ in range(3))
    frozen.requires_grad_(False)
    full.float().requires_grad_(False)
    unet, picture = nn.ModuleList([frozen, learning, full]), torch.randn(1, 4, 8, 8).bfloat16()
    known, drawn = {key: tensor.clone() for key, tensor in unet.state_dict().items()}, frozen(picture)
    assert kernels.order_channels_last(unet, torch.device("cpu")) == 0
    assert kernels.order_channels_last(unet, CUDA) == 1
    ordered = [layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in unet]
    assert ordered == [True, False, False]
    assert all(torch.equal(tensor, known[key]) for key, tensor in unet.state_dict().items())
    torch.testing.assert_close(frozen(picture), drawn)
