"""All adapters of a model: which layers get one, how they attach to the model, and their tensors by layer.

Layers are named as diffusers and transformers name their modules: {"unet": {"down_blocks.0.attentions.0...": adapter}}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.config.run_config import RunConfig
from ..models.base_model import LatentBase
from ..models.key_maps import ties
from ..runtime.seeds import generator
from . import layer_adapters
from .layer_adapters import Adapter
from .switch import Switch

TEXT_PARTS = ("text_encoder", "text_encoder_2")  # as diffusers names the folders; also the optimizer's groups
Network = dict[str, dict[str, Adapter]]  # by component and layer

# the choices of `target_modules` -> the ends of the names of their layers
TARGETS = {
    "attention": r"attn[12]\.to_(q|k|v|out\.0)|attentions\.\d+\.proj_(in|out)|self_attn\.(q|k|v|out)_proj",
    "feed_forward": r"ff\.net\.(0\.proj|2)|mlp\.fc[12]",
    "convolutions": r"resnets\.\d+\.(conv[12]|conv_shortcut|time_emb_proj)|(down|up)samplers\.\d+\.conv",
}
_LAYERS = {word: re.compile(rf"(.*\.)?({pattern})") for word, pattern in TARGETS.items()}


def target_ranks(config: RunConfig, component: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the layers of a component that get an adapter, with their ranks. shapes: of the weights, by layer."""
    chosen = {}
    for layer, shape in shapes.items():
        if any(_LAYERS[word].fullmatch(layer) for word in config.target_modules):
            rank = rank_of(config, component, layer, shape)
            if rank:
                chosen[layer] = rank
    return chosen


def rank_of(config: RunConfig, component: str, layer: str, shape: tuple[int, ...]) -> int:
    """Return a layer's rank: that of the longest matching name in `block_ranks`, else by the kind of layer."""
    named = [name for name in config.block_ranks if begins(component, layer, name)]
    if named:
        return config.block_ranks[max(named, key=lambda name: len(full_name(name)))]
    assert config.rank is not None, "a new LoRA has a rank"
    if component in TEXT_PARTS:
        return config.text_encoder_rank or config.rank
    return (config.conv_rank or config.rank) if is_wide(shape) else config.rank


def is_wide(shape: Sequence[int]) -> bool:
    """Whether a weight belongs to a convolution with a kernel larger than one pixel."""
    return len(shape) == 4 and shape[-1] > 1


def begins(component: str, layer: str, name: str) -> bool:
    """Whether a layer belongs to a block: "up_blocks.1", "unet", "text_encoder.text_model.encoder.layers.0"."""
    return f"{component}.{layer}.".startswith(full_name(name) + ".")


def full_name(block: str) -> str:
    return block if block.split(".")[0] in ("unet", *TEXT_PARTS) else f"unet.{block}"


def shapes_of(base: LatentBase) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of all layer weights of a base, by component and layer, without reading them."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for component, part in ties(base.architecture).items():
        stored = base.ldm_tensors(component) if component != "vae" else {}
        for tie in part:
            if tie.ldm in stored and tie.diffusers[0].endswith(".weight"):
                shape = stored[tie.ldm].shape
                if tie.form == "transposed":
                    shape = shape[::-1]
                shape = (shape[0] // len(tie.diffusers), *shape[1:])
                found.setdefault(component, {}).update({key.removesuffix(".weight"): shape for key in tie.diffusers})
    return found


def sizes(config: RunConfig, base: LatentBase) -> dict[str, int]:
    """Return the number of parameters of the new adapters that a run trains, by component."""
    found = {}
    for component, shapes in shapes_of(base).items():
        if component == "unet" or config.text_encoder_steps:
            ranks = target_ranks(config, component, shapes)
            found[component] = sum(layer_adapters.count(config, shapes[layer], rank) for layer, rank in ranks.items())
    return found


def strange_blocks(config: RunConfig, base: LatentBase) -> list[str]:
    """Return the names in `block_ranks` that match no layer of the base."""
    layers = [(component, layer) for component, shapes in shapes_of(base).items() for layer in shapes]
    return [name for name in config.block_ranks if not any(begins(*layer, name) for layer in layers)]


def create(config: RunConfig, component: str, module: nn.Module) -> dict[str, Adapter]:
    """Create adapters for a component. Each one's initial weights depend on the run's seed and its place."""
    layers = dict(named_layers(module))
    chosen = target_ranks(config, component, {name: tuple(layer.weight.shape) for name, layer in layers.items()})
    return {
        name: layer_adapters.create(
            config, layers[name].weight.detach(), rank, generator(config.seed, "lora", component, name)
        )
        for name, rank in chosen.items()
    }


def named_layers(module: nn.Module) -> Iterable[tuple[str, nn.Linear | nn.Conv2d]]:
    return ((name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d))


def attach(module: nn.Module, made: Mapping[str, Adapter], dropout: float, switch: Switch | None = None) -> list[Any]:
    """Attach adapters to a module. Returns handles whose `remove` detaches them.

    dropout: probability of dropping an adapter's inputs while its layer is in training mode. switch: turns them off.
    """
    switch = switch or Switch()
    return [
        module.get_submodule(name).register_forward_hook(_adding(adapter, dropout, switch))
        for name, adapter in made.items()
    ]


def _adding(adapter: Adapter, dropout: float, switch: Switch) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    def add(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if switch.is_off:
            return output
        if not (dropout and layer.training):
            return output + adapter(inputs[0], layer, output).to(output.dtype)
        return output + adapter(functional.dropout(inputs[0], dropout), layer).to(output.dtype)

    return add


@torch.no_grad()
def merge(module: nn.Module, made: Mapping[str, Adapter], weight: float = 1.0) -> None:
    """Merge changes into a module's own weights, scaled by `weight`, as the WebUI does."""
    for name, adapter in made.items():
        layer = module.get_submodule(name)
        assert isinstance(layer.weight, nn.Parameter), f"{name} is packed, and its weight only a copy"
        adapter.to(layer.weight.device)
        changed = layer.weight.float() + weight * adapter.change(layer.weight)
        layer.weight.copy_(changed)
        bias = adapter.bias_change()
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(layer.bias.float() + weight * bias)


def flat(made: Mapping[str, Adapter]) -> dict[str, Tensor]:
    """Return all tensors of a component in the form of training states."""
    return {f"{layer}.{part}": tensor for layer, adapter in made.items() for part, tensor in adapter.tensors().items()}


def from_flat(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Adapter]:
    """Rebuild adapters from `flat`'s result, in the order of the module's layers."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key in state:
        part = next(part for part in layer_adapters.PARTS if key.endswith(f".{part}"))
        parts.setdefault(key.removesuffix(f".{part}"), {})[part] = state[key]
    made: dict[str, Adapter] = {}
    for name, _ in module.named_modules():
        if name in parts:
            adapter = layer_adapters.from_parts(parts[name])
            assert adapter is not None, f"{name} has parts of no adapter"
            made[name] = adapter
    return made
