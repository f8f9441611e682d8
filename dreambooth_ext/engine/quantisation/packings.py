"""Packings: a weight in 8 or 4 bits, and the weight that it stands for.

What is packed is held as whole numbers, also scales and float8: casting a module to another dtype leaves those alone.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from ...core.messages.message import Message, reason_of

BLOCK = 64  # numbers that share a scale in nf4
LARGEST_FP8 = 448.0  # of float8_e4m3fn
LARGEST_FP16 = 65504.0


class Packing(Protocol):
    """One way to pack. All arguments and results are on the weight's device."""

    size: float  # bytes per number of a weight, without one scale per output
    coarseness: float  # the largest error of a number, as a share of the largest that has the same scale

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and scales of a weight (out, in, ...) in float32, as whole numbers."""

    def unpack(self, values: Tensor, scales: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return the weight of this shape that was packed, rounded once to `dtype`."""


class Int8:
    """Values from -127 to 127, times a scale per output."""

    size = 1.0
    coarseness = 0.5 / 127

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scales = per_output(weight) / 127
        values = (weight / scales).round_().to(torch.int8)
        return values, scales.view(torch.int32)

    def unpack(self, values: Tensor, scales: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        # computed in float32 and rounded to `dtype` in the same kernel: no copy in float32
        return torch.mul(values, scales.view(torch.float32), out=torch.empty_like(values, dtype=dtype))


class Fp8:
    """float8_e4m3fn, times a scale per output. Scales are powers of 2: only the numbers' range moves, and a base that
    is stored in float8 is held as it is."""

    size = 1.0
    coarseness = 2.0**-4

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scales = torch.exp2((per_output(weight) / LARGEST_FP8).log2().ceil())
        return (weight / scales).to(torch.float8_e4m3fn).view(torch.int8), scales.view(torch.int32)

    def unpack(self, values: Tensor, scales: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return values.view(torch.float8_e4m3fn).to(dtype).mul_(scales.view(torch.float32).to(dtype))


class Nf4:
    """NormalFloat4 in blocks of 64, arXiv 2305.14314: 16 values between which normally distributed numbers are equally
    frequent. Packed by bitsandbytes, two to a byte."""

    size = 0.5 + 4 / BLOCK
    coarseness = 0.16

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        values, state = _bitsandbytes().quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
        return values, state.absmax.view(torch.int32)

    def unpack(self, values: Tensor, scales: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        functional = _bitsandbytes()
        known = {"absmax": scales.view(torch.float32), "shape": torch.Size(shape), "dtype": dtype}
        state = functional.QuantState(**known, blocksize=BLOCK, quant_type="nf4")
        return functional.dequantize_4bit(values, state)


class Half:
    """float16: numbers of a file in fp16 as they are, others with 11 bits."""

    size = 2.0
    coarseness = 2.0**-11

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        values = weight.clamp(-LARGEST_FP16, LARGEST_FP16).half().view(torch.int16)
        return values, values.new_empty(0)

    def unpack(self, values: Tensor, scales: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return values.view(torch.float16).to(dtype)


HALF = Half()  # no choice of `frozen_precision`, whose usual one computes in 16 bits, too
PACKINGS: dict[str, Packing] = {"int8": Int8(), "nf4": Nf4(), "fp8": Fp8()}


def per_output(weight: Tensor) -> Tensor:
    """Return the largest absolute value of each output, with the weight's number of axes; 1 where all are 0."""
    largest = weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True)
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def _bitsandbytes() -> ModuleType:
    return importlib.import_module("bitsandbytes.functional")


@functools.cache
def missing_packing(name: str, device: str) -> Message | None:
    """Return why weights cannot be packed in this way on this device, or None if they can: one is tried."""
    packing, weight = PACKINGS[name], torch.linspace(-1, 1, 64 * 64, device=device).reshape(64, 64)
    package = "bitsandbytes" if name == "nf4" else "PyTorch"
    try:
        values, scales = packing.pack(weight)
        found = packing.unpack(values, scales, weight.shape, torch.float32)
        if (found - weight).abs().max() > packing.coarseness * 1.01:
            raise RuntimeError(Message("device.packs_wrongly"))
    except (ImportError, AttributeError, NameError, OSError, RuntimeError, NotImplementedError, TypeError) as error:
        return Message("device.package_fails", package=package, error=reason_of(error))
    return None
