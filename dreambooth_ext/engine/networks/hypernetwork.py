"""Hypernetworks: small networks that modify the input of an attention layer's keys and values.

For each context width there are two networks, one before `to_k` and one before `to_v`. Their input x becomes x +
linear(x) * multiplier, as in the WebUI (v1.10.1: modules/hypernetworks/hypernetwork.py, HypernetworkModule and
apply_single_hypernetwork). The context is the text in cross-attention, and the features themselves in self-attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ...core.config.run_config import RunConfig
from ..models.base_model import LatentBase
from ..runtime.diffusers_models import Attention
from ..runtime.seeds import generator
from .lora_network import shapes_of
from .switch import Switch

# The WebUI's names, all but two PyTorch's. There softmax and its variants are given no axis; PyTorch then takes the
# first of three, so that they normalise over the pictures of a batch.
ACTIVATIONS: dict[str, Callable[[], nn.Module] | None] = {
    "linear": None,
    "swish": nn.Hardswish,
    "hardswish": nn.Hardswish,
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "rrelu": nn.RReLU,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "hardsigmoid": nn.Hardsigmoid,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "hardshrink": nn.Hardshrink,
    "logsigmoid": nn.LogSigmoid,
    "softplus": nn.Softplus,
    "softshrink": nn.Softshrink,
    "prelu": nn.PReLU,
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
    "softmin": partial(nn.Softmin, dim=0),
    "softmax": partial(nn.Softmax, dim=0),
    "softmax2d": nn.Softmax2d,
    "logsoftmax": partial(nn.LogSoftmax, dim=0),
}
WIDEST, DEEPEST = 2**20, 100  # limits for a width and the number of widths: far above any in use, against damaged files
PROJECTIONS = ("k", "v")  # the two networks of a width, in the order of the files


@dataclass(frozen=True)
class Structure:
    """The structure that all networks of a file share."""

    layers: tuple[float, ...] = (1.0, 2.0, 1.0)  # widths, as multiples of the context's
    activation: str = "linear"  # between the layers
    layer_norm: bool = False  # layer normalisation after each layer
    activate_output: bool = False  # an activation after the last layer, too
    dropout: tuple[float, ...] = ()  # dropout probability at each of those widths; () for none
    weight_init: str = "Normal"

    @classmethod
    def of(cls, config: RunConfig) -> Structure:
        return cls(
            layers=tuple(map(float, config.layer_structure)),
            activation=config.activation,
            layer_norm=config.layer_norm,
            activate_output=config.activate_output,
            dropout=tuple(map(float, config.dropout)) if any(config.dropout) else (),
            weight_init=config.weight_init,
        )

    def widths(self, width: int) -> list[int]:
        return [int(width * factor) for factor in self.layers]


class Part(nn.Module):
    """The network for contexts of one width before `to_k`, or before `to_v`. Parameters are float32."""

    def __init__(self, width: int, structure: Structure):
        super().__init__()
        widths, made = structure.widths(width), []
        for index, (inner, outer) in enumerate(pairwise(widths), 1):
            made.append(nn.Linear(inner, outer))
            activation = ACTIVATIONS[structure.activation]
            if activation and (index < len(widths) - 1 or structure.activate_output):
                made.append(activation())
            if structure.layer_norm:
                made.append(nn.LayerNorm(outer))
            if structure.dropout and structure.dropout[index]:
                made.append(nn.Dropout(structure.dropout[index]))
        self.linear = nn.Sequential(*made)

    def forward(self, context_bnd: Tensor, multiplier: float = 1.0) -> Tensor:
        """Modify a context (b, tokens, width), keeping its shape and dtype. Computed in float32, so that small changes
        are not lost."""
        exact_bnd = context_bnd.float()
        return (exact_bnd + self.linear(exact_bnd).float() * multiplier).to(context_bnd.dtype)


class Hypernetwork(nn.Module):
    """All networks of a hypernetwork. sizes: the context widths that it modifies."""

    def __init__(self, sizes: Iterable[int], structure: Structure):
        super().__init__()
        self.structure = structure
        self.parts = nn.ModuleDict(
            {str(size): nn.ModuleList(Part(size, structure) for _ in PROJECTIONS) for size in sizes}
        )

    @property
    def sizes(self) -> list[int]:
        return [int(size) for size in self.parts]

    def pair(self, size: int) -> Sequence[Part]:
        """Return the networks for contexts of a width, before `to_k` and before `to_v`."""
        return self.parts[str(size)]


def create(config: RunConfig, sizes: Iterable[int]) -> Hypernetwork:
    """Create a new hypernetwork. Its initial weights depend on the run's seed and on each network's place."""
    made = Hypernetwork(sizes, Structure.of(config))
    for size in made.sizes:
        for kind, part in zip(PROJECTIONS, made.pair(size), strict=True):
            initialise(part, config.weight_init, generator(config.seed, "hypernetwork", size, kind))
    return made


@torch.no_grad()
def initialise(part: Part, weight_init: str, randomness: torch.Generator) -> None:
    """Initialise as the WebUI does: biases 0, norm weights always near 0. Its Kaiming uses a plain ReLU's gain for a
    leaky ReLU.

    Glorot and Bengio 2010 (Xavier), equations 12 and 16; He et al. 2015 (Kaiming), arXiv 1502.01852, equation 10.
    """
    for layer in part.linear:
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            kind = "Normal" if isinstance(layer, nn.LayerNorm) else weight_init
            layer.weight.copy_(_starting(layer.weight.shape, kind, randomness))
            layer.bias.zero_()


def _starting(shape: torch.Size, kind: str, randomness: torch.Generator) -> Tensor:
    if kind == "Normal":
        return torch.randn(shape, generator=randomness) * 0.01
    out, inputs = shape
    variance = 2 / (inputs + out) if kind.startswith("Xavier") else 2 / inputs
    if kind.endswith("Normal"):
        return torch.randn(shape, generator=randomness) * math.sqrt(variance)
    return (torch.rand(shape, generator=randomness) * 2 - 1) * math.sqrt(3 * variance)


def attach(unet: nn.Module, network: Hypernetwork, multiplier: float = 1.0, switch: Switch | None = None) -> list[Any]:
    """Attach a hypernetwork to a UNet; several act one after the other. Returns handles whose `remove` detaches it.

    Dropout is active while the attention layer is in training mode. switch: turns the hypernetwork off.
    """
    handles = []
    for attention in attentions(unet):
        if attention.to_k.in_features in network.sizes:
            pair = network.pair(attention.to_k.in_features)
            for layer, part in zip((attention.to_k, attention.to_v), pair, strict=True):
                handles.append(layer.register_forward_pre_hook(_changing(part, multiplier, switch or Switch())))
    return handles


def attentions(unet: nn.Module) -> list[Attention]:
    return [module for module in unet.modules() if isinstance(module, Attention)]


def _changing(part: Part, multiplier: float, switch: Switch) -> Callable[[nn.Module, tuple], tuple]:
    def change(layer: nn.Module, inputs: tuple) -> tuple:
        if switch.is_off:
            return inputs
        if part.training != layer.training:
            part.train(layer.training)
        return (part(inputs[0], multiplier), *inputs[1:])

    return change


def contexts(base: LatentBase) -> dict[str, int]:
    """Return the context width of every attention layer of a base's UNet, by the layer's name."""
    shapes = shapes_of(base)["unet"]
    return {name.removesuffix(".to_k"): shape[1] for name, shape in shapes.items() if name.endswith(".to_k")}


def sizes_of(base: LatentBase) -> list[int]:
    """Return the widths that a hypernetwork for this base can have."""
    return sorted(set(contexts(base).values()))


def count(sizes: Iterable[int], structure: Structure) -> int:
    """Return the number of parameters."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Hypernetwork(sizes, structure).parameters())
