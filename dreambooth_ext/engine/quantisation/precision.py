"""In what precision a model's weights are held, tensor by tensor as they are read from its file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .frozen_layers import pack
from .packings import HALF, PACKINGS, Packing

BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")  # of a UNet; around them are its first and last layers
COMPUTED = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}  # by the setting mixed_precision
TOKENS = "token_embedding"  # of a text encoder: a vector for each token
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Precision:
    """norms: of norms, embeddings and all else that is no layer's. layers: of linear layers and convolutions. packing:
    of the weights of those within a UNet's blocks; `layers` is then what they are unpacked to. reads: a text encoder
    only encodes; all its layers are packed, and the vectors of its tokens have 16 bits."""

    norms: torch.dtype
    layers: torch.dtype
    packing: Packing | None = None
    device: torch.device = CPU  # that holds and packs them
    reads: bool = False

    @staticmethod
    def of(given: torch.dtype | Precision) -> Precision:
        return given if isinstance(given, Precision) else Precision(given, given)


def of_frozen(mixed_precision: str, frozen_precision: str, device: torch.device) -> Precision:
    """Return the precision of a frozen part, by the settings of these names: norms compute in float32."""
    return Precision(torch.float32, COMPUTED[mixed_precision], PACKINGS.get(frozen_precision), device)


def of_reading(device: torch.device) -> Precision:
    """Return the precision of text encoders that learn nothing: float16 to hold their weights, float32 to compute. For
    a file in fp16 the conditioning is that of encoders in float32, to the bit."""
    return Precision(torch.float32, torch.float32, HALF, device, reads=True)


def is_packed(layer: str) -> bool:
    """Whether a UNet's linear layer or convolution of this name can be packed: not its first and last ones, nor those
    of the timestep and the size, which are small and reach everything."""
    return layer.startswith(BLOCKS)


def frozen_bytes(mixed_precision: str, frozen_precision: str, shapes: Mapping[str, Sequence[int]], rest: int) -> int:
    """Return the bytes of a frozen UNet. shapes: of the weights of its linear layers and convolutions, by layer; rest:
    the number of its other parameters (counted with the layers; in truth its norms have 4 bytes)."""
    packing, usual = PACKINGS.get(frozen_precision), COMPUTED[mixed_precision].itemsize
    total = float(usual * rest)
    for layer, shape in shapes.items():
        count = math.prod(shape)
        total += count * packing.size + 4 * shape[0] if packing and is_packed(layer) else count * usual
    return int(total)


@dataclass
class Intake:
    """Takes the tensors of a file, one by one, for a module whose own are on the meta device."""

    module: nn.Module
    precision: Precision
    state: dict[str, Tensor] = field(default_factory=dict)  # for `load_state_dict`; of packed weights only shapes
    _packed: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # by layer

    def __post_init__(self) -> None:
        modules = self.module.named_modules()
        self._layers = {name: module for name, module in modules if isinstance(module, nn.Linear | nn.Conv2d)}

    def take(self, key: str, tensor: Tensor) -> None:
        """Hold a tensor in its precision. It is copied, since a file's share the memory of its mapping."""
        precision, (layer, _, name) = self.precision, key.rpartition(".")
        packs = precision.reads or is_packed(layer)
        if precision.packing and name == "weight" and layer in self._layers and packs:
            self._packed[layer] = precision.packing.pack(tensor.to(precision.device).float())
            self.state[key] = torch.empty_like(tensor, device="meta")
        else:
            dtype = precision.layers if layer in self._layers else precision.norms
            if precision.reads and layer.endswith(TOKENS):
                dtype = torch.float16  # the sum with those of places, in float32, has 32 bits again
            self.state[key] = tensor.to(precision.device).to(dtype, copy=precision.device == CPU)

    def put_packed(self) -> None:
        """Put the packed weights into their layers, once all else is loaded."""
        for name, (values, scales) in self._packed.items():
            assert self.precision.packing
            pack(self._layers[name], self.precision.packing, values, scales, self.precision.layers)
