"""Checks the settings of single methods: impossible values, and settings without effect."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..config.form_sections.lora import NETWORK_TARGETS
from ..config.names import HUB_NAME, MODEL_SUFFIXES, TOKEN, exists, name_problems
from ..config.parsing import shown
from ..config.run_config import SETTINGS, RunConfig
from ..data import prompt_templates
from ..data.captions import has_template
from ..data.concepts import Subjects
from ..errors import Problem
from ..facts.lora_types import CONVOLUTIONS, USUAL, LoRAType, lora_type, types_with


def problems(config: RunConfig, subjects: Subjects) -> list[Problem]:
    """Problems with the chosen method's own settings."""
    return CHECKS[config.method](config, subjects) if config.method in CHECKS else []


def _network_problems(config: RunConfig) -> list[Problem]:
    """Problems with a LoRA's settings, including those without effect."""
    if config.network_weights:
        return _continued_problems(config)
    found, facts, targets = [], lora_type(config.network_type), config.target_modules
    _, most = SETTINGS["rank"].limits
    if unknown := [word for word in targets if word not in NETWORK_TARGETS]:
        choices = list(NETWORK_TARGETS)
        found.append(Problem("method.target_unknown", "target_modules", name=shown(unknown[0]), choices=choices))
    for name, rank in config.block_ranks.items():
        if not isinstance(rank, int) or isinstance(rank, bool) or not 0 <= rank <= most:
            found.append(Problem("method.block_rank", "block_ranks", name=shown(name), rank=shown(rank), most=most))
    convolves = CONVOLUTIONS in targets
    if CONVOLUTIONS in facts.layers and targets and not convolves:
        found.append(Problem("method.no_convolutions", "network_type", type=facts.title, usual=USUAL))
    found += [problem for is_so, problem in _useless(config, facts, convolves) if is_so and _is_given(config, problem)]
    if config.lokr_factor == 0:
        found.append(Problem("method.lokr_factor_zero", "lokr_factor"))
    return found


def _useless(config: RunConfig, facts: LoRAType, convolves: bool) -> Iterator[tuple[bool, Problem]]:
    """Settings that some LoRA types do not use, each with whether this config does not use it."""
    with_factor, with_up = types_with("has_factor")[0], types_with("has_up")[0]
    yield not convolves, Problem("effect.no_convolutions", "conv_rank")
    yield config.text_encoder_steps == 0, Problem("effect.no_text_steps", "text_encoder_rank")
    yield (
        not facts.has_factor,
        Problem("effect.not_of_lora_type", "lokr_factor", type=facts.title, other=with_factor),
    )
    yield not facts.has_up, Problem("effect.no_up_matrix", "loraplus_lr_ratio", type=facts.title, other=with_up)
    yield not facts.has_alpha, Problem("effect.no_alpha", "alpha", type=facts.title)
    yield not facts.has_alpha, Problem("effect.no_alpha", "use_rslora", type=facts.title)


def _is_given(config: RunConfig, problem: Problem) -> bool:
    return getattr(config, problem.field) != SETTINGS[problem.field].default


def _continued_problems(config: RunConfig) -> list[Problem]:
    """Problems with continuing a LoRA: the file has its own type, ranks and layers."""
    path = config.network_weights or ""
    if not exists(path) or not path.lower().endswith(MODEL_SUFFIXES):
        return [Problem("method.lora_missing", "network_weights", path=shown(path))]
    named = ("network_type", "rank", "alpha", "text_encoder_rank", "conv_rank", "target_modules", "block_ranks")
    given = [n for n in (*named, "use_rslora", "lokr_factor") if getattr(config, n) != SETTINGS[n].default]
    return [Problem("effect.continued_lora", name) for name in given]


def _lora_problems(config: RunConfig, subjects: Subjects) -> list[Problem]:
    return _network_problems(config) + (
        _pivotal_problems(config, subjects) if config.placeholder_token else _no_words(config)
    )


def _no_words(config: RunConfig) -> list[Problem]:
    names = [name for name, known in SETTINGS.items() if known.group == SETTINGS["placeholder_token"].group]
    return [
        Problem("effect.no_word", name)
        for name in names
        if "lora" in SETTINGS[name].methods and getattr(config, name) != SETTINGS[name].default
    ]


def _pivotal_problems(config: RunConfig, subjects: Subjects) -> list[Problem]:
    """Problems with words that are trained together with a LoRA."""
    found, words = _word_problems(config), prompt_templates.tokens(config)
    for word in words:
        if config.bundle_embedding and re.search(r"[.<>]", word):
            found.append(Problem("method.word_in_lora", "placeholder_token", word=shown(word)))
        elif not config.bundle_embedding and word.lower() == config.name.lower():
            found.append(Problem("method.word_is_name", "placeholder_token"))
    prompts = [concept.instance_prompt for concept in subjects.concepts if concept.instance_prompt]
    for prompt in prompts:
        if not has_template(prompt) and not any(prompt_templates.says(prompt, word) for word in words):
            found.append(Problem("method.word_not_in_prompt", "instance_prompt", word=words[0]))
    if config.embedding_weights:
        found += _continued_embedding_problems(config, len(words))
    return found


