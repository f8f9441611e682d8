"""Imports the LoRA options of kohya's tools: sd-scripts' network_* options, LyCORIS' arguments, kohya_ss' fields.

https://github.com/kohya-ss/sd-scripts/blob/main/docs/train_network.md, https://github.com/KohakuBlueleaf/LyCORIS.
"""

from __future__ import annotations

import math
from typing import Any

from ...core.facts.lora_types import LORA_TYPES, USUAL, LoRAType, variant
from ...core.messages.message import Message
from .common import NO_COUNTERPART, Imported, is_nothing, number, text_of
from .kohya_names import LORA_OPTIONS

PRESETS = {  # of LyCORIS: which layers learn
    "full": ["attention", "feed_forward", "convolutions"],
    "attn-mlp": ["attention", "feed_forward"],
    "attn-only": ["attention"],
}
FORMS_DIM, FORMS_ALPHA = 8, 1  # kohya_ss' own defaults; sd-scripts' are 4 and 1
SCRIPTS_DIM, SCRIPTS_ALPHA = 4, 1
KNOWN_ARGUMENTS = (
    "algo",
    "conv_dim",
    "conv_alpha",
    "preset",
    "factor",
    "dora_wd",
    "loraplus_lr_ratio",
    "rs_lora",
    "dropout",
)


def pass_over(flat: dict[str, Any], found: Imported) -> None:
    """Report a LoRA's options as ignored in a text for another method."""
    for name in LORA_OPTIONS:
        if not is_nothing(flat.get(name)):
            found.ignore(name, Message("import.no_lora"))


def has_type(flat: dict[str, Any], types: tuple[str, ...]) -> bool:
    """Whether kohya_ss' LoRA type, such as "LyCORIS/LoKr", is one of these."""
    kind = text_of(flat.get("LoRA_type")).lower()
    return not kind or any(kind.endswith(known) or kind.startswith(f"{known}/") for known in types)


def read(flat: dict[str, Any], found: Imported, is_form: bool) -> None:
    """Import the network's settings."""
    found.take("network_module", "method", "lora")
    if weights := text_of(flat.get("network_weights")):
        found.take("network_weights", "network_weights", weights)
        found.ignore("network_dim", Message("import.continued_lora"))
        return
    arguments = _arguments(flat, is_form)
    kind = _type(arguments, found)
    facts = LORA_TYPES[kind]
    usual = (FORMS_DIM, FORMS_ALPHA) if is_form else (SCRIPTS_DIM, SCRIPTS_ALPHA)
    rank = number(flat.get("network_dim")) or usual[0]
    alpha = number(flat.get("network_alpha"), usual[1]) or rank  # 0 is as the rank
    found.take("network_dim", "rank", int(rank))
    if facts.has_alpha:
        found.take("network_alpha", "alpha", alpha)
    if not is_nothing(flat.get("network_dropout", arguments.get("dropout"))):
        found.take("network_dropout", "network_dropout", flat.get("network_dropout", arguments.get("dropout")))
    _convolutions(facts, rank, alpha, arguments, found)
    if facts.has_factor and number(arguments.get("factor"), -1) > 0:
        found.take("factor", "lokr_factor", int(number(arguments["factor"])))
    if facts.has_factor and _is_true(flat.get("decompose_both")):
        found.ignore("decompose_both", NO_COUNTERPART)
    if number(arguments.get("loraplus_lr_ratio")) > 1 and facts.has_up:
        found.take("loraplus_lr_ratio", "loraplus_lr_ratio", arguments["loraplus_lr_ratio"])
    if _is_true(arguments.get("rs_lora")) and facts.has_alpha:
        found.take("rs_lora", "use_rslora", True)
    for name in arguments:
        if name not in KNOWN_ARGUMENTS:
            found.ignore(f"network_args: {name}", NO_COUNTERPART, arguments[name])


