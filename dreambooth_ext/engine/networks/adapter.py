"""What all adapters share: an adapter is the change of one layer's weight.

The base's weight may be packed in fewer bits: `layer.weight` unpacks it, and `product` applies it without keeping it
for the backward pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.config.run_config import RunConfig

ALPHA, DORA = "alpha", "dora_scale"


class Adapter(nn.Module, ABC):
    """The change of one layer. parts: its tensors by their names in files, which are copied in float32."""

    PARTS: ClassVar[dict[str, str]] = {}  # name in files -> attribute
    NEEDED: ClassVar[tuple[tuple[str, ...], ...]] = ()  # groups of names of which one must be present
    GROWS: ClassVar[tuple[str, ...]] = ()  # attributes; the first that exists is zero initially
    FAST: ClassVar[tuple[str, ...]] = ()  # attributes to which LoRA+ gives a higher learning rate

    def __init__(self, parts: Mapping[str, Tensor]):
        super().__init__()
        for name, attribute in {**self.PARTS, DORA: DORA}.items():
            given = parts.get(name)
            copied = None if given is None else nn.Parameter(given.detach().to("cpu", torch.float32, copy=True))
            self.register_parameter(attribute, copied)
        self.alpha = float(parts[ALPHA].flatten()[0]) if ALPHA in parts else None

    @property
    def rank(self) -> int | None:
        """The rank, or None if the change has none and is not scaled by alpha."""
        return None

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None or self.rank is None else self.alpha / self.rank

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """Compute the formula before scale and DoRA, float32, with as many elements as `weight`."""

    def change(self, weight: Tensor) -> Tensor:
        """Return dW for a layer's `weight`, in float32 and in its shape."""
        weight = weight.float()
        changed = self.delta(weight).reshape(weight.shape) * self.scale
        if self.dora_scale is None:
            return changed
        whole = weight + changed
        size = self.dora_scale.reshape(*self.dora_scale.shape, *[1] * (weight.dim() - self.dora_scale.dim()))
        # no gradient through the norm, section 4.3 of the paper: less memory, and no worse
        return whole * (size / norms(whole.detach(), size.shape)) - weight

    def bias_change(self) -> Tensor | None:
        return None

    def forward(self, inputs: Tensor, layer: nn.Linear | nn.Conv2d, output: Tensor | None = None) -> Tensor:
        """Return what the change adds to the layer's output for these inputs. output: that, if it is known."""
        return Recomputed.apply(inputs, layer, self, *self.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """Return the parts, in the form that `__init__` takes."""
        known = {name: getattr(self, attribute) for name, attribute in {**self.PARTS, DORA: DORA}.items()}
        found = {name: tensor.detach() for name, tensor in known.items() if tensor is not None}
        return found if self.alpha is None else {**found, ALPHA: torch.tensor(self.alpha)}

    def learned(self, dtype: torch.dtype) -> bool:
        """Whether anything of the change remains at this precision."""
        growing = next(getattr(self, name) for name in self.GROWS if getattr(self, name) is not None)
        return bool(growing.detach().to(dtype).any())

    def fast(self) -> list[nn.Parameter]:
        return [getattr(self, name) for name in self.FAST]


class Trainable(Adapter):
    """An adapter that can be created anew and trained, not only read from another tool's file."""

    @staticmethod
    @abstractmethod
    def beginning(
        config: RunConfig, shape: tuple[int, ...], rank: int, randomness: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the parts, without alpha, of a new adapter that changes nothing yet. shape: of the layer's weight."""

    @staticmethod
    @abstractmethod
    def size(config: RunConfig, shape: tuple[int, ...], rank: int) -> int:
        """Return the number of parameters that `beginning` creates."""


class Recomputed(torch.autograd.Function):
    """The output of a change that is written out as large as the weight, and written out again for the backward pass
    instead of kept, as LyCORIS' HadaWeight does for its two factors."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: nn.Linear | nn.Conv2d, adapter: Adapter, *parts: Tensor) -> Tensor:
        ctx.layer, ctx.adapter = layer, adapter
        with exact(inputs):
            changed = adapter.change(layer.weight)
        output = apply(layer, inputs, changed)
        ctx.save_for_backward(inputs, *parts)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, *parts = ctx.saved_tensors
        wants_inputs, _, _, *wanted = ctx.needs_input_grad
        with exact(gradient):
            with torch.enable_grad():
                changed = ctx.adapter.change(ctx.layer.weight)
            weight, given = changed.detach().to(gradient.dtype), inputs.to(gradient.dtype)
            learning = [part for part, is_wanted in zip(parts, wanted, strict=True) if is_wanted]
            of_inputs, of_weight = gradients(ctx.layer, given, weight, gradient, (wants_inputs, bool(learning)))
            found = iter(())
            if of_weight is not None:
                found = iter(torch.autograd.grad(changed, learning, of_weight.to(changed.dtype)))
        of_inputs = None if of_inputs is None else of_inputs.to(inputs.dtype)
        return of_inputs, None, None, *(next(found) if is_wanted else None for is_wanted in wanted)


def gradients(
    layer: nn.Linear | nn.Conv2d, inputs: Tensor, weight: Tensor, gradient: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of `apply`'s inputs and of its weight, those that are wanted, from that of its output."""
    if isinstance(layer, nn.Conv2d):
        known = (layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups)
        made = torch.ops.aten.convolution_backward(gradient, inputs, weight, None, *known, [*wanted, False])
        return made[0], made[1]
    of_inputs = gradient @ weight if wanted[0] else None
    return of_inputs, gradient.flatten(0, -2).T @ inputs.flatten(0, -2) if wanted[1] else None


def apply(layer: nn.Linear | nn.Conv2d, inputs: Tensor, weight: Tensor) -> Tensor:
    """Apply the layer with another weight, and without bias."""
    if isinstance(layer, nn.Conv2d):
        return functional.conv2d(inputs, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return functional.linear(inputs, weight)


def exact(inputs: Tensor) -> torch.autocast:
    """Return a context that computes in float32."""
    return torch.autocast(inputs.device.type, enabled=False)


def product(layer: nn.Linear | nn.Conv2d, inputs: Tensor, output: Tensor | None = None) -> Tensor:
    """Return the layer's output without bias, (b, ..., out) or (b, out, h, w). output: the one with it, if known."""
    if output is not None:
        return output if layer.bias is None else output - along(layer.bias, layer).to(output.dtype)
    without_bias = getattr(layer, "without_bias", None)  # of packed layers
    return without_bias(inputs) if without_bias else apply(layer, inputs, layer.weight)


def along(values: Tensor, layer: nn.Linear | nn.Conv2d) -> Tensor:
    """Return a number for each channel in a shape that broadcasts over a layer's inputs or outputs."""
    return values.reshape(-1, 1, 1) if isinstance(layer, nn.Conv2d) else values.flatten()


def norms(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the norms along the axes that have length 1 in `shape`: (1, in, 1, 1) gives one per input channel. Some
    tools use (out, 1, 1, 1), one per output, which the WebUI (v1.10.1) applies wrongly and Forge correctly."""
    return torch.linalg.vector_norm(weight, dim=[axis for axis, size in enumerate(shape) if size == 1], keepdim=True)
