"""What of one method's settings cannot be, or would have no effect."""

from __future__ import annotations

import re

from ..config.form_sections.lora import NETWORK_TARGETS
from ..config.names import HUB_NAME, MODEL_SUFFIXES, TOKEN, exists, name_problems
from ..config.parsing import shown
from ..config.run_config import SETTINGS, RunConfig
from ..data import prompt_templates
from ..data.captions import has_template
from ..data.concepts import Subjects
from ..errors import Problem
from ..facts.lora_types import CONVOLUTIONS, USUAL, lora_type, types_with


def problems(config: RunConfig, subjects: Subjects) -> list[Problem]:
    """Of the chosen method's own settings."""
    return CHECKS[config.method](config, subjects) if config.method in CHECKS else []


def _network_problems(config: RunConfig) -> list[Problem]:
    """A LoRA's settings that cannot be, or would have no effect."""
    if config.network_weights:
        return _continued_problems(config)
    found, kind, facts = [], config.network_type, lora_type(config.network_type)
    targets = config.target_modules
    if unknown := [word for word in targets if word not in NETWORK_TARGETS]:
        message = f"{shown(unknown[0])} is not known."
        found.append(Problem("target_modules", message, f"Choose of: {', '.join(NETWORK_TARGETS)}."))
    for name, rank in config.block_ranks.items():
        if not isinstance(rank, int) or isinstance(rank, bool) or not 0 <= rank <= (SETTINGS["rank"].maximum or 0):
            message = f"the rank of {shown(name)} cannot be {shown(rank)}."
            found.append(Problem("block_ranks", message, "Use 0 to 1024, 0 to leave the block out."))
    convolves = CONVOLUTIONS in targets
    if CONVOLUTIONS in facts.layers and targets and not convolves:
        remedy = f"Add convolutions to target_modules, or choose {USUAL}."
        found.append(Problem("network_type", f"{kind} is LoRA with convolutions, and they are left out.", remedy))
    useless = {
        "conv_rank": (not convolves, "no convolutions are trained", "add convolutions to target_modules"),
        "text_encoder_rank": (config.text_encoder_steps == 0, "text_encoder_steps is 0", "set that above 0"),
        "lokr_factor": (not facts.has_factor, f"the type {kind} has none", _one_with("has_factor")),
        "loraplus_lr_ratio": (not facts.has_up, f"the type {kind} has no up matrix", _one_with("has_up")),
        "alpha": (not facts.has_alpha, f"the type {kind} has none", "choose another type"),
        "use_rslora": (not facts.has_alpha, f"the type {kind} has no alpha", "choose another type"),
    }
    for name, (is_so, why, remedy) in useless.items():
        if is_so and getattr(config, name) != SETTINGS[name].default:
            found.append(Problem(name, f"has no effect: {why}.", f"Leave it out, or {remedy}."))
    if config.lokr_factor == 0:
        found.append(Problem("lokr_factor", "cannot be 0.", "Use -1, or 1 and more."))
    return found


def _one_with(fact: str) -> str:
    first = types_with(fact)[0]
    return f"choose {first}"


def _continued_problems(config: RunConfig) -> list[Problem]:
    """A LoRA that goes on has its own type, ranks and layers."""
    path = config.network_weights or ""
    if not exists(path) or not path.lower().endswith(MODEL_SUFFIXES):
        remedy = "Give a .safetensors file."
        return [Problem("network_weights", f"{shown(path)} is no LoRA file that is there.", remedy)]
    named = ("network_type", "rank", "alpha", "text_encoder_rank", "conv_rank", "target_modules", "block_ranks")
    given = [n for n in (*named, "use_rslora", "lokr_factor") if getattr(config, n) != SETTINGS[n].default]
    return [
        Problem(name, "has no effect: network_weights names a LoRA, which has its own.", "Leave it out.")
        for name in given
    ]


def _lora_problems(config: RunConfig, subjects: Subjects) -> list[Problem]:
    return _network_problems(config) + (
        _pivotal_problems(config, subjects) if config.placeholder_token else _no_words(config)
    )


