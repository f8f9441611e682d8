"""LoRA files: kohya's names of layers <-> the modules of a model, for files of our own and of other tools."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import RunConfig
from ..errors import UserError
from . import adapters
from .adapters import ALPHA, DORA
from .architecture import per_level
from .convert import UNET_PREFIX, unet_ties
from .network import TEXT_PARTS, Network
from .tensorfile import open_tensors

# what other tools call the parts
ALIASES = {
    "lora_A.weight": "lora_down.weight",
    "lora_B.weight": "lora_up.weight",
    "lora.down.weight": "lora_down.weight",
    "lora.up.weight": "lora_up.weight",
}
PRECISE = (ALPHA, DORA)  # always in float32: rounded, they would change the whole layer
KOHYA, LYCORIS = "networks.lora", "lycoris.kohya"  # the tools whose files these are, `ss_network_module`
MODULES = {"lora": KOHYA, "locon": KOHYA, "dora": LYCORIS, "loha": LYCORIS, "lokr": LYCORIS, "oft": LYCORIS}

Models = Mapping[str, nn.Module]  # "unet", "text_encoder", "text_encoder_2" of one model
Layers = Mapping[str, Sequence[str]]  # names of its layers, by component
Names = dict[tuple[str, str], str]  # (component, layer) -> name in a file


def layers_of(models: Models) -> Layers:
    return {component: [name for name, _ in module.named_modules() if name] for component, module in models.items()}


def file_names(layers: Layers, unet: Mapping[str, Any]) -> Names:
    """The layers' names in the files that we write. unet: its configuration, as diffusers has it.

    SD1 and SD2 as kohya names them, after diffusers' modules; SDXL after the single file's, as everybody does. So are
    models of unusual sizes: v1.10.1 counts blocks on the assumption that there are two layers in each.
    """
    single = single_file_names(unet)
    is_sdxl = len(layers) > 2
    by_single_file = is_sdxl or not _counted_by_webui(unet)
    names = {}
    for layer in layers["unet"]:
        if not by_single_file or layer in single:
            names["unet", layer] = f"lora_unet_{flat_name(single[layer] if by_single_file else layer)}"
    for component, prefix in zip(TEXT_PARTS, ("lora_te1", "lora_te2") if is_sdxl else ("lora_te",), strict=False):
        names |= {(component, layer): f"{prefix}_{flat_name(layer)}" for layer in layers[component]}
    return names


def _counted_by_webui(unet: Mapping[str, Any]) -> bool:
    depths = per_level(unet["layers_per_block"], len(unet["block_out_channels"]))
    first, *others = (name.startswith("CrossAttn") for name in unet["up_block_types"])
    return set(depths) == {2} and not first and all(others)


def single_file_names(unet: Mapping[str, Any]) -> dict[str, str]:
    """Layer of diffusers' UNet -> its name in a single file."""
    found = {}
    for tie in unet_ties(unet):
        if tie.ldm.endswith(".weight"):
            found[tie.diffusers[0].removesuffix(".weight")] = tie.ldm.removeprefix(UNET_PREFIX).removesuffix(".weight")
    return found


def flat_name(name: str) -> str:
    return name.replace(".", "_")


