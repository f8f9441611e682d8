"""Sharded models: torch's fully_shard (FSDP2; Zhao et al. 2023, arXiv:2304.11277), by which each process holds a part
of every weight, of its gradient and of its optimizer state.

A unit is what is gathered together: a block computes right after it was gathered, and is let go of again, while the
next one is on its way. In the backward pass that happens once more, and each unit's gradients are averaged into the
parts. What lies outside the blocks is the model's own unit.

A weight is divided along its first dimension. Between passes, a process's part of it is a plain tensor (`Shards.own`),
which the optimizer, the moving average and clipping work on: they see what they always see, only less of it. That is
right for optimizers that step each number by itself, and `sharding_checks` refuses the others.

Weights stay in their precision: autocast around the models makes 16 bits of what was gathered. The policy of
fully_shard would gather 16 bits, half as much, but also compute in them what autocast leaves in 32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..tensors.empty_weights import empty_weights

# The classes of diffusers' and transformers' blocks that are units; of nested ones the outer one. transformers' last
# norm is called on its own, too (`TextStack`), and so has to be gathered on its own.
UNITS = frozenset(
    {"ResnetBlock2D", "BasicTransformerBlock", "Attention", "Downsample2D", "Upsample2D", "CLIPEncoderLayer"}
)
CALLED_ALONE = "final_layer_norm"


def units_of(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield a model's units by name, in the order in which they are declared."""
    for own, child in module.named_children():
        if type(child).__name__ in UNITS or own == CALLED_ALONE:
            yield f"{name}{own}", child
        else:
            yield from units_of(child, f"{name}{own}.")


class Shards:
    """A module of which every process of the run holds a part. All of them create it together.

    Weights on the meta device are allocated as parts, for `put`; others are moved to the device unit by unit. Whether
    they learn must be settled.
    """

    def __init__(self, module: nn.Module, device: torch.device):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self.module, self.device = module, device
        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self._mesh = init_device_mesh(device.type, (self.world,))
        for part in [*(unit for _, unit in units_of(module)), module]:
            fully_shard(part, mesh=self._mesh, reshard_after_forward=True)
        if any(parameter.is_meta for parameter in module.parameters()):
            module.to_empty(device=device)
        self._sharded: dict[str, Any] = dict(module.named_parameters())  # torch's DTensors
        self._own: dict[str, nn.Parameter] = {}
        with torch.no_grad():
            for name, sharded in self._sharded.items():
                self._own[name] = nn.Parameter(sharded.to_local(), requires_grad=sharded.requires_grad)
        vars(module)["_shards"] = self

    def own(self) -> list[nn.Parameter]:
        """Return this process's parts, in the order of the module's parameters. They share the module's memory, and
        are the same objects each time."""
        return list(self._own.values())

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Give the parts the gradients that the backward passes since the last call have added up."""
        for name, sharded in self._sharded.items():
            own, held = self._own[name], sharded.to_local()
            if own.data_ptr() != held.data_ptr():  # torch before 2.8 moves parts of unequal length in the first pass
                own.data = held
            own.grad = None if sharded.grad is None else sharded.grad.to_local()
            sharded.grad = None

    def part_of(self, whole: Tensor) -> Tensor:
        """Return this process's part of a whole tensor: a view."""
        parts = whole.chunk(self.world)
        return parts[self.rank] if self.rank < len(parts) else whole[:0]

    @torch.no_grad()
    def put(self, name: str, whole: Tensor) -> None:
        """Set this process's part of a parameter. What is unknown or of another shape is left out: the base says so."""
        sharded = self._sharded.get(name)
        if sharded is not None and sharded.shape == whole.shape:
            sharded.to_local().copy_(self.part_of(whole))

    @torch.no_grad()
    def whole(self, part: Tensor, name: str) -> Tensor:
        """Return the whole of a tensor that is divided as the parameter of this name is: a copy on the module's device.
        All processes call it together. part: this process's, anywhere."""
        from torch.distributed.tensor import DTensor, Shard

        about = self._sharded[name]
        given = part.detach().to(self.device)
        divided = DTensor.from_local(
            given, self._mesh, [Shard(0)], run_check=False, shape=about.shape, stride=about.stride()
        )
        return divided.full_tensor()

    def wholes(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each parameter's name and the `whole` of it, the same in all processes."""
        for name, part in self._own.items():
            yield name, self.whole(part, name)

    def names(self) -> dict[int, str]:
        """Return the names of the parts, by id, in the order of the module's parameters."""
        return {id(own): name for name, own in self._own.items()}

    def shape_of(self, name: str, is_part: bool) -> torch.Size:
        """Return the shape of a parameter, or of this process's part of it."""
        return self._own[name].shape if is_part else self._sharded[name].shape


def shards_of(module: nn.Module) -> Shards | None:
    """Return a module's shards; None if this process holds all of it."""
    return vars(module).get("_shards")


def own(module: nn.Module) -> list[nn.Parameter]:
    """Return what this process trains of a module: its parameters, or its parts of them."""
    shards = shards_of(module)
    return shards.own() if shards else list(module.parameters())


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state dict. Of a sharded one all processes call it together: it is gathered tensor by tensor on
    the first one's CPU, and the others get nothing."""
    shards = shards_of(module)
    if not shards:
        return module.state_dict()
    return {name: tensor.cpu() for name, tensor in shards.wholes() if shards.rank == 0}


def load_whole(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a state dict. Each process takes its part of it."""
    shards = shards_of(module)
    if not shards:
        module.load_state_dict(dict(weights))
        return
    assert set(shards.names().values()) == weights.keys(), "a training state has all of it"
    for name, tensor in weights.items():
        shards.put(name, tensor)


def plain(module: nn.Module) -> nn.Module:
    """Return a sharded module of transformers as one that each process holds all of, on its device. All processes call
    it together."""
    from torch.distributed.fsdp import FSDPModule

    shards, kinds = shards_of(module), type(module).__mro__
    assert shards
    kind: Any = next(kind for kind in kinds if not issubclass(kind, FSDPModule))
    with empty_weights(buffers=False):
        made = kind(module.config)
    made.load_state_dict(dict(shards.wholes()), assign=True)
    return made.to(shards.device)
