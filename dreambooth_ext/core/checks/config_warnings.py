"""Warnings before a run, none of which forbids it, and remedies for too little memory."""

from __future__ import annotations

from ..config.rates import is_zero, parse_rate_schedule
from ..config.run_config import RunConfig
from ..data.identifiers import USED_WORDS, identifier_problem
from ..errors import Problem
from ..facts.lora_types import lora_type
from ..facts.methods import CHECKPOINT_METHODS, FROZEN_METHODS, WHOLE_METHODS
from ..facts.optimizer_facts import names_with, optimizer_facts, small_forms
from ..guide import demo_recipe, tables
from ..guide.tables import PICTURES
from ..messages.message import Message
from . import base_header
from .kept_gradients import BEFORE, are_freed

USUAL_RATES = {  # by method; a word's beside a LoRA is the guide's
    "learning_rate": {
        "dreambooth": tables.LEARNING_RATE,
        "finetune": tables.FINETUNE_RATE,
        "lora": tables.LORA_RATE,
        "textual_inversion": tables.EMBEDDING_RATE,
        "hypernetwork": tables.HYPERNETWORK_RATE,
        "unconditional": tables.UNCONDITIONAL_RATE,
    },
    "text_encoder_lr": {
        "dreambooth": tables.TEXT_ENCODER_LR,
        "finetune": tables.TEXT_ENCODER_LR,
        "lora": tables.LORA_TEXT_RATE,
    },
    "embedding_lr": {"lora": tables.PIVOTAL_RATE},
}
USUAL_RATES["text_encoder_2_lr"] = USUAL_RATES["text_encoder_lr"]
STRANGE = 100  # times the usual rate
HIGHEST_RATES = {"learning_rate": 5e-6, "text_encoder_lr": 2e-6}
HYPERNETWORK_HIGHEST = 5e-5  # of the WebUI's users, for the first steps only
EMBEDDING_PICTURES = 3
MOST_VECTORS = 24  # beyond, a warning
UNCONDITIONAL_LEAST_PICTURES, UNCONDITIONAL_LEAST_BATCH = 100, 8


def warnings(config: RunConfig, pictures: int) -> list[Problem]:
    """Warnings for a beginner before training on this many pictures."""
    strange = _strange_rates(config)
    named = {problem.field for problem in strange}
    seen = (problem for look in WARNINGS[config.method] for problem in look(config, pictures))
    found = strange + [problem for problem in seen if problem.field not in named]
    if config.text_encoder_steps and config.max_train_steps and config.text_encoder_steps > config.max_train_steps:
        found.append(Problem("advice.text_steps", "text_encoder_steps", steps=config.max_train_steps))
    if config.method in WHOLE_METHODS:
        found += base_header.name_warnings(config.name, config.base_model)
    return found


def _strange_rates(config: RunConfig) -> list[Problem]:
    """Warn of learning rates with which nothing can be learned, such as 1 without an optimizer that finds its own."""
    found, optimizer = [], optimizer_facts(config.optimizer)
    if _has_own_rates(config):
        return []
    for field, methods in USUAL_RATES.items():
        rate, usual = _highest(getattr(config, field)), methods.get(config.method)
        rests = field.startswith("text_encoder") and not config.text_encoder_steps
        if usual is None or rests or optimizer.finds_rate:
            continue
        usual *= optimizer.usual_rate
        if rate >= STRANGE * usual * (1 - 1e-9):
            times, finders = round(rate / usual), names_with("finds_rate")
            told = Problem(
                "advice.rate_strange", field, is_grave=True, rate=rate, times=times, usual=usual, optimizers=finders
            )
            found.append(told)
    return found


def _highest(rate: float | str | None) -> float:
    """The highest rate of a schedule; 0 if it is none."""
    try:
        return max(value for value, _ in parse_rate_schedule(rate)) if rate is not None else 0.0
    except ValueError:
        return 0.0


def _of_subjects(config: RunConfig, pictures: int) -> list[Problem]:
    least, best, _, most = PICTURES[config.subject_type]
    subject, field = tables.subject(config.subject_type), "instance_data_dir"
    if not pictures:
        return []  # that is a problem, and said as such
    if pictures < 5:
        return [Problem("advice.very_few_pictures", field, count=pictures, least=least)]
    if pictures < least:
        return [Problem("advice.few_pictures", field, count=pictures, subject=subject, least=least, best=best)]
    if pictures > most:
        return [Problem("advice.many_pictures", field, count=pictures, subject=subject, most=most)]
    return []


def _has_own_rates(config: RunConfig) -> bool:
    """Whether the base is the demo's: a small one, for which the usual learning rates do not hold."""
    return config.base_model == str(demo_recipe.BASE)


def _of_rates(config: RunConfig, pictures: int) -> list[Problem]:
    if _has_own_rates(config):
        return []
    found = []
    for field, highest in HIGHEST_RATES.items():
        rate = getattr(config, field)
        if isinstance(rate, float) and rate > highest and not optimizer_facts(config.optimizer).finds_rate:
            found.append(Problem("advice.rate_high", field, rate=rate, highest=highest))
    return found


def _of_loras(config: RunConfig, pictures: int) -> list[Problem]:
    facts = lora_type(config.network_type)
    if not facts.safe_precision or config.save_precision == facts.safe_precision:
        return []
    return [Problem("advice.lora_precision", "save_precision", type=facts.title, precision=facts.safe_precision)]


