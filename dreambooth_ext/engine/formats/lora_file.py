"""Read and write LoRA files: kohya's names for our own, and the names of other tools, matched to a model's modules."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ...core.config.parsing import shown
from ...core.config.run_config import RunConfig
from ...core.data.bundled_words import BUNDLE
from ...core.errors import UserError
from ...core.facts.lora_types import KOHYA, LORA_TYPES
from ...core.system.files import replacing
from ..conditioning.learned_tokens import Embedding
from ..models.architecture import per_level
from ..models.base_model import LatentBase
from ..models.families import Family
from ..networks import layer_adapters
from ..networks.layer_adapters import ALPHA, DORA
from ..networks.lora_network import TEXT_PARTS, Network
from ..tensors.lazy_tensor import is_finite
from ..tensors.tensor_file import TensorFile, open_tensors
from . import embedding_file
from .lora_keys import (
    MAGNITUDE,
    flat_name,
    known_names,
    other_file,
    refusal,
    single_file_names,
    split,
    strange_part,
)
from .peft_alpha import PeftAlpha
from .verified_write import PRECISIONS, Exported, not_finite, nothing_learned, write_sidecars, write_verified

PRECISE = (ALPHA, DORA)  # always in float32: rounding them would change the whole layer

Models = Mapping[str, nn.Module]  # "unet", "text_encoder", "text_encoder_2" of one model
Layers = Mapping[str, Sequence[str]]  # names of a model's layers, by component
Weights = Mapping[str, Mapping[str, tuple[int, ...]]]  # shapes of a model's weights, by component and layer
Names = dict[tuple[str, str], str]  # (component, layer) -> name in a file


def layers_of(models: Models) -> Layers:
    return {component: [name for name, _ in module.named_modules() if name] for component, module in models.items()}


def file_names(layers: Layers, unet: Mapping[str, Any], family: Family) -> Names:
    """Return the layers' names in the files that we write. unet: its diffusers configuration.

    SD1 and SD2 use kohya's names, which follow diffusers' modules; SDXL those of the single file, as all tools do. So
    do models of unusual sizes, since the WebUI (v1.10.1) numbers blocks on the assumption of two layers each.
    """
    single = single_file_names(unet)
    by_single_file = family.lora_by_single_file or not _counted_by_webui(unet)
    names = {}
    for layer in layers["unet"]:
        if not by_single_file or layer in single:
            names["unet", layer] = f"lora_unet_{flat_name(single[layer] if by_single_file else layer)}"
    for component, slot in zip(TEXT_PARTS, family.text.slots, strict=False):
        names |= {(component, layer): f"{slot.lora_prefix}_{flat_name(layer)}" for layer in layers[component]}
    return names


def _counted_by_webui(unet: Mapping[str, Any]) -> bool:
    depths = per_level(unet["layers_per_block"], len(unet["block_out_channels"]))
    first, *others = (name.startswith("CrossAttn") for name in unet["up_block_types"])
    return set(depths) == {2} and not first and all(others)


def shapes(path: Path, field: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a file's tensors by key, reading only its header."""
    with contextlib.closing(open_tensors(path, field=field)) as file:
        return {key: shape for key, (shape, _) in file.entries.items()}


def read(path: Path, models: Models, field: str) -> Network:
    """Read the adapters of a LoRA file for these models, in the order of their layers.

    Raises UserError if the file cannot be read, or not all of it fits the models.
    """
    weights = {component: dict(_weights(module)) for component, module in models.items()}
    network: Network = {}
    for component, layer, adapter in adapters_of(path, weights, models["unet"].config, field):
        has_bias = getattr(models[component].get_submodule(layer), "bias", None) is not None
        if adapter.bias_change() is not None and not has_bias:
            raise UserError("weights.no_bias", field, file=path.name, layer=layer)
        network.setdefault(component, {})[layer] = adapter
    return network


