"""LoRA types for one layer: each type's formula, its tensors by their names in files, and its initialisation.

W is a layer's weight, (out, in) or (out, in, height, width). An adapter computes the change dW for a given W, and a
layer with an adapter computes with W + dW. In training the two are applied separately, since small changes would be
lost if they were added in 16 bits. dW is as large as W: it is not written out where its parts can be applied one after
the other, and else written out again for the backward pass (LoHa, whose product by element has no such parts):
    LoRA, LoCon  A, then B; between them T, a kernel, where a file has one (t of LoKr, too)
    DoRA         W and A to inputs scaled by c - 1 and c = m / |W + s B A|; dW x = W ((c - 1) x) + s B A (c x)
    LoKr         w2 to the inputs' rows, then w1 to their columns
    OFT          R^T - I to the layer's output

The formulas by which WebUIs read such files (v1.10.1: extensions-builtin/Lora/network_*.py), with s = alpha / rank:
    LoRA, LoCon  s B A                               arXiv 2106.09685; B: lora_up, A: lora_down
    DoRA         (W + s B A) m / |W + s B A| - W     2402.09353; m, and the norms |.|, of each input channel
    LoHa         s (w1_a w1_b) * (w2_a w2_b)         2108.06098; * by element
    LoKr         s w1 (x) w2, w2 = w2_a w2_b         2309.14859; (x) Kronecker's product
    OFT          R W - W, R = (I + Q) (I - Q)^-1     2306.07280; blocks of R on the diagonal, Q = B - B^T
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.config.run_config import RunConfig
from ...core.facts.lora_types import LORA_TYPES, LoRAType
from .adapter import ALPHA, DORA, Adapter, Trainable, along, apply, exact, norms, product
from .magnitude import INPUTS, axis_of, changed_norms


class LoRA(Trainable):
    """LoRA. up: (out, rank) or (out, rank, 1, 1); down: (rank, in) or (rank, in, h, w); mid, if present: (rank, rank,
    h, w), then down is (rank, in, 1, 1)."""

    PARTS: ClassVar = {"lora_up.weight": "up", "lora_down.weight": "down", "lora_mid.weight": "mid"}
    NEEDED = (("lora_up.weight",), ("lora_down.weight",))
    GROWS = FAST = ("up",)

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def delta(self, weight: Tensor) -> Tensor:
        up, down = self.up.flatten(1), self.down.flatten(1)
        if self.mid is None:
            return up @ down
        return torch.einsum("nmhw,on,mi->oihw", self.mid, up, down)

    def forward(self, inputs: Tensor, layer: nn.Linear | nn.Conv2d, output: Tensor | None = None) -> Tensor:
        if self.dora_scale is None and (self.mid is None or is_convolution(layer)):
            return self._applied(inputs, layer)
        weight = layer.weight
        axis = axis_of(self.dora_scale.shape, weight.dim())
        if axis is None or self.mid is not None:
            return super().forward(inputs, layer, output)
        with exact(inputs):
            # no gradient through the norm, as in `change`
            after = changed_norms(weight, self.up.flatten(1), self.down.flatten(1), self.scale, axis)
            factor = self.dora_scale.flatten() / after
            more = along(factor - 1, layer).to(inputs.dtype)  # where it is small, a sum would lose it in 16 bits
        if axis == INPUTS:
            down = self.down.flatten(2) * factor[:, None] if self.down.dim() > 2 else self.down * factor
            return product(layer, inputs * more) + self._applied(inputs, layer, down)
        own = self._applied(inputs, layer)
        return product(layer, inputs, output) * more + own * along(factor, layer).to(own.dtype)

    def _applied(self, inputs: Tensor, layer: nn.Linear | nn.Conv2d, down: Tensor | None = None) -> Tensor:
        """Return s B A x, or s B T A x. down: A, if other than the adapter's."""
        down = self.down if down is None else down
        if self.mid is not None:
            made = tucker(layer, inputs, self.mid, self.up.flatten(1), down.flatten(1))
            return made * self.scale
        if isinstance(layer, nn.Conv2d):
            down = down.reshape(self.rank, -1, *layer.kernel_size)
            return functional.conv2d(apply(layer, inputs, down), self.up.reshape(*self.up.shape[:2], 1, 1)) * self.scale
        return functional.linear(functional.linear(inputs, down.flatten(1)), self.up.flatten(1)) * self.scale

    @staticmethod
    def beginning(
        config: RunConfig, shape: tuple[int, ...], rank: int, randomness: torch.Generator
    ) -> dict[str, Tensor]:
        out, *rest = shape
        down = uniform((rank, *rest), math.prod(rest), randomness)
        return {"lora_up.weight": torch.zeros(out, rank, *[1] * (len(rest) - 1)), "lora_down.weight": down}

    @staticmethod
    def size(config: RunConfig, shape: tuple[int, ...], rank: int) -> int:
        return rank * (shape[0] + math.prod(shape[1:]))


