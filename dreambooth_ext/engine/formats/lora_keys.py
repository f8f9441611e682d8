"""How LoRA files name layers and tensors: kohya's tools, diffusers of all versions, PEFT, OneTrainer, ComfyUI and
others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.messages.message import Message
from ..models import detection
from ..models.key_maps import UNET_PREFIX, unet_ties
from ..networks import layer_adapters

LONGEST_PART = 5  # dot-separated names in a part
MAGNITUDE = "magnitude"  # of a DoRA, one number per output; kohya's `dora_scale` can also be per input
# the beginnings of the flat names of a component's layers
PREFIXES = {
    "unet": ("lora_unet", "oft_unet", "unet", "lycoris", "diffusion_model", "model_diffusion_model"),
    "text_encoder": ("lora_te", "lora_te1", "text_encoder", "clip_l", "text_encoders_clip_l", "text_encoders_clip_h"),
    "text_encoder_2": ("lora_te2", "text_encoder_2", "clip_g", "text_encoders_clip_g"),
}
INNER = "transformer_"  # ComfyUI's text encoders are nested in a module of this name
_NAMED = r"(\.(?!weight$|bias$)[^.]+)?"  # PEFT's name of the adapter, `.default`
# the end of a key -> our name for the part; `_lora` belongs to diffusers' attention processors
ENDS = {
    rf"(\.lora(_linear_layer)?\.down\.weight|_lora\.down\.weight|\.lora_A{_NAMED}(\.weight)?)$": "lora_down.weight",
    rf"(\.lora(_linear_layer)?\.up\.weight|_lora\.up\.weight|\.lora_B{_NAMED}(\.weight)?)$": "lora_up.weight",
    rf"\.(lora_magnitude_vector{_NAMED}(\.weight)?|magnitude)$": MAGNITUDE,
    r"(_lora|\.lora|\.lora_linear_layer)\.alpha$": layer_adapters.ALPHA,
}
PARTS = sorted(layer_adapters.PARTS, key=len, reverse=True)
OLD_PROJECTION = re.compile(r"(\.processor)?\.to_(q|k|v|out)$")  # in attention processors
BLOCKS = re.compile(
    r"(down|up|input|output)_blocks|mid_block|middle_block|text_model|text_projection|conv_(in|out|norm_out)"
    r"|time_embed|label_emb|add_embedding"
)
TRANSFORMERS = re.compile(
    r"^transformer_|_(double|single|joint|single_transformer)_blocks_|^(lora_te3|text_encoder_3|t5)"
)


def flat_name(name: str) -> str:
    return name.replace(".", "_")


def single_file_names(unet: Mapping[str, Any]) -> dict[str, str]:
    """Return {layer of diffusers' UNet: its name in a single file}."""
    found = {}
    for tie in unet_ties(unet):
        if tie.ldm.endswith(".weight"):
            found[tie.diffusers[0].removesuffix(".weight")] = tie.ldm.removeprefix(UNET_PREFIX).removesuffix(".weight")
    return found


def known_names(layers: Mapping[str, Iterable[str]], unet: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return {every flat name of a layer in files: (component, layer)}."""
    single = single_file_names(unet)
    found: dict[str, tuple[str, str]] = {}
    for component, names in layers.items():
        starts = [f"{start}_" for start in PREFIXES[component]]
        if component != "unet":
            starts += [f"{start}{INNER}" for start in starts]
        if component != "text_encoder_2" and (component == "unet" or "text_encoder_2" not in layers):
            starts.append("")  # PEFT's files of a single model; with two text encoders it would be ambiguous
        for layer in names:
            for name in {layer, single.get(layer, layer) if component == "unet" else layer}:
                found |= {f"{start}{flat_name(name)}": (component, layer) for start in starts}
    return found


def split(key: str) -> tuple[str, str]:
    """Split a key into its layer, as a flat name, and our name for its part; "" for an unknown part."""
    key = key.removeprefix("base_model.model.")
    for pattern, part in ENDS.items():
        if match := re.search(pattern, key):
            name = key[: match.start()]
            return flat_name(_present(name) if match[0].startswith("_lora") else name), part
    end = next((part for part in PARTS if key.endswith(f".{part}")), "")
    return flat_name(key.removesuffix(f".{end}") if end else key), end


def _present(layer: str) -> str:
    """Return today's name of a projection: `attn1.processor.to_out` was `attn1.to_out.0`, `self_attn.to_q` `q_proj`."""
    old = OLD_PROJECTION.search(layer)
    if not old:
        return layer
    name = f"{old[2]}_proj" if "self_attn" in layer else f"to_{old[2]}" + (".0" if old[2] == "out" else "")
    return f"{layer[: old.start()]}.{name}"


def strange_part(key: str, names: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """Return the known layer that a key begins with, as a flat name, and the rest, a part of another LoRA type. "" if
    none."""
    rest: list[str] = []
    layer = key.removeprefix("base_model.model.")
    while "." in layer and len(rest) < LONGEST_PART:
        layer, _, part = layer.rpartition(".")
        rest.insert(0, part)
        if flat_name(layer) in names:
            return flat_name(layer), ".".join(rest)
    return "", ""


def refusal(path: Path, field: str, strange: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> UserError:
    """Return an error that says why not all of a file can be used as a LoRA. strange: keys that match no layer of the
    model."""
    if what := other_file(shapes):
        return UserError("weights.not_a_lora", field, file=path.name, kind=what)
    key = next((key for key in strange if TRANSFORMERS.search(split(key)[0])), None)
    if key:
        return UserError("weights.other_architecture", field, file=path.name, key=shown(key))
    key = next((key for key in strange if not is_spelled(key)), None)
    if key:
        return UserError("weights.unknown_names", field, file=path.name, key=shown(key))
    key, more = shown(strange[0]), len(strange) - 1
    if more:
        return UserError("weights.other_model_more", field, file=path.name, key=key, count=more)
    return UserError("weights.other_model", field, file=path.name, key=key)


def is_spelled(key: str) -> bool:
    """Whether a key names a layer of some kind of model in a known way."""
    name, part = split(key)
    starts = [start for starts in PREFIXES.values() for start in starts]
    start = max((start for start in starts if name.startswith(f"{start}_")), key=len, default="")
    inner = name.removeprefix(start).removeprefix("_").removeprefix(INNER)
    is_of_two = not start and inner.startswith("text_model")  # ambiguous with two text encoders
    return bool(part) and not is_of_two and BLOCKS.match(inner) is not None


def other_file(shapes: Mapping[str, tuple[int, ...]]) -> Message | None:
    """Return what a file without any LoRA part is; None if it may be a LoRA, or is unknown."""
    if any(split(key)[1] not in ("", layer_adapters.ALPHA) for key in shapes):
        return None
    if len(shapes) == 1 and all("." not in key and len(shape) in (1, 2) for key, shape in shapes.items()):
        return Message("kind.embedding")  # diffusers' format, with the word as the key
    what = detection.kind_of(shapes)
    return None if what and what.code == "kind.lora" else what  # a part of an unknown LoRA type
