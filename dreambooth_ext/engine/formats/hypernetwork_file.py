"""Hypernetwork files (.pt): read and write the WebUI's format, also that of its own Train tab."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import replacing, sha256_of
from ..models.base_model import LatentBase
from ..models.detection import kind_of
from ..networks.hypernetwork import ACTIVATIONS, DEEPEST, WIDEST, Hypernetwork, Part, Structure
from ..tensors.lazy_tensor import is_finite
from ..tensors.torch_pickle import load_pickle, save_pickle
from .metadata import HASH_KEY
from .verified_write import PRECISIONS, Exported, not_finite, nothing_learned, require_space, same_bits, write_sidecars

OLD_NAMES = {"linear1": "linear.0", "linear2": "linear.1"}  # in the first files, which had two layers
OLD_DROPOUT = 0.3  # for files that only say that dropout is used
States = dict[int, tuple[dict[str, Tensor], dict[str, Tensor]]]  # by width: before `to_k`, before `to_v`


@dataclass(frozen=True)
class Content:
    """The content of a hypernetwork file. Tensors are memory-mapped."""

    structure: Structure
    states: States
    step: int  # steps that it has been trained

    def network(self) -> Hypernetwork:
        made = Hypernetwork(self.states, self.structure)
        for size, states in self.states.items():
            for part, state in zip(made.pair(size), states, strict=True):
                part.load_state_dict(state)
        return made

    @property
    def numbers(self) -> int:
        return sum(tensor.numel() for states in self.states.values() for state in states for tensor in state.values())


def read(path: Path, field: str) -> Content:
    """Read a hypernetwork file. Raises UserError if it is unreadable, not a hypernetwork, or inconsistent."""
    said = load_pickle(path, field=field)
    sizes = [key for key in said if type(key) is int] if isinstance(said, Mapping) else []
    if not sizes:
        if what := kind_of(said):
            raise UserError("hypernetwork.other_kind", field, file=path.name, kind=what)
        raise UserError("hypernetwork.not_one", field, file=path.name)
    try:
        structure = _structure(said)
        states = {size: _pair(said[size], size, structure) for size in sorted(sizes)}
        step = said.get("step")
    except ValueError as error:
        raise UserError("hypernetwork.unusable", field, file=path.name, reason=reason_of(error)) from error
    return Content(structure, states, step if type(step) is int and step >= 0 else 0)


def _structure(said: Mapping[Any, Any]) -> Structure:
    """Return the structure as the WebUI reads it, with its defaults. Raises ValueError."""
    layers = _numbers(said.get("layer_structure") or [1, 2, 1], "layer_structure")
    if not 2 <= len(layers) <= DEEPEST or layers[0] != 1 or layers[-1] != 1 or min(layers) <= 0:
        raise _bad("layer_structure", list(layers))
    activation = said.get("activation_func") or "linear"
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise _bad("activation_func", activation)
    dropout = said.get("dropout_structure")
    if dropout is None:
        dropout = _old_dropout(len(layers), said.get("use_dropout"), said.get("last_layer_dropout"))
    dropout = _numbers(dropout, "dropout_structure")
    if len(dropout) < len(layers) or not all(0 <= share < 1 for share in dropout):
        raise _bad("dropout_structure", list(dropout))
    return Structure(
        layers=layers,
        activation=activation,
        layer_norm=bool(said.get("is_layer_norm", False)),
        activate_output=bool(said.get("activate_output", True)),
        dropout=dropout[: len(layers)] if any(dropout) else (),
        weight_init=str(said.get("weight_initialization") or "Normal"),
    )


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    good = isinstance(value, list | tuple) and all(type(number) in (int, float) for number in value)
    if not good or not all(map(math.isfinite, value)):
        raise _bad(name, value)
    return tuple(map(float, value))


def _bad(name: str, value: Any) -> ValueError:
    return ValueError(Message("hypernetwork.bad_value", name=name, value=shown(value)))


def _old_dropout(count: int, used: Any, at_the_end: Any) -> list[float]:
    """Return the dropout of old files, which only say whether it is used, and whether also before the last layer."""
    if not used:
        return [0.0] * count
    return [0.0, *[OLD_DROPOUT] * (count - 3), OLD_DROPOUT if at_the_end else 0.0, 0.0]


def _pair(found: Any, size: int, structure: Structure) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the two state dicts of a width after checking them against the structure. Raises ValueError."""
    if not 0 < size <= WIDEST or not all(1 <= width <= WIDEST for width in structure.widths(size)):
        raise ValueError(Message("hypernetwork.bad_width", width=size))
    if not isinstance(found, list | tuple) or len(found) != 2 or not all(isinstance(state, Mapping) for state in found):
        raise ValueError(Message("hypernetwork.no_pair", width=size))
    with torch.device("meta"):
        wanted = {key: tensor.shape for key, tensor in Part(size, structure).state_dict().items()}
    first, second = (_state(state, wanted, size) for state in found)
    return first, second