class LoHa(Trainable):
    """LoHa. w*_a: (out, rank), w*_b: (rank, in h w); with t* (rank, rank, h, w): (rank, out) and (rank, in)."""

    PARTS: ClassVar = {f"hada_{name}": name for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")}
    NEEDED = (("hada_w1_a",), ("hada_w1_b",), ("hada_w2_a",), ("hada_w2_b",))
    GROWS = ("w2_a",)

    @property
    def rank(self) -> int:
        return self.w1_b.shape[0]

    def delta(self, weight: Tensor) -> Tensor:
        sides = ((self.t1, self.w1_a, self.w1_b), (self.t2, self.w2_a, self.w2_b))
        one, other = (a @ b if t is None else with_kernel(t, a, b) for t, a, b in sides)
        return one.reshape(weight.shape) * other.reshape(weight.shape)

    @staticmethod
    def beginning(
        config: RunConfig, shape: tuple[int, ...], rank: int, randomness: torch.Generator
    ) -> dict[str, Tensor]:
        out, width = shape[0], math.prod(shape[1:])

        def normal(rows: int, columns: int, deviation: float) -> Tensor:
            return torch.randn(rows, columns, generator=randomness) * deviation

        first = {"hada_w1_a": normal(out, rank, 0.1), "hada_w1_b": normal(rank, width, 1)}
        return {**first, "hada_w2_a": torch.zeros(out, rank), "hada_w2_b": normal(rank, width, 1)}

    @staticmethod
    def size(config: RunConfig, shape: tuple[int, ...], rank: int) -> int:
        return 2 * rank * (shape[0] + math.prod(shape[1:]))


class LoKr(Trainable):
    """LoKr. w1: (o1, i1); w2: (o2, i2) or (o2, i2, h, w), with o1 o2 = out and i1 i2 = in. Each may be a product of
    two."""

    PARTS: ClassVar = {f"lokr_{name}": name for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}
    NEEDED = (("lokr_w1", "lokr_w1_a"), ("lokr_w1", "lokr_w1_b"), ("lokr_w2", "lokr_w2_a"), ("lokr_w2", "lokr_w2_b"))
    GROWS = ("w2", "w2_b")

    @property
    def rank(self) -> int | None:
        factor = self.w2_b if self.w2_b is not None else self.w1_b
        return None if factor is None else factor.shape[0]

    def delta(self, weight: Tensor) -> Tensor:
        w1, w2 = self._first(), self._second()
        return torch.kron(w1.reshape(*w1.shape, *[1] * (w2.dim() - 2)), w2.contiguous())

    def _first(self) -> Tensor:
        return self.w1_a @ self.w1_b if self.w1 is None else self.w1

    def _second(self) -> Tensor:
        if self.w2 is not None:
            return self.w2
        return self.w2_a @ self.w2_b if self.t2 is None else with_kernel(self.t2, self.w2_a, self.w2_b)

    def forward(self, inputs: Tensor, layer: nn.Linear | nn.Conv2d, output: Tensor | None = None) -> Tensor:
        """(w1 (x) w2) x, where x is a matrix (i1, i2) in row-major order, is w1 x w2^T."""
        with exact(inputs):
            w1 = self._first() * self.scale
        channels = inputs.shape[1 if isinstance(layer, nn.Conv2d) else -1]
        if self.dora_scale is not None or channels % w1.shape[1] or (isinstance(layer, nn.Conv2d) and layer.groups > 1):
            return super().forward(inputs, layer, output)
        if not isinstance(layer, nn.Conv2d):
            rows = self._applied(inputs.unflatten(-1, (w1.shape[1], -1)), layer)
            return functional.linear(rows.transpose(-1, -2), w1).transpose(-1, -2).flatten(-2)
        rows = self._applied(inputs.reshape(-1, channels // w1.shape[1], *inputs.shape[2:]), layer)
        size = rows.shape[2:]
        columns = rows.reshape(len(inputs), w1.shape[1], -1, size[1])  # (b, i1, o2 h, w)
        return functional.conv2d(columns, w1[:, :, None, None]).reshape(len(inputs), -1, *size)

    def _applied(self, rows: Tensor, layer: nn.Linear | nn.Conv2d) -> Tensor:
        """Return w2 of each row: (..., i2) -> (..., o2), or (b i1, i2, h, w) -> (b i1, o2, h, w)."""
        if self.w2 is None and self.t2 is not None and is_convolution(layer):
            return tucker(layer, rows, self.t2, self.w2_a.T, self.w2_b)
        inwards, outwards = (self.w2_b, self.w2_a) if self.w2 is None and self.t2 is None else (None, None)
        if inwards is None or outwards is None:
            inwards = self._second()
        if not isinstance(layer, nn.Conv2d):
            made = functional.linear(rows, inwards.flatten(1))
            return made if outwards is None else functional.linear(made, outwards)
        made = apply(layer, rows, inwards.reshape(len(inwards), -1, *layer.kernel_size))
        return made if outwards is None else functional.conv2d(made, outwards[:, :, None, None])

    @staticmethod
    def beginning(
        config: RunConfig, shape: tuple[int, ...], rank: int, randomness: torch.Generator
    ) -> dict[str, Tensor]:
        (o1, o2), (i1, i2) = (factors(size, config.lokr_factor) for size in shape[:2])
        kernel = math.prod(shape[2:])
        w1 = uniform((o1, i1), i1, randomness)
        if lokr_is_whole(o2, i2, rank):
            return {"lokr_w1": w1, "lokr_w2": torch.zeros(o2, i2, *shape[2:])}
        return {
            "lokr_w1": w1,
            "lokr_w2_a": uniform((o2, rank), rank, randomness),
            "lokr_w2_b": torch.zeros(rank, i2 * kernel),
        }

    @staticmethod
    def size(config: RunConfig, shape: tuple[int, ...], rank: int) -> int:
        (o1, o2), (i1, i2) = (factors(size, config.lokr_factor) for size in shape[:2])
        kernel = math.prod(shape[2:])
        return o1 * i1 + (o2 * i2 * kernel if lokr_is_whole(o2, i2, rank) else rank * (o2 + i2 * kernel))


class OFT(Trainable):
    """OFT. blocks: (blocks, size, size), of which only the antisymmetric part matters. alpha, if present, limits its
    norm."""

    PARTS: ClassVar = {"oft_blocks": "blocks"}
    NEEDED = (("oft_blocks",),)
    GROWS = ("blocks",)

    def delta(self, weight: Tensor) -> Tensor:
        rows = weight.unflatten(0, self.blocks.shape[:2]).flatten(2)
        return torch.einsum("knm,kni->kmi", self._turn(), rows).reshape(weight.shape)

    def _turn(self) -> Tensor:
        """Return R - I = 2 (I - Q)^-1 Q, which is exactly 0 where Q is. (blocks, size, size)"""
        turned = self.blocks - self.blocks.transpose(1, 2)
        if self.alpha:
            norm, outputs = turned.norm(), self.blocks.shape[0] * self.blocks.shape[1]
            turned = turned * ((norm.clamp(max=self.alpha * outputs) + 1e-8) / (norm + 1e-8))
        return torch.linalg.solve(torch.eye(turned.shape[-1], device=turned.device) - turned, 2 * turned)

    def forward(self, inputs: Tensor, layer: nn.Linear | nn.Conv2d, output: Tensor | None = None) -> Tensor:
        if self.dora_scale is not None:
            return super().forward(inputs, layer, output)
        with exact(inputs):
            turn = self._turn()
        axis = 1 if isinstance(layer, nn.Conv2d) else -1
        blocks = product(layer, inputs, output).unflatten(axis, self.blocks.shape[:2])
        sums = "knm,bknhw->bkmhw" if isinstance(layer, nn.Conv2d) else "knm,...kn->...km"
        return torch.einsum(sums, turn, blocks).flatten(axis - 1 if axis < 0 else axis, axis if axis < 0 else axis + 1)

    @staticmethod
    def beginning(
        config: RunConfig, shape: tuple[int, ...], rank: int, randomness: torch.Generator
    ) -> dict[str, Tensor]:
        return {"oft_blocks": torch.zeros(oft_shape(shape[0], rank))}

    @staticmethod
    def size(config: RunConfig, shape: tuple[int, ...], rank: int) -> int:
        return math.prod(oft_shape(shape[0], rank))


class Whole(Adapter):
    """A full weight difference from another tool's file. It can be used for drawing but not trained."""

    PARTS: ClassVar = {"diff": "diff", "diff_b": "diff_b", "w_norm": "w_norm", "b_norm": "b_norm"}
    NEEDED = (("diff", "w_norm"),)

    def delta(self, weight: Tensor) -> Tensor:
        return self.diff if self.diff is not None else self.w_norm

    def bias_change(self) -> Tensor | None:
        return self.diff_b if self.diff_b is not None else self.b_norm


ADAPTERS = (LoRA, LoHa, LoKr, OFT, Whole)
PARTS = {ALPHA, DORA, *(name for kind in ADAPTERS for name in kind.PARTS)}


def from_parts(parts: Mapping[str, Tensor]) -> Adapter | None:
    """Return the adapter that these tensors of a file form, or None if the type is unknown."""
    for kind in ADAPTERS:
        whole = all(any(name in parts for name in names) for names in kind.NEEDED)
        if whole and set(parts) <= {ALPHA, DORA, *kind.PARTS}:
            return kind(parts)
    return None


def fits(adapter: Adapter, shape: Sequence[int]) -> bool:
    """Whether an adapter can change weights of this shape. Only shapes are computed."""
    try:
        alike = copy.deepcopy(adapter).to("meta")
        with torch.no_grad():
            weight = torch.empty(shape, device="meta")
            delta, bias = alike.delta(weight), alike.bias_change()
            alike.change(weight)
    except (RuntimeError, ValueError, IndexError):  # shapes that do not match
        return False
    channels = adapter.dora_scale is None or adapter.dora_scale.numel() in shape[:2]
    return delta.shape[0] == shape[0] and channels and (bias is None or bias.numel() == shape[0])


def with_kernel(t: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Compute the Tucker product: t (p, q, h, w), a (p, out), b (q, in) -> (out, in, h, w)."""
    return torch.einsum("pqhw,po,qi->oihw", t, a, b)


def tucker(layer: nn.Linear | nn.Conv2d, inputs: Tensor, t: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Apply a Tucker product as a convolution, without writing it out: t (p, q, h, w), up (out, p), down (q, in)."""
    made = apply(layer, functional.conv2d(inputs, down[:, :, None, None]), t)
    return functional.conv2d(made, up[:, :, None, None])


def is_convolution(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether a layer is a convolution of all its channels with each other."""
    return isinstance(layer, nn.Conv2d) and layer.groups == 1


# --- initialisation, with no change to the layer


def create(config: RunConfig, weight: Tensor, rank: int, randomness: torch.Generator) -> Trainable:
    """Create an adapter of the config's type, alpha and scaling, with this layer's rank."""
    facts = LORA_TYPES[config.network_type]
    parts = formula(facts).beginning(config, tuple(weight.shape), rank, randomness)
    if facts.has_magnitude:
        parts[DORA] = norms(weight.float(), (1, weight.shape[1], *[1] * (weight.dim() - 2)))
    if facts.has_alpha:
        assert config.alpha is not None and config.rank is not None, "a new LoRA has both"
        alpha = config.alpha * rank / config.rank  # the same ratio of alpha to rank in every layer
        # readers divide by the rank; for alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732) the file's alpha must be larger
        parts[ALPHA] = torch.tensor(alpha * math.sqrt(rank) if config.use_rslora else alpha)
    return formula(facts)(parts)


def count(config: RunConfig, shape: tuple[int, ...], rank: int) -> int:
    """Return the number of parameters that an adapter trains in a layer of this shape."""
    facts = LORA_TYPES[config.network_type]
    return formula(facts).size(config, shape, rank) + (shape[1] if facts.has_magnitude else 0)


def formula(facts: LoRAType) -> type[Trainable]:
    return next(kind for kind in ADAPTERS if issubclass(kind, Trainable) and kind.__name__ == facts.adapter)


def uniform(shape: tuple[int, ...], inputs: int, randomness: torch.Generator) -> Tensor:
    """Initialise as PyTorch's layers do: uniformly within 1 / sqrt(inputs)."""
    return (torch.rand(shape, generator=randomness) * 2 - 1) / math.sqrt(inputs)


def factors(size: int, factor: int) -> tuple[int, int]:
    """Split `size` into two integer factors, the smaller first. The smaller is the largest divisor up to `factor` and
    up to the square root of `size`; -1 means only the latter."""
    most = math.isqrt(size) if factor < 0 else min(factor, math.isqrt(size))
    small = next(n for n in range(most, 0, -1) if size % n == 0)
    return small, size // small


def lokr_is_whole(o2: int, i2: int, rank: int) -> bool:
    """Whether the larger factor is stored as a full matrix, since a product of this rank would hardly be smaller."""
    return rank >= max(o2, i2) / 2


def oft_shape(out: int, rank: int) -> tuple[int, int, int]:
    """Return the shape of OFT's blocks: the largest size up to `rank` that divides the output channels."""
    size = next(n for n in range(min(rank, out), 0, -1) if out % n == 0)
    return out // size, size, size