def _no_words(config: RunConfig) -> list[Problem]:
    names = [name for name, known in SETTINGS.items() if known.group == SETTINGS["placeholder_token"].group]
    remedy = "Leave it out, or give the word in placeholder_token."
    return [
        Problem(name, "has no effect: no word is taught along with the LoRA.", remedy)
        for name in names
        if "lora" in SETTINGS[name].methods and getattr(config, name) != SETTINGS[name].default
    ]


def _pivotal_problems(config: RunConfig, subjects: Subjects) -> list[Problem]:
    """Of words that are taught along with a LoRA."""
    found, words = _word_problems(config), prompt_templates.tokens(config)
    for word in words:
        if config.bundle_embedding and re.search(r"[.<>]", word):
            remedy = "Use letters, digits, - and _, or turn bundle_embedding off."
            found.append(Problem("placeholder_token", f"{shown(word)} cannot be written into a LoRA.", remedy))
        elif not config.bundle_embedding and word.lower() == config.name.lower():
            message = "is the LoRA's name, and the embedding beside it is called like the word."
            found.append(Problem("placeholder_token", message, "Choose another name, or turn bundle_embedding on."))
    prompts = [concept.instance_prompt for concept in subjects.concepts if concept.instance_prompt]
    for prompt in prompts:
        if not has_template(prompt) and not any(prompt_templates.says(prompt, word) for word in words):
            remedy = f"Write {words[0]} where it is to stand."
            found.append(Problem("instance_prompt", "does not hold the word that is taught.", remedy))
    if config.embedding_weights:
        found += _continued_embedding_problems(config, len(words))
    return found


def _word_problems(config: RunConfig) -> list[Problem]:
    found, words = [], prompt_templates.tokens(config)
    remedy = "Use Latin letters, digits, - and _, such as sksper; several words with commas between them."
    if bad := [word for word in words if not TOKEN.fullmatch(word)]:
        found.append(Problem("placeholder_token", f"{shown(bad[0])} cannot be a word of its own.", remedy))
    elif len(words) > 1 and (unfit := [problem for word in words for problem in name_problems(word)]):
        found.append(Problem("placeholder_token", f"is to name files. {unfit[0].message}", unfit[0].remedy))
    elif len({word.lower() for word in words}) < max(1, len(words)):
        found.append(Problem("placeholder_token", "needs words that differ.", remedy))
    return found


def _embedding_problems(config: RunConfig, _: Subjects) -> list[Problem]:
    """A learned word's settings that cannot be, or would have no effect."""
    found, words = _word_problems(config), prompt_templates.tokens(config)
    found += _template_problems(config)
    found += _picture_problems(config, words)
    return found + (_continued_embedding_problems(config, len(words)) if config.embedding_weights else [])


def _picture_problems(config: RunConfig, words: list[str]) -> list[Problem]:
    """Of previews that carry the embedding."""
    if not config.save_image_with_embedding:
        return []
    if not config.validation_steps:
        message = "has no effect: validation_steps is 0, so there are no previews."
        return [Problem("save_image_with_embedding", message, "Set that above 0, or leave this out.")]
    if len(words) > 1:
        message = "a picture has room for one word only."
        return [Problem("save_image_with_embedding", message, "Turn it off, or teach one word.")]
    return []


def _continued_embedding_problems(config: RunConfig, words: int) -> list[Problem]:
    """An embedding that goes on has its own vectors."""
    found = []
    paths = prompt_templates.continued(config)
    for path in paths:
        if not exists(path) or not path.lower().endswith((*MODEL_SUFFIXES, ".png")):
            remedy = "Give a .safetensors, .pt, .bin or .png file."
            found.append(Problem("embedding_weights", f"{shown(path)} is no embedding's file that is there.", remedy))
    if len(paths) != words:
        message = f"names {len(paths)} files for {words} words."
        found.append(Problem("embedding_weights", message, "Give one for each of placeholder_token."))
    return found + [
        Problem(name, "has no effect: embedding_weights names vectors to begin with.", "Leave it out.")
        for name in ("initializer_token", "num_vectors")
        if getattr(config, name) != SETTINGS[name].default
    ]