def _state(found: Mapping[Any, Any], wanted: Mapping[str, torch.Size], size: int) -> dict[str, Tensor]:
    state = {_renamed(str(key)): tensor for key, tensor in found.items()}
    if state.keys() != wanted.keys():
        strange = sorted(state.keys() ^ wanted.keys())[0]
        raise ValueError(Message("hypernetwork.key_does_not_fit", key=shown(strange), width=size))
    for key, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.shape != wanted[key] or not tensor.is_floating_point():
            raise ValueError(Message("hypernetwork.key_does_not_fit", key=key, width=size))
        if not is_finite(tensor):
            raise ValueError(Message("hypernetwork.not_finite", key=key, width=size))
    return state


def _renamed(key: str) -> str:
    layer, dot, part = key.partition(".")
    return f"{OLD_NAMES.get(layer, layer)}{dot}{part}"


def content(
    network: Hypernetwork, dtype: torch.dtype, *, name: str, step: int, checkpoint: str, digest: str | None, info: str
) -> dict[Any, Any]:
    """Return the content of a file, under the WebUI's names. checkpoint, digest: the base's name and the first ten
    digits of its hash, as the WebUI shows them; info: any text."""
    structure = network.structure
    dropout = list(structure.dropout or [0.0] * len(structure.layers))
    said: dict[Any, Any] = {
        size: tuple(
            {key: tensor.detach().to("cpu", dtype) for key, tensor in part.state_dict().items()}
            for part in network.pair(size)
        )
        for size in network.sizes
    }
    return said | {
        "step": step,
        "name": name,
        "layer_structure": list(structure.layers),
        "activation_func": structure.activation,
        "is_layer_norm": structure.layer_norm,
        "weight_initialization": structure.weight_init,
        "sd_checkpoint": digest,
        "sd_checkpoint_name": checkpoint,
        "activate_output": structure.activate_output,
        "use_dropout": any(dropout),
        "dropout_structure": dropout,
        "last_layer_dropout": dropout[-2] != 0,
        "optional_info": info,
    }


def export_hypernetwork(
    base: LatentBase,
    network: Hypernetwork,
    start: Mapping[str, Tensor],
    path: Path,
    *,
    step: int,
    digest: str | None,
    precision: str,
    metadata: Mapping[str, str],
    activation_text: str = "",
    preview: Image.Image | None = None,
    zero_terminal_snr: bool = False,
) -> Exported:
    """Write a hypernetwork and its sidecars. start: its tensors before training; step: how many steps it has been
    trained; zero_terminal_snr: ignored, since such a file cannot store it.

    Raises UserError as `checkpoint_file.export_checkpoint` does.
    """
    dtype, now = PRECISIONS[precision], network.state_dict()
    for key, tensor in now.items():
        if not is_finite(tensor):
            raise not_finite(key)
    before = {key: tensor.to("cpu", dtype) for key, tensor in start.items()}
    if all(key in before and torch.equal(tensor.to("cpu", dtype), before[key]) for key, tensor in now.items()):
        raise nothing_learned(precision)
    info = json.dumps({key: value for key, value in metadata.items() if key != HASH_KEY}, ensure_ascii=False)
    said = content(network, dtype, name=path.stem, step=step, checkpoint=base.name, digest=digest, info=info)
    with replacing(path) as temporary:
        require_space(temporary, sum(tensor.numel() for tensor in now.values()) * dtype.itemsize, precision)
        save_pickle(said, temporary)
        _verify(said, temporary, precision)
        sidecars = write_sidecars(path, None, base.family.name, activation_text, preview)
        written = Exported(path, sha256_of(temporary), sidecars)
    return written


def _verify(said: Mapping[Any, Any], path: Path, precision: str) -> None:
    """Compare a file with what it should contain. path: a temporary one."""
    found = load_pickle(path, field="save_precision")
    same = found.keys() == said.keys() and all(
        found[key] == value for key, value in said.items() if not isinstance(value, tuple)
    )
    pairs = [
        (key, states[index][key], state[key])
        for size, states in said.items()
        if isinstance(states, tuple)
        for index, state in enumerate(found[size] if same else ())
        for key in states[index]
    ]
    if not same or not all(same_bits(one, other) for _, one, other in pairs):
        raise UserError("hypernetwork.reads_differently", "save_precision")
    for key, tensor, _ in pairs:
        if not is_finite(tensor):
            raise UserError("hypernetwork.overflow", "save_precision", key=key, precision=precision)
