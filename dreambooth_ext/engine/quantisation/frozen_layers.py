"""Layers whose frozen weight is packed: it is unpacked for the forward pass and again for the backward pass, and never
kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from .packings import Packing


class Packed(nn.Module, ABC):
    """What both kinds of layers share. `weight` is read-only, and made anew whenever it is read."""

    packing: Packing
    shape: torch.Size  # of the weight
    dtype: torch.dtype  # of the weight once it is unpacked
    values: Tensor
    scales: Tensor

    @property
    def weight(self) -> Tensor:
        return self.packing.unpack(self.values, self.scales, self.shape, self.dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        return Product.apply(inputs, self, self.bias)

    def without_bias(self, inputs: Tensor) -> Tensor:
        """Return the output as if the layer had no bias."""
        return Product.apply(inputs, self, None)

    @abstractmethod
    def product(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's output, with this bias."""

    @abstractmethod
    def gradient(self, outputs: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """Return the gradient of inputs of this shape from that of the outputs."""


class PackedLinear(Packed, nn.Linear):
    def product(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(inputs, weight, bias)

    def gradient(self, outputs: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        return outputs @ weight


class PackedConv2d(Packed, nn.Conv2d):
    def product(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(inputs, weight, bias)

    def gradient(self, outputs: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        return conv2d_input(shape, weight, outputs, self.stride, self.padding, self.dilation, self.groups)


class Product(torch.autograd.Function):
    """A packed layer's output, with a gradient for its inputs alone. Nothing but shapes is kept in between."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: Packed, bias: Tensor | None) -> Tensor:
        ctx.layer, ctx.shape, ctx.dtype = layer, inputs.shape, inputs.dtype
        return layer.product(inputs, layer.weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        with torch.autocast(gradient.device.type, enabled=False):
            weight = ctx.layer.weight.to(gradient.dtype)
            return ctx.layer.gradient(gradient, weight, ctx.shape).to(ctx.dtype), None, None


def unpack_to(module: nn.Module, dtype: torch.dtype) -> None:
    """Have the packed layers of a module compute in another dtype, to which all else in it is cast."""
    for layer in module.to(dtype=dtype).modules():
        if isinstance(layer, Packed):
            layer.dtype = dtype


def pack(layer: nn.Linear | nn.Conv2d, packing: Packing, values: Tensor, scales: Tensor, dtype: torch.dtype) -> None:
    """Give a layer, in place, a packed weight instead of its own, which may be on the meta device."""
    is_linear = isinstance(layer, nn.Linear)
    assert is_linear or (layer.padding_mode == "zeros" and not isinstance(layer.padding, str)), "pads in another way"
    shape = layer.weight.shape
    del layer.weight
    layer.register_buffer("values", values)
    layer.register_buffer("scales", scales)
    layer.__class__ = PackedLinear if is_linear else PackedConv2d
    assert isinstance(layer, Packed)
    layer.packing, layer.shape, layer.dtype = packing, shape, dtype
    layer.requires_grad_(False)
