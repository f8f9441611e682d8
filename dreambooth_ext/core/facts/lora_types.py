"""The LoRA types: one row each, with everything that the program knows about it. A new type is a row here and, if its
formula is new, a class in `engine/networks/layer_adapters.py`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

USUAL = "lora"
KOHYA, LYCORIS = "networks.lora", "lycoris.kohya"  # the tools whose files these are, `ss_network_module`
CONVOLUTIONS = "convolutions"  # of `target_modules`
SOME_LAYERS = ("attention", "feed_forward")


@dataclass(frozen=True)
class LoRAType:
    """What a LoRA type trains, what it needs, and its names here and in other programs."""

    title: str
    help: str  # of the form; types with the same one stand together
    adapter: str  # its formula: a class of `engine/networks/layer_adapters.py`
    module: str = LYCORIS  # in its files, `ss_network_module`
    layers: tuple[str, ...] = SOME_LAYERS  # that learn unless the user names others
    mark: str = ""  # a pattern of its tensors' names, which are in no other model's file
    has_alpha: bool = True
    has_up: bool = False  # a matrix that is 0 at the start, and that LoRA+ has learn faster than the other one
    has_factor: bool = False  # lokr_factor
    has_magnitude: bool = False  # learns the size of each input channel's weights beside their direction, as DoRA
    safe_precision: str = ""  # of its files, where WebUIs compute in that
    algorithms: tuple[str, ...] = ()  # `algo` of LyCORIS, and the last word of kohya_ss' LoRA_type
    form_fields: tuple[str, ...] = ()  # of kohya_ss, which are for some types and written for all


LORA_TYPES: dict[str, LoRAType] = {
    "lora": LoRAType(
        "LoRA", "the usual one", "LoRA", KOHYA, mark=r"lora_(up|down|mid)\b", has_up=True, algorithms=("lora",)
    ),
    "locon": LoRAType(
        "LoCon",
        "with convolutions, for styles",
        "LoRA",
        KOHYA,
        layers=(*SOME_LAYERS, CONVOLUTIONS),
        has_up=True,
        algorithms=("locon",),
        form_fields=("bypass_mode", "use_scalar"),
    ),
    "loha": LoRAType(
        "LoHa",
        "other products of small matrices",
        "LoHa",
        mark=r"\.hada_w1_",
        safe_precision="fp32",
        algorithms=("loha",),
        form_fields=("bypass_mode", "use_scalar"),
    ),
    "lokr": LoRAType(
        "LoKr",
        "other products of small matrices",
        "LoKr",
        mark=r"\.lokr_w1",
        has_factor=True,
        safe_precision="fp32",
        algorithms=("lokr",),
        form_fields=("bypass_mode", "use_scalar", "use_cp"),
    ),
    "dora": LoRAType(
        "DoRA",
        "learns magnitude and direction separately",
        "LoRA",
        mark="dora_scale",
        has_up=True,
        has_magnitude=True,
    ),
    "oft": LoRAType(
        "OFT",
        "only rotates what the model knows",
        "OFT",
        mark=r"\.oft_",
        has_alpha=False,
        algorithms=("diag-oft",),
        form_fields=("constrain", "rescaled"),
    ),
}


def lora_type(name: str) -> LoRAType:
    """The facts for a value of the setting `network_type`; those of plain LoRA if the value is unknown."""
    return LORA_TYPES.get(name, LORA_TYPES[USUAL])


def types_with(fact: str) -> list[str]:
    """The types for which a fact is true, such as "has_up"."""
    return [name for name, facts in LORA_TYPES.items() if getattr(facts, fact)]


def variant(name: str, magnitude: bool, convolutions: bool) -> str:
    """The type with the same formula that has a magnitude, or else has convolutions or not, as asked; `name` itself
    where no such type exists."""
    magnitude = magnitude or LORA_TYPES[name].has_magnitude
    alike = {other: facts for other, facts in LORA_TYPES.items() if facts.adapter == LORA_TYPES[name].adapter}
    for other, facts in alike.items():
        if facts.has_magnitude == magnitude and (magnitude or (CONVOLUTIONS in facts.layers) == convolutions):
            return other
    return name


def explained() -> str:
    """The help text of the form's type field: "lora: the usual one. locon: with convolutions, for styles. ..." """
    groups = groupby(LORA_TYPES, key=lambda name: LORA_TYPES[name].help)
    return " ".join(f"{', '.join(names)}: {help}." for help, names in groups)
