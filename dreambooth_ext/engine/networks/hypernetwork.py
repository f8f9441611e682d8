"""A hypernetwork: small networks that change what an attention's keys and values are made of.

For each width of context that attentions see there are two, one before `to_k` and one before `to_v`. What enters
becomes x + linear(x) * multiplier, as in the WebUI (v1.10.1: modules/hypernetworks/hypernetwork.py, HypernetworkModule
and apply_single_hypernetwork). The context is the text in cross-attention, the features themselves in self-attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from ...core.config.run_config import RunConfig
from ..models.base_model import LatentBase
from ..runtime.seeds import generator
from .lora_network import shapes_of

# The WebUI's names, which are PyTorch's but for two. Softmax and its kin get no axis there; PyTorch then takes the
# first one of three, so that they go over the pictures of a batch.
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
WIDEST, DEEPEST = 2**20, 100  # a layer, and how many widths there may be: far above any, and far below what files claim
PROJECTIONS = ("k", "v")  # the two of a width, in the order of the files


@dataclass(frozen=True)
class Structure:
    """What all networks of a file have in common."""

    layers: tuple[float, ...] = (1.0, 2.0, 1.0)  # widths, as multiples of the context's
    activation: str = "linear"  # between the layers
    layer_norm: bool = False  # after each layer
    activate_output: bool = False  # an activation after the last layer, too
    dropout: tuple[float, ...] = ()  # share that is dropped at each of those widths; () is none
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
    """What is done to contexts of one width before `to_k`, or before `to_v`. Parameters are float32."""

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
        """(b, tokens, width) to the same, in the same precision; added up in float32, where small changes last."""
        exact_bnd = context_bnd.float()
        return (exact_bnd + self.linear(exact_bnd).float() * multiplier).to(context_bnd.dtype)


class Hypernetwork(nn.Module):
    """`sizes`: the widths of contexts that it changes."""

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
        """The networks for contexts of a width, before `to_k` and before `to_v`."""
        return self.parts[str(size)]


def create(config: RunConfig, sizes: Iterable[int]) -> Hypernetwork:
    """A new one; its random numbers follow from the run's seed and their place."""
    made = Hypernetwork(sizes, Structure.of(config))
    for size in made.sizes:
        for kind, part in zip(PROJECTIONS, made.pair(size), strict=True):
            initialise(part, config.weight_init, generator(config.seed, "hypernetwork", size, kind))
    return made


@torch.no_grad()
def initialise(part: Part, weight_init: str, randomness: torch.Generator) -> None:
    """As the WebUI begins: biases at 0, norms' weights always near 0. Its Kaiming counts a leaky ReLU as a plain one.

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


def attach(unet: nn.Module, network: Hypernetwork, multiplier: float = 1.0) -> list[Any]:
    """Let a hypernetwork take part in a UNet; several act one after the other. Returns handles, whose `remove` ends it.

    It drops out where the attention is in training mode.
    """
    handles = []
    for attention in attentions(unet):
        if attention.to_k.in_features in network.sizes:
            pair = network.pair(attention.to_k.in_features)
            for layer, part in zip((attention.to_k, attention.to_v), pair, strict=True):
                handles.append(layer.register_forward_pre_hook(_changing(part, multiplier)))
    return handles


def attentions(unet: nn.Module) -> list[Attention]:
    return [module for module in unet.modules() if isinstance(module, Attention)]


def _changing(part: Part, multiplier: float) -> Callable[[nn.Module, tuple], tuple]:
    def change(layer: nn.Module, inputs: tuple) -> tuple:
        if part.training != layer.training:
            part.train(layer.training)
        return (part(inputs[0], multiplier), *inputs[1:])

    return change


def contexts(base: LatentBase) -> dict[str, int]:
    """The width of context of every attention of a base's UNet, by the attention's name."""
    shapes = shapes_of(base)["unet"]
    return {name.removesuffix(".to_k"): shape[1] for name, shape in shapes.items() if name.endswith(".to_k")}


def sizes_of(base: LatentBase) -> list[int]:
    """The widths that a hypernetwork for this base can have."""
    return sorted(set(contexts(base).values()))


def count(sizes: Iterable[int], structure: Structure) -> int:
    """Numbers in it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Hypernetwork(sizes, structure).parameters())