def _template_problems(config: RunConfig) -> list[Problem]:
    """Of lines to train with, where there are some."""
    if config.instance_prompt is not None and config.prompt_template:
        message = "has no effect: the instance prompt takes its place."
        return [Problem("prompt_template", message, "Leave one of them out.")]
    return prompt_templates.lines(config)[1] if prompt_templates.is_used(config) else []


def _hypernetwork_problems(config: RunConfig, _: Subjects) -> list[Problem]:
    """A hypernetwork's settings that cannot be, or would have no effect."""
    if config.hypernetwork_weights:
        return _continued_hypernetwork_problems(config) + _template_problems(config)
    found, layers, dropout = [], config.layer_structure, config.dropout
    if len(layers) < 2 or layers[0] != 1 or layers[-1] != 1 or min(layers) <= 0:
        message = f"cannot be {shown(layers)}: the first and the last are 1, and none is 0 or less."
        found.append(Problem("layer_structure", message, "1, 2, 1 is usual."))
    elif config.activation != "linear" and len(layers) == 2 and not config.activate_output:
        message = "has no effect: with a single layer there is none between two."
        found.append(Problem("activation", message, "Leave it out, or turn activate_output on."))
    if config.activate_output and config.activation == "linear":
        found.append(Problem("activate_output", "has no effect: the activation is linear.", "Leave it out."))
    if dropout and len(dropout) != len(layers):
        message = f"has {len(dropout)} numbers, and layer_structure {len(layers)}."
        found.append(Problem("dropout", message, "Give one for each, 0 for the first and the last."))
    elif dropout and (dropout[0] or dropout[-1] or not all(0 <= share < 1 for share in dropout)):
        message = f"cannot be {shown(dropout)}: the first and the last are 0, the others from 0 to below 1."
        found.append(Problem("dropout", message, "0 to 0.35 is usual."))
    if wrong := [size for size in config.enable_sizes if not isinstance(size, int) or size < 1]:
        remedy = "Leave it out: then it is all that the base has."
        found.append(Problem("enable_sizes", f"{shown(wrong[0])} cannot be the width of a context.", remedy))
    return found + _template_problems(config)


def _continued_hypernetwork_problems(config: RunConfig) -> list[Problem]:
    """A hypernetwork that goes on has its own sizes and structure."""
    path = config.hypernetwork_weights or ""
    if not exists(path) or not path.lower().endswith(".pt"):
        message = f"{shown(path)} is no hypernetwork's file that is there."
        return [Problem("hypernetwork_weights", message, "Give a .pt file.")]
    named = ("enable_sizes", "layer_structure", "activation", "activate_output", "weight_init", "layer_norm", "dropout")
    given = [name for name in named if getattr(config, name) != SETTINGS[name].default]
    message = "has no effect: hypernetwork_weights names a file, which has its own."
    return [Problem(name, message, "Leave it out.") for name in given]


def _unconditional_problems(config: RunConfig, _: Subjects) -> list[Problem]:
    found = []
    if config.model_config and config.base_model:
        message = "has no effect: base_model names a model, which has its own."
        found.append(Problem("model_config", message, "Leave one of them out."))
    elif config.model_config and not (exists(config.model_config) or HUB_NAME.fullmatch(config.model_config)):
        remedy = "Give a diffusers config.json, or the folder that holds it."
        found.append(Problem("model_config", f"there is no file or folder {shown(config.model_config)}.", remedy))
    steps = config.ddpm_num_inference_steps
    if steps is not None and steps > config.ddpm_num_steps:
        message = f"{steps} are more than the noise has, {config.ddpm_num_steps}."
        found.append(Problem("ddpm_num_inference_steps", message, "Use as many, or fewer."))
    if config.min_timestep >= config.ddpm_num_steps:
        message = f"the noise has no timestep from {config.min_timestep} on: ddpm_num_steps is {config.ddpm_num_steps}."
        found.append(Problem("min_timestep", message, "Use a lower one."))
    return found


CHECKS = {
    "lora": _lora_problems,
    "textual_inversion": _embedding_problems,
    "hypernetwork": _hypernetwork_problems,
    "unconditional": _unconditional_problems,
}