def known_names(layers: Layers, unet: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Every name under which files have a layer -> (component, layer)."""
    single, found = single_file_names(unet), {}
    starts = {
        "unet": ("lora_unet", "oft_unet", "unet"),
        "text_encoder": ("lora_te", "lora_te1", "text_encoder"),
        "text_encoder_2": ("lora_te2", "text_encoder_2"),
    }
    for component, names in layers.items():
        for layer in names:
            for name in {layer, single.get(layer, layer) if component == "unet" else layer}:
                found |= {f"{start}_{flat_name(name)}": (component, layer) for start in starts[component]}
    return found


def shapes(path: Path, field: str) -> dict[str, tuple[int, ...]]:
    """A file's tensors by their keys there; only its table of contents is read."""
    with contextlib.closing(open_tensors(path, field=field)) as file:
        return {key: shape for key, (shape, _) in file.entries.items()}


def components(path: Path, layers: Layers, unet: Mapping[str, Any], field: str) -> set[str]:
    """The parts of a model that a LoRA file changes. Raises UserError where it changes nothing, or cannot be read."""
    names = known_names(layers, unet)
    keys = (flat_name(_split(key)[0]) for key in shapes(path, field))
    found = {names[key][0] for key in keys if key in names}
    if not found:
        raise _stranger(path, field)
    return found


def _stranger(path: Path, field: str) -> UserError:
    remedy = "Choose a LoRA that was made for this kind of model."
    return UserError(field, f"{path.name} changes nothing in this model: no layer has its names.", remedy)


def read(path: Path, models: Models, field: str) -> tuple[Network, list[str]]:
    """The adapters of a LoRA file for these models, in the order of their layers; and the names of layers that the
    models do not have.

    Raises UserError where the file cannot be read, is made for another kind of model, or does not fit.
    """
    file = open_tensors(path, field=field)
    names, strangers = known_names(layers_of(models), models["unet"].config), []
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key in file:
        name, part = _split(key)
        if flat_name(name) in names and part:
            parts.setdefault(names[flat_name(name)], {})[part] = file[key]
        else:
            strangers.append(name)
    if not parts:
        raise _stranger(path, field)
    network: Network = {}
    for component, module in models.items():
        layers = {layer: parts[component, layer] for layer, _ in module.named_modules() if (component, layer) in parts}
        if layers:
            network[component] = {
                name: _adapter(path, module.get_submodule(name), name, p, field) for name, p in layers.items()
            }
    file.close()
    return network, list(dict.fromkeys(strangers))


def _split(key: str) -> tuple[str, str]:
    """A key's layer, and its part as we call it; "" for a part that is not known."""
    ends = {**ALIASES, **{part: part for part in adapters.PARTS}}
    end = max((end for end in ends if key.endswith(f".{end}")), key=len, default="")
    if end:
        return key.removesuffix(f".{end}"), ends[end]
    # a layer of ours with a part of another type: it is told apart from a layer that is not there
    return (key.partition(".")[0], key) if key.startswith(("lora_", "oft_")) else (key, "")


def _adapter(path: Path, layer: nn.Module, name: str, parts: dict[str, Tensor], field: str) -> adapters.Adapter:
    unknown = sorted(key.partition(".")[2] for key in set(parts) - adapters.PARTS)
    adapter = adapters.from_parts(parts)
    if unknown or adapter is None:
        what = ", ".join(unknown or sorted(parts))
        message = f"{path.name} is of a type that is not known here: its layer {name} has the parts {what}."
        raise UserError(field, message, "Known are LoRA, LoCon, LoHa, LoKr, DoRA, OFT and full differences.")
    weight = layer.weight
    try:
        with torch.no_grad():
            fits = adapter.to(weight.device).delta(weight.float()).numel() == weight.numel()
    except RuntimeError:  # shapes that cannot be multiplied
        fits = False
    if not fits:
        message = f"{path.name} does not fit this model: the sizes of its layer {name} are others."
        raise UserError(field, message, "Choose a LoRA that was made for this kind of model.")
    if not all(tensor.isfinite().all() for tensor in parts.values()):
        raise UserError(field, f"{path.name} holds invalid numbers, in {name}.", "Choose another file.")
    return adapter.to("cpu")


def state(network: Network, names: Names, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a LoRA file, on the CPU."""
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
    """What kohya's tools and the WebUI's cards say about a network."""
    if config.network_weights:
        return {
            "ss_network_module": KOHYA,
            "ss_network_args": json.dumps({"network_weights": Path(config.network_weights).name}),
        }
    arguments = {
        "algo": config.network_type,
        "conv_dim": config.conv_rank or config.rank,
        "dropout": config.network_dropout,
    }
    if config.alpha is not None:
        arguments["conv_alpha"] = config.alpha * arguments["conv_dim"] / config.rank
    found = {
        "ss_network_module": MODULES[config.network_type],
        "ss_network_dim": config.rank,
        "ss_network_alpha": config.alpha,
        "ss_network_dropout": config.network_dropout,
        "ss_network_args": json.dumps({key: str(value) for key, value in arguments.items()}),
    }
    return {key: str(value) for key, value in found.items()}