def _arguments(flat: dict[str, Any], is_form: bool) -> dict[str, Any]:
    """The network_args, ["conv_dim=4", "algo=loha"], or the form's fields for its type."""
    given = flat.get("network_args")
    pairs = given if isinstance(given, list) else text_of(given).split()
    found = dict(pair.split("=", 1) for pair in pairs if isinstance(pair, str) and "=" in pair)
    kind = text_of(flat.get("LoRA_type"))
    ratio = next(
        (flat[n] for n in ("loraplus_lr_ratio", "loraplus_unet_lr_ratio") if not is_nothing(flat.get(n))), None
    )
    own = {"loraplus_lr_ratio": ratio} if ratio and is_form else {}
    if not is_form or not kind or kind == "Standard":
        return {**own, **found}
    own = {name: flat[name] for name in ("factor", "dora_wd") if not is_nothing(flat.get(name))} | own
    if "LoCon" in kind or "LyCORIS" in kind:
        own |= {name: flat[name] for name in ("conv_dim", "conv_alpha") if not is_nothing(flat.get(name))}
    if preset := text_of(flat.get("LyCORIS_preset")):
        own["preset"] = preset
    return {"algo": kind.rpartition("/")[2].rpartition(" ")[2], **own, **found}


def _type(arguments: dict[str, Any], found: Imported) -> str:
    asked = text_of(arguments.get("algo")).lower()
    kind = next((name for name, facts in LORA_TYPES.items() if asked in facts.algorithms), None) if asked else USUAL
    if kind is None:
        found.ignore("network_args", Message("import.no_lora_type", type=asked[:30]))
        kind = USUAL
    kind = variant(kind, _is_true(arguments.get("dora_wd")), bool(number(arguments.get("conv_dim"))))
    if kind != USUAL:
        found.take("network_args", "network_type", kind)
    return kind


def _convolutions(facts: LoRAType, rank: float, alpha: float, arguments: dict[str, Any], found: Imported) -> None:
    conv_rank = number(arguments.get("conv_dim"))
    preset = text_of(arguments.get("preset"))
    layers = PRESETS["full"] if conv_rank else PRESETS.get(preset)
    if preset and preset not in PRESETS:
        found.ignore("LyCORIS_preset", Message("import.no_preset", preset=preset[:50]))
    if layers:
        found.take("conv_dim" if conv_rank else "LyCORIS_preset", "target_modules", layers)
    if not conv_rank:
        return
    if conv_rank != rank:
        found.take("conv_dim", "conv_rank", int(conv_rank))
    conv_alpha = number(arguments.get("conv_alpha"), 1.0)
    if facts.has_alpha and not math.isclose(conv_alpha / conv_rank, alpha / rank):
        found.ignore("conv_alpha", Message("import.conv_alpha"))


def rates(flat: dict[str, Any], found: Imported, is_form: bool) -> bool:
    """Import a LoRA's learning rates; returns whether its text encoder trains. learning_rate is the default for both
    parts."""
    shared, unet, text = (flat.get(name) for name in ("learning_rate", "unet_lr", "text_encoder_lr"))
    only_unet, only_text = (
        _is_true(flat.get("network_train_unet_only")),
        _is_true(flat.get("network_train_text_encoder_only")),
    )
    if is_form and "unet_lr" in flat and "text_encoder_lr" in flat:  # as kohya_ss: a rate of 0 leaves that part out
        only_unet = only_unet or (number(unet) > 0 and _first(text) == 0)
        only_text = only_text or (number(unet) == 0 and _first(text) > 0)
    if only_text:
        found.ignore("network_train_text_encoder_only", Message("import.unet_trains"))
    rate = shared if is_nothing(unet) else unet
    if not is_nothing(rate):
        found.take("learning_rate" if rate is shared else "unet_lr", "learning_rate", rate)
    if only_unet:
        return False
    given = shared if is_nothing(text) else text
    both = given if isinstance(given, list) else [given]
    for value, ours in zip(both, ("text_encoder_lr", "text_encoder_2_lr"), strict=False):
        if not is_nothing(value):
            found.take("text_encoder_lr", ours, value)
    return True


def _first(rates: Any) -> float:
    return number(rates[0] if isinstance(rates, list) and rates else rates)


def _is_true(value: Any) -> bool:
    return value is True or str(value).strip().lower() == "true"