def _word_problems(config: RunConfig) -> list[Problem]:
    found, words = [], prompt_templates.tokens(config)
    if bad := [word for word in words if not TOKEN.fullmatch(word)]:
        found.append(Problem("method.word_letters", "placeholder_token", word=shown(bad[0])))
    elif len(words) > 1 and (unfit := [problem for word in words for problem in name_problems(word)]):
        found.append(Problem("method.word_file_name", "placeholder_token", reason=unfit[0].message))
    elif len({word.lower() for word in words}) < max(1, len(words)):
        found.append(Problem("method.words_alike", "placeholder_token"))
    return found


def _embedding_problems(config: RunConfig, _: Subjects) -> list[Problem]:
    """Problems with the settings of Textual Inversion, including those without effect."""
    found, words = _word_problems(config), prompt_templates.tokens(config)
    found += _template_problems(config)
    found += _picture_problems(config, words)
    return found + (_continued_embedding_problems(config, len(words)) if config.embedding_weights else [])


def _picture_problems(config: RunConfig, words: list[str]) -> list[Problem]:
    """Problems with previews that carry the embedding."""
    if not config.save_image_with_embedding:
        return []
    if not config.validation_steps:
        return [Problem("effect.no_preview_to_embed", "save_image_with_embedding")]
    if len(words) > 1:
        return [Problem("method.picture_one_word", "save_image_with_embedding")]
    return []


def _continued_embedding_problems(config: RunConfig, words: int) -> list[Problem]:
    """Problems with continuing embeddings: the files have their own vectors."""
    found = []
    paths = prompt_templates.continued(config)
    for path in paths:
        if not exists(path) or not path.lower().endswith((*MODEL_SUFFIXES, ".png")):
            found.append(Problem("method.embedding_missing", "embedding_weights", path=shown(path)))
    if len(paths) != words:
        found.append(Problem("method.embedding_count", "embedding_weights", files=len(paths), words=words))
    return found + [
        Problem("effect.continued_embedding", name)
        for name in ("initializer_token", "num_vectors")
        if getattr(config, name) != SETTINGS[name].default
    ]


def _template_problems(config: RunConfig) -> list[Problem]:
    """Problems with the prompt template, if one is used."""
    if config.instance_prompt is not None and config.prompt_template:
        return [Problem("effect.prompt_given", "prompt_template")]
    return prompt_templates.lines(config)[1] if prompt_templates.is_used(config) else []


def _hypernetwork_problems(config: RunConfig, _: Subjects) -> list[Problem]:
    """Problems with a hypernetwork's settings, including those without effect."""
    if config.hypernetwork_weights:
        return _continued_hypernetwork_problems(config) + _template_problems(config)
    found, layers, dropout = [], config.layer_structure, config.dropout
    if len(layers) < 2 or layers[0] != 1 or layers[-1] != 1 or min(layers) <= 0:
        found.append(Problem("method.layers", "layer_structure", value=shown(layers)))
    elif config.activation != "linear" and len(layers) == 2 and not config.activate_output:
        found.append(Problem("effect.single_layer", "activation"))
    if config.activate_output and config.activation == "linear":
        found.append(Problem("effect.linear", "activate_output"))
    if dropout and len(dropout) != len(layers):
        found.append(Problem("method.dropout_count", "dropout", count=len(dropout), layers=len(layers)))
    elif dropout and (dropout[0] or dropout[-1] or not all(0 <= share < 1 for share in dropout)):
        found.append(Problem("method.dropout", "dropout", value=shown(dropout)))
    if wrong := [size for size in config.enable_sizes if not isinstance(size, int) or size < 1]:
        found.append(Problem("method.context_width", "enable_sizes", value=shown(wrong[0])))
    return found + _template_problems(config)


def _continued_hypernetwork_problems(config: RunConfig) -> list[Problem]:
    """Problems with continuing a hypernetwork: the file has its own sizes and structure."""
    path = config.hypernetwork_weights or ""
    if not exists(path) or not path.lower().endswith(".pt"):
        return [Problem("method.hypernetwork_missing", "hypernetwork_weights", path=shown(path))]
    named = ("enable_sizes", "layer_structure", "activation", "activate_output", "weight_init", "layer_norm", "dropout")
    given = [name for name in named if getattr(config, name) != SETTINGS[name].default]
    return [Problem("effect.continued_hypernetwork", name) for name in given]


def _unconditional_problems(config: RunConfig, _: Subjects) -> list[Problem]:
    found = []
    if config.model_config and config.base_model:
        found.append(Problem("effect.base_has_config", "model_config"))
    elif config.model_config and not (exists(config.model_config) or HUB_NAME.fullmatch(config.model_config)):
        found.append(Problem("method.no_config", "model_config", path=shown(config.model_config)))
    steps = config.ddpm_num_inference_steps
    if steps is not None and steps > config.ddpm_num_steps:
        most = config.ddpm_num_steps
        found.append(Problem("method.drawing_steps", "ddpm_num_inference_steps", steps=steps, most=most))
    if config.min_timestep >= config.ddpm_num_steps:
        first, steps = config.min_timestep, config.ddpm_num_steps
        found.append(Problem("method.no_timesteps", "min_timestep", first=first, steps=steps))
    return found


CHECKS = {
    "lora": _lora_problems,
    "textual_inversion": _embedding_problems,
    "hypernetwork": _hypernetwork_problems,
    "unconditional": _unconditional_problems,
}