def _weights(module: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, layer in module.named_modules():
        if name and isinstance(getattr(layer, "weight", None), Tensor):
            yield name, tuple(layer.weight.shape)


def adapters_of(
    path: Path, weights: Weights, unet: Mapping[str, Any], field: str
) -> Iterator[tuple[str, str, layer_adapters.Adapter]]:
    """Yield component, layer and adapter one by one. unet: its diffusers configuration.

    Raises UserError as `read` does.
    """
    with contextlib.closing(open_tensors(path, field=field)) as file:
        places, alpha = _places(path, file, weights, unet, field), PeftAlpha(path, file.metadata, field)
        for component, layers in weights.items():
            for layer, shape in layers.items():
                if keys := places.get((component, layer)):
                    parts = {part: file[key] for part, key in keys.items()}
                    parts = alpha.added(component, layer, parts)
                    yield component, layer, _adapter(path, layer, shape, parts, field)


def _places(
    path: Path, file: TensorFile, weights: Weights, unet: Mapping[str, Any], field: str
) -> dict[tuple[str, str], dict[str, str]]:
    """Return the keys of each layer's parts. Bundled words are left out."""
    places: dict[tuple[str, str], dict[str, str]] = {}
    names, strange = known_names(weights, unet), []
    contents = {key: shape for key, (shape, _) in file.entries.items()}
    if other_file(contents):
        raise refusal(path, field, list(contents), contents)
    for key in file:
        if key.startswith(BUNDLE):
            continue
        name, part = split(key)
        if name not in names or not part:
            name, part = strange_part(key, names)
        if not part:
            strange.append(key)
        elif part in places.setdefault(names[name], {}):
            known = {"file": path.name, "key": shown(key), "other": shown(places[names[name]][part])}
            raise UserError("weights.part_twice", field, **known)
        else:
            places[names[name]][part] = key
    if strange or not places:
        raise refusal(path, field, strange or list(contents), contents)
    return places


def _adapter(
    path: Path, layer: str, shape: tuple[int, ...], parts: dict[str, Tensor], field: str
) -> layer_adapters.Adapter:
    if not all(map(is_finite, parts.values())):
        raise UserError("weights.not_finite", field, file=path.name, layer=layer)
    exact = [tensor for part, tensor in parts.items() if part in layer_adapters.PARTS and part != ALPHA]
    if not all(tensor.is_floating_point() for tensor in exact):
        raise UserError("weights.whole_numbers", field, file=path.name, layer=layer)
    parts = {part: tensor.float() for part, tensor in parts.items()}
    if MAGNITUDE in parts and DORA not in parts:
        size = parts.pop(MAGNITUDE)
        parts[DORA] = size.reshape(-1, *[1] * (len(shape) - 1))
    adapter = layer_adapters.from_parts(parts) if all(tensor.numel() for tensor in parts.values()) else None
    if adapter is None:
        what = ", ".join(sorted(set(parts) - layer_adapters.PARTS) or sorted(parts))
        types = [facts.title for facts in LORA_TYPES.values()]
        known = {"file": path.name, "layer": layer, "parts": shown(what), "types": types}
        raise UserError("weights.unknown_type", field, **known)
    if not layer_adapters.fits(adapter, shape):
        raise UserError("weights.other_sizes", field, file=path.name, layer=layer)
    return adapter


def state(network: Network, names: Names, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the tensors of a LoRA file, on the CPU."""
    found = {}
    for component, layer, part, tensor in _tensors(network):
        kept = torch.float32 if part in PRECISE else dtype
        found[f"{names[component, layer]}.{part}"] = tensor.to("cpu", kept).contiguous()
    return found


def _tensors(network: Network) -> Iterator[tuple[str, str, str, Tensor]]:
    for component, made in network.items():
        for layer, adapter in made.items():
            for part, tensor in adapter.tensors().items():
                yield component, layer, part, tensor


def metadata(config: RunConfig) -> dict[str, str]:
    """Return the metadata that kohya's tools and the WebUI's cards show for a network."""
    if config.network_weights:
        return {
            "ss_network_module": KOHYA,
            "ss_network_args": json.dumps({"network_weights": Path(config.network_weights).name}),
        }
    assert config.rank is not None, "a new LoRA has a rank"
    conv_rank = config.conv_rank or config.rank
    arguments: dict[str, Any] = {
        "algo": config.network_type,
        "conv_dim": conv_rank,
        "dropout": config.network_dropout,
    }
    if config.alpha is not None:
        arguments["conv_alpha"] = config.alpha * conv_rank / config.rank
    found = {
        "ss_network_module": LORA_TYPES[config.network_type].module,
        "ss_network_dim": config.rank,
        "ss_network_alpha": config.alpha,
        "ss_network_dropout": config.network_dropout,
        "ss_network_args": json.dumps({key: str(value) for key, value in arguments.items()}),
    }
    return {key: str(value) for key, value in found.items()}


def export_network(
    base: LatentBase,
    network: Network,
    names: Names,
    path: Path,
    *,
    precision: str,
    metadata: Mapping[str, str],
    activation_text: str = "",
    preview: Image.Image | None = None,
    zero_terminal_snr: bool = False,
    words: Sequence[Embedding] = (),
) -> Exported:
    """Write a LoRA file and its sidecars. zero_terminal_snr: ignored, since such a file cannot store it. words: bundled
    with it.

    Raises UserError as `export_checkpoint` does.
    """
    dtype = PRECISIONS[precision]
    tensors = state(network, names, dtype) | embedding_file.bundle(words, dtype)
    exact = state(network, names, torch.float32) | embedding_file.bundle(words, torch.float32)
    for key, tensor in exact.items():
        if not is_finite(tensor):
            raise not_finite(key)
    if not any(adapter.learned(dtype) for made in network.values() for adapter in made.values()):
        raise nothing_learned(precision)
    with replacing(path) as temporary:
        digest = write_verified(tensors, temporary, metadata, precision)
        sidecars = write_sidecars(path, None, base.family.name, activation_text, preview)
    return Exported(path, digest, sidecars)
