"""A graphics card that is only counted: PyTorch's fake tensors have sizes and no numbers, so that full-size models go
through the engine's own code in no memory, on any machine, in a minute or two.

Not in it: scratch memory of convolutions and matrix products, and gaps between tensors.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreambooth_ext.engine.conditioning.learned_tokens import Embeddings
from dreambooth_ext.engine.models.architecture import shipped
from dreambooth_ext.engine.models.base_model import LatentBase
from dreambooth_ext.engine.models.key_maps import folded_shape, ties
from dreambooth_ext.engine.models.single_file import TOKENIZER
from dreambooth_ext.engine.optimization import optimizer_creation
from dreambooth_ext.engine.sampling import painter
from dreambooth_ext.engine.tensors.empty_weights import empty_weights
from dreambooth_ext.engine.training import latent_backbone, pixel_backbone


class Alive(TorchDispatchMode):
    """Bytes of all tensors that are made inside and not gone yet, `now` and at the `peak`; those `known` are free."""

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()
        self.now = self.peak = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                self._take(tensor.untyped_storage())
        return made

    def _take(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak = self.now


class Numbers(TorchFunctionMode):
    """What is asked of fake tensors' numbers has an answer: each is 1, all are finite, and none is anything special."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name == "tolist":
            return args[0].numel() * [1.0] if args[0].dim() else 1.0
        if name in ("numpy", "__array__"):
            return np.ones(tuple(args[0].shape), str(args[0].dtype).removeprefix("torch."))
        if name in ("item", "__float__", "__int__"):
            return 1.0 if args[0].is_floating_point() else 0
        if name == "__bool__":
            return not hasattr(args[0], "is_of_any")
        if name == "equal":
            return False
        made = function(*args, **(kwargs or {}))
        if name == "any":
            made.is_of_any = True
        return made


@contextlib.contextmanager
def card_rules() -> Iterator[None]:
    """autocast as on a card, where the norms compute in float32; on the CPU they stay in 16 bits."""

    def forward(original: Any) -> Any:
        def in_float32(layer: nn.Module, inputs: Tensor) -> Tensor:
            if not torch.is_autocast_enabled("cpu"):
                return original(layer, inputs)
            with torch.autocast("cpu", enabled=False):
                return original(layer, inputs.float())

        return in_float32

    with contextlib.ExitStack() as patches:
        for kind in (nn.GroupNorm, nn.LayerNorm):
            patches.enter_context(mock.patch.object(kind, "forward", forward(kind.forward)))
        yield


def applied(module: nn.Module, function: Any, recurse: bool = True) -> nn.Module:
    """In place of `nn.Module._apply`: fake parameters cannot be converted in place, so that new ones take theirs."""
    for child in module.children() if recurse else ():
        applied(child, function)
    for name, parameter in module.named_parameters(recurse=False):
        with torch.no_grad():
            converted = function(parameter)
        if converted.dtype != parameter.dtype:
            setattr(module, name, nn.Parameter(converted, parameter.requires_grad))
    for name, buffer in module.named_buffers(recurse=False):
        setattr(module, name, function(buffer))
    return module


@contextlib.contextmanager
def fake_card() -> Iterator[Alive]:
    """Tensors made inside are fake, and counted."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        stack.enter_context(card_rules())
        stack.enter_context(Numbers())
        stack.enter_context(mock.patch.object(optimizer_creation, "missing_optimizer", lambda name, device: None))
        for module in (painter, latent_backbone):
            stack.enter_context(mock.patch.object(module, "make_sampler", OneStep))
        stack.enter_context(mock.patch.object(pixel_backbone, "DDPMScheduler", SimpleNamespace(from_config=OneStep)))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", applied))
        stack.enter_context(mock.patch.object(Embeddings, "_may_have", lambda known, is_slot_bs: bool(known.words)))
        stack.enter_context(mock.patch.object(LatentBase, "_require_finite", lambda *given: None))
        yield stack.enter_context(Alive())


class OneStep:
    """In place of a sampler, which asks for numbers: one step."""

    init_noise_sigma = 1.0

    def __init__(self, *given: Any) -> None:
        self.timesteps = torch.zeros(1, dtype=torch.long)

    def set_timesteps(self, steps: int, device: Any = None) -> None:
        """There is one."""

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        return sample

    def step(self, output: Tensor, timestep: Tensor, sample: Tensor, **given: Any) -> SimpleNamespace:
        return SimpleNamespace(prev_sample=sample - output)


class Sizes:
    """A base's file of which there are only the sizes, in fp16 as they are downloaded."""

    name, field, path = "full-size", "base_model", Path("full-size.safetensors")
    prediction_type: str | None = "epsilon"
    sidecar_yaml: str | None = None
    clip_folder: Path | None = None

    def __init__(self, family: str):
        self.architecture = shipped(family)
        self.metadata: dict[str, str] = {}

    def read(self, component: str) -> Iterator[tuple[str, Tensor]]:
        for key, shape in shapes(self.architecture.family.name, component).items():
            yield key, torch.empty(shape, dtype=torch.float16)

    def count(self, component: str) -> int:
        return sum(shape.numel() for shape in shapes(self.architecture.family.name, component).values())

    def ldm(self, component: str) -> dict[str, Any]:
        known = shapes(self.architecture.family.name, component)
        return {
            tie.ldm: SimpleNamespace(shape=folded_shape(tie, known[tie.diffusers[0]]))
            for tie in ties(self.architecture)[component]
        }

    def extras(self) -> dict[str, Any]:
        return {}

    def tokenizer_folder(self, index: int) -> Path:
        return TOKENIZER

    def paths(self) -> dict[str, Path]:
        return {}

    def close(self) -> None:
        """Nothing is open."""


@functools.cache
def shapes(family: str, component: str) -> dict[str, torch.Size]:
    """Return the sizes of a part's tensors by their names in diffusers."""
    base = LatentBase.__new__(LatentBase)
    base.architecture, base._chosen_prediction = shipped(family), "epsilon"
    with empty_weights(buffers=False):
        module = base._maker(component)()
    return {key: tensor.shape for key, tensor in module.state_dict().items()}


def full_size(family: str) -> LatentBase:
    """Return a base of full size, of which there are only the sizes."""
    return LatentBase(Sizes(family))
