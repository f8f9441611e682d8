"""Weights in 8 and 4 bits against their formulas, written down once more, and how much is lost."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from dreambooth_ext.engine.quantisation import packings
from dreambooth_ext.engine.quantisation.packings import PACKINGS, missing_packing


def there(name: str) -> str:
    if reason := missing_packing(name, "cpu"):
        pytest.skip(str(reason))
    return name


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.03


def held(name: str, weight: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return PACKINGS[name].unpack(*PACKINGS[name].pack(weight), weight.shape, dtype)


def test_int8_rounds_to_a_127th_of_each_outputs_largest_number():
    weight = normal(3, 4, 2, 2)
    for output, row in zip(held("int8", weight), weight, strict=True):
        step = row.abs().max().item() / 127
        wanted = [round(number / step) * step for number in row.flatten().tolist()]
        assert output.flatten().tolist() == pytest.approx(wanted, rel=1e-6)


def test_nf4_rounds_to_the_values_of_its_paper():
    """arXiv 2305.14314, section 3: quantiles of the normal distribution, 8 on the negative side and 9 on the other with
    0 on both, as the authors' code computes them; blocks of 64 numbers in a row share their largest."""
    quantile = NormalDist().inv_cdf
    low, high = 0.5, 0.9677083
    positive = [quantile(high + (low - high) * n / 8) for n in range(8)]
    negative = [-quantile(high + (low - high) * n / 7) for n in range(7)]
    codes = sorted(value / max(positive) for value in [*negative, 0.0, *positive])
    weight = normal(5, 100)  # the last block is not full
    found, flat = held(there("nf4"), weight).flatten(), weight.flatten()
    for start in range(0, 500, 64):
        block = flat[start : start + 64]
        largest = block.abs().max().item()
        wanted = [min(codes, key=lambda code: abs(code * largest - number)) * largest for number in block.tolist()]
        assert found[start : start + 64].tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def test_fp8_holds_what_is_stored_in_float8_and_rounds_to_three_bits():
    stored = (normal(8, 64) * 2000).to(torch.float8_e4m3fn).float()
    assert torch.equal(held("fp8", stored), stored) and torch.equal(held("fp8", stored / 256), stored / 256)
    weight = normal(8, 64)
    error = (held("fp8", weight) - weight).abs()
    largest = weight.abs().amax(1, keepdim=True)
    assert (error <= torch.maximum(weight.abs() * 2**-4, largest * 2**-16)).all() and error.max() > 0


@pytest.mark.parametrize(("name", "low", "high"), [("int8", 0.006, 0.009), ("fp8", 0.02, 0.03), ("nf4", 0.085, 0.095)])
@pytest.mark.parametrize("shape", [(320, 1280), (64, 160, 3, 3)])
def test_how_much_of_normal_weights_is_lost(name, low, high, shape):
    weight = normal(*shape)
    assert low < ((held(there(name), weight) - weight).norm() / weight.norm()).item() < high


@pytest.mark.parametrize("name", PACKINGS)
def test_what_is_unpacked_is_rounded_once_and_the_same_each_time(name):
    weight = normal(48, 40, 3, 3)
    exact = held(there(name), weight)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(held(name, weight, dtype), exact.to(dtype))
    assert torch.equal(held(name, weight), exact) and not torch.equal(exact, weight)
    assert not held(name, torch.zeros(3, 64)).any()


@pytest.mark.parametrize("name", PACKINGS)
def test_casting_a_module_does_not_reach_what_is_packed(name):
    assert not any(part.is_floating_point() for part in PACKINGS[there(name)].pack(normal(8, 64)))


@pytest.mark.parametrize("name", PACKINGS)
def test_its_size_is_told(name):
    weight = normal(128, 256)
    values, scales = PACKINGS[there(name)].pack(weight)
    per_number = (values.nbytes + scales.nbytes - (0 if name == "nf4" else 4 * 128)) / weight.numel()
    assert per_number == PACKINGS[name].size


def test_what_does_not_work_here_is_found_out_before(monkeypatch):
    def absent():
        raise ImportError("no such library")

    missing_packing.cache_clear()
    monkeypatch.setattr(packings, "_bitsandbytes", absent)
    assert "bitsandbytes does not work here: no such library" in str(missing_packing("nf4", "cpu"))
    monkeypatch.setattr(packings.Int8, "unpack", lambda self, values, *others: values.float())
    assert "differs" in str(missing_packing("int8", "cpu"))
    missing_packing.cache_clear()