def _of_words(config: RunConfig, pictures: int) -> list[Problem]:
    found = []
    if 0 < pictures < EMBEDDING_PICTURES:
        field, least = "instance_data_dir", EMBEDDING_PICTURES
        found.append(Problem("advice.few_pictures_of_word", field, count=pictures, least=least))
    words = [word.strip() for word in config.placeholder_token.split(",")]
    for word in words:
        if word.lower() in USED_WORDS or len(word) < 3:
            found.append(Problem("advice.common_word", "placeholder_token", word=word))
    if len(words) == 1 and not config.name.lower().startswith(words[0].lower()):
        found.append(Problem("advice.word_is_file_name", "placeholder_token", name=config.name, word=words[0]))
    names = words if len(words) > 1 else [word for word in words if word.lower() == config.name.lower()]
    found += [problem for name in names if (problem := _of_file_name(name))]
    if (vectors := config.num_vectors or 1) > MOST_VECTORS:
        found.append(Problem("advice.many_vectors", "num_vectors", count=vectors, most=MOST_VECTORS))
    return found


def _of_file_name(word: str) -> Problem | None:
    """Warn of an embedding whose file has the name of a word that a checkpoint or LoRA may have been taught."""
    if identifier_problem(word):
        return None
    return Problem("advice.name_taught", "name", word=word)


def _of_hypernetworks(config: RunConfig, pictures: int) -> list[Problem]:
    found, rate, optimizer = [], config.learning_rate, optimizer_facts(config.optimizer)
    if isinstance(rate, float) and rate > HYPERNETWORK_HIGHEST and not optimizer.finds_rate:
        found.append(Problem("advice.hypernetwork_rate", "learning_rate", rate=rate, highest=HYPERNETWORK_HIGHEST))
    if "soft" in config.activation and config.activation.removeprefix("log").startswith(("softmax", "softmin")):
        found.append(Problem("advice.activation_over_batch", "activation", activation=config.activation))
    return found


def _of_unconditional_models(config: RunConfig, pictures: int) -> list[Problem]:
    found = []
    if 0 < pictures < UNCONDITIONAL_LEAST_PICTURES:
        found.append(Problem("advice.few_from_nothing", "train_data_dir", count=pictures))
    batch = config.train_batch_size * config.gradient_accumulation_steps
    if batch < UNCONDITIONAL_LEAST_BATCH:
        found.append(Problem("advice.small_batch", "train_batch_size", batch=batch))
    return found


WARNINGS = {
    "dreambooth": (_of_subjects, _of_rates),
    "finetune": (),
    "lora": (_of_subjects, _of_loras),
    "textual_inversion": (_of_words,),
    "hypernetwork": (_of_subjects, _of_hypernetworks),
    "unconditional": (_of_unconditional_models,),
}


def out_of_memory_remedies(config: RunConfig, resolution: int, checkpointing: bool) -> list[Message]:
    """What can still reduce this run's memory, most effective first."""
    remedies = []
    if not checkpointing:
        remedies.append(Message("plan.checkpointing_on"))
    if config.train_batch_size > 1:
        accumulation = config.gradient_accumulation_steps * config.train_batch_size
        remedies.append(Message("plan.batch_of_1", steps=accumulation))
    if small := small_forms(config.optimizer):
        remedies.append(Message("plan.small_optimizer", optimizers=small))
    if config.cache_latents is False:
        remedies.append(Message("plan.cache_latents_on"))
    alone = config.gradient_accumulation_steps == 1
    freeing = config.replace(gradient_accumulation_steps=1, clip_grad_mode=BEFORE)
    if not is_zero(config.max_grad_norm) and not are_freed(config) and are_freed(freeing):
        remedies.append(Message("plan.clip_before") if alone else Message("plan.clip_before_without_accumulation"))
    if config.weight_precision != "bf16" and config.mixed_precision == "bf16":
        remedies += [Message("plan.bf16_weights")] if config.method in CHECKPOINT_METHODS else []
    fewer = {"auto": "int8", "bf16": "int8", "int8": "nf4", "fp8": "nf4"}.get(config.frozen_precision)
    if fewer and config.method in FROZEN_METHODS:
        remedies.append(Message("plan.frozen_in", precision=fewer))
    if config.use_ema:
        remedies.append(Message("plan.ema_off"))
    if config.text_encoder_steps:
        remedies.append(Message("plan.text_encoder_off"))
    return [*remedies, *_of_method(config, resolution), _of_others(config)]


def _of_method(config: RunConfig, resolution: int) -> list[Message]:
    """Remedies for too little memory that depend on the method and the resolution."""
    remedies = []
    if config.method == "lora" and (config.rank or 0) > 8:
        remedies.append(Message("plan.lower_rank"))
    if config.with_prior_preservation and config.method not in WHOLE_METHODS:
        remedies.append(Message("plan.own_class_pictures"))
    if config.method == "hypernetwork" and sum(config.layer_structure) > 4:
        remedies.append(Message("plan.small_layers"))
    if config.method == "unconditional" and resolution > 64:
        remedies.append(Message("plan.lower_resolution", old=resolution, new=resolution // 2))
    elif resolution > 512:
        remedies.append(Message("plan.lower_resolution", old=resolution, new=max(512, resolution - 256)))
    return remedies


def _of_others(config: RunConfig) -> Message:
    return Message("plan.close_programs") if config.device == "cpu" else Message("plan.close_programs_on_card")
