"""Fills in the settings that a config leaves out from the guide's tables, each with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..config import devices, stages
from ..config.rates import is_zero
from ..config.run_config import SETTINGS, RunConfig
from ..config.stages import CompletedConfig
from ..data import bundled_words
from ..data.concepts import Subjects
from ..facts.lora_types import lora_type
from ..facts.optimizer_facts import optimizer_facts
from ..messages.message import Message
from ..system.files import expanded
from .tables import (
    EMA_INV_GAMMA,
    EMA_POWER,
    EMBEDDING_RATE,
    EMBEDDING_SHARE,
    EMBEDDING_STEPS,
    EMBEDDING_VECTORS,
    FINETUNE_EPOCHS,
    FINETUNE_LEAST_STEPS,
    FINETUNE_RATE,
    HYPERNETWORK_RATE,
    HYPERNETWORK_STEPS,
    INITIAL_WORDS,
    LEARNING_RATE,
    LORA_RANK,
    LORA_RATE,
    LORA_TEXT_RATE,
    OFFSET_NOISE,
    PIVOTAL_RATE,
    TEXT_ENCODER_LR,
    TEXT_ENCODER_SHARE,
    TEXT_ENCODER_STEPS,
    UNCONDITIONAL_EPOCHS,
    UNCONDITIONAL_LEAST_STEPS,
    UNCONDITIONAL_RATE,
    steps_for,
    subject,
)

TEXT_ENCODER_REASON = Message("guide.text_rate")
BUNDLE_REASON = Message("guide.word_of_lora")
EMBEDDING_REASON = Message("guide.embedding_rate")


@dataclass(frozen=True)
class Choice:
    """A value that was filled in, and the reason."""

    value: object
    reason: Message


Fill = Callable[[str, object, Message], None]  # setting, value, reason; the first to fill an open setting has it


def fill_in(
    config: RunConfig, pictures: int, subjects: Subjects | None = None
) -> tuple[CompletedConfig, dict[str, Choice]]:
    """Fill in settings that were left out and follow from the subject type and the number of pictures.

    subjects: what the caller has read; None to read it now.
    """
    choices: dict[str, Choice] = {}

    def fill(name: str, value: object, reason: Message) -> None:
        if value and config.method not in SETTINGS[name].methods:
            return  # of no use there
        if getattr(config, name) in (None, "", []) and name not in choices:
            choices[name] = Choice(value, reason)

    is_word = config.method == "textual_inversion"
    fill("name", name_for(config), Message("guide.name_of_word") if is_word else Message("guide.name_of_folder"))
    optimizer = optimizer_facts(config.optimizer)
    if optimizer.finds_rate:
        for name in ("learning_rate", "text_encoder_lr", *(["embedding_lr"] if _is_pivotal(config) else [])):
            fill(name, 1.0, Message("guide.finds_rate", optimizer=optimizer.class_name))
    if config.dataset_config:
        fill("use_captions", True, Message("guide.captions_of_kohya"))
        data_set = (subjects or Subjects.of(config)).data_set
        if data_set and any(subset.class_folder for subset in data_set.subsets):
            fill("with_prior_preservation", True, Message("guide.class_pictures"))
    if config.train_shards_path_or_url:
        fill("use_captions", True, Message("guide.captions_of_shards"))
    if config.method == "lora":
        config = _with_bundle(config, fill)
    if is_zero(config.text_encoder_lr) and config.text_encoder_2_lr in (None, 0):
        fill("text_encoder_steps", 0, Message("guide.text_rate_zero"))
    COMPLETIONS[config.method](config, pictures, fill)
    return stages.completed(config, **{name: choice.value for name, choice in choices.items()}), choices


def _with_bundle(config: RunConfig, fill: Fill) -> RunConfig:
    """The config with the words that a continued LoRA file bundles; their training continues from the same file."""
    file = config.network_weights
    brought = bundled_words.words(file)
    if not file or not brought:
        return config
    taught = config.placeholder_token or ", ".join(brought)
    fill("placeholder_token", taught, BUNDLE_REASON)
    known, words = {word.lower() for word in brought}, taught.split(",")
    weights = config.embedding_weights
    if not weights and all(word.strip().lower() in known for word in words):
        weights = ",".join([file] * len(words))
        fill("embedding_weights", weights, BUNDLE_REASON)
    return config.replace(placeholder_token=taught, embedding_weights=weights)


def _is_pivotal(config: RunConfig) -> bool:
    """Whether a word is trained together with a LoRA."""
    return config.method == "lora" and bool(config.placeholder_token)


def _complete_subject(config: RunConfig, pictures: int, fill: Fill) -> None:
    kind, called = config.subject_type, subject(config.subject_type)
    if config.num_train_epochs is None:
        reason = Message("guide.steps", subject=called, count=pictures)
        fill("max_train_steps", steps_for(kind, pictures), reason)
    steps = config.max_train_steps or steps_for(kind, pictures)
    fill("learning_rate", LEARNING_RATE, Message("guide.rate"))
    text_steps = min(TEXT_ENCODER_STEPS[kind], round(steps * TEXT_ENCODER_SHARE))
    fill("text_encoder_steps", text_steps, Message("guide.text_steps", subject=called))
    fill("use_captions", kind != "person", Message("guide.captions"))
    fill("offset_noise", OFFSET_NOISE.get(kind, 0.0), Message("guide.offset_noise"))
    reason = Message("guide.no_class_pictures") if config.dataset_config else Message("guide.prior")
    fill("with_prior_preservation", _wants_prior(config), reason)
    fill("text_encoder_lr", TEXT_ENCODER_LR, TEXT_ENCODER_REASON)


def _complete_lora(config: RunConfig, pictures: int, fill: Fill) -> None:
    _fill_network(config, fill)
    _complete_subject(config, pictures, fill)  # what is still open is as DreamBooth's
    if _is_pivotal(config):
        steps = config.max_train_steps or steps_for(config.subject_type, pictures)
        fill("embedding_steps", max(1, round(steps * EMBEDDING_SHARE)), Message("guide.embedding_steps"))


def _fill_network(config: RunConfig, fill: Fill) -> None:
    _fill_words(config, fill)
    fill("learning_rate", LORA_RATE, Message("guide.lora_rate"))
    fill("text_encoder_lr", LORA_TEXT_RATE, Message("guide.lora_text_rate"))
    if config.network_weights:
        fill("text_encoder_steps", 0, Message("guide.text_of_lora"))
        return
    fill("rank", LORA_RANK, Message("guide.rank"))
    rank = config.rank or LORA_RANK
    facts = lora_type(config.network_type)
    if facts.has_alpha:
        fill("alpha", float(rank), Message("guide.alpha"))
    if not config.target_modules:
        fill("target_modules", list(facts.layers), Message("guide.layers", type=facts.title))


def _wants_prior(config: RunConfig) -> bool:
    """Whether any setting mentions class pictures; if their prompt is missing, a check reports it."""
    blank = RunConfig()
    own = ("class_prompt", "class_data_dir", "num_class_images", "prior_loss_weight")
    return any(getattr(config, name) not in ("", getattr(blank, name)) for name in own) or any(
        concept.get(name) for concept in config.concepts for name in own[:2]
    )


def saves_on_the_way(config: RunConfig, steps: int, epochs: float) -> int:
    """The number of training states that a run writes before its end."""
    if config.save_every_n_epochs and steps:
        step = steps * config.save_every_n_epochs / max(epochs, 1e-9)  # between two of them
        return max(0, math.ceil(steps / step) - 1 - int(max(0, config.checkpointing_start_step - 1) / step))
    every = config.checkpointing_steps
    return max(0, (steps - 1) // every - max(0, config.checkpointing_start_step - 1) // every) if every else 0


def is_path(value: object) -> bool:
    """Whether a value in a concept can be a path; `picture_entries.problems` reports other values."""
    return isinstance(value, str) and value != ""


def name_for(config: RunConfig) -> str:
    """A file name for the model if the user gave none.

    An embedding's file name is the word that calls it, on every checkpoint, so it must differ from the subject's own
    word.
    """
    if config.method == "textual_inversion":
        return f"{_name_of_pictures(config, config.placeholder_token.partition(',')[0])[:57]}_ti"
    return _name_of_pictures(config)


def _name_of_pictures(config: RunConfig, word: str = "") -> str:
    folders = [
        getattr(config, config.pictures_setting) or config.train_shards_path_or_url.partition("{")[0],
        *(concept.get("instance_data_dir") for concept in config.concepts),
    ]
    named = (expanded(folder).resolve().name for folder in folders if is_path(folder))
    name = word or next(named, config.dataset_name or "")
    if config.dataset_config and not word:
        name = expanded(config.dataset_config).stem
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:60] or config.method


def _pictures_of_step(config: RunConfig) -> int:
    """How many pictures a step learns from, in all processes together."""
    processes = devices.processes(config.device, config.processes)
    return config.train_batch_size * config.gradient_accumulation_steps * processes


def _complete_finetune(config: RunConfig, pictures: int, fill: Fill) -> None:
    if config.num_train_epochs is None:
        steps = max(FINETUNE_LEAST_STEPS, FINETUNE_EPOCHS * -(-pictures // _pictures_of_step(config)))
        reason = Message("guide.epochs", epochs=FINETUNE_EPOCHS, least=FINETUNE_LEAST_STEPS, count=pictures)
        fill("max_train_steps", steps, reason)
    fill("learning_rate", FINETUNE_RATE, Message("guide.finetune_rate"))
    fill("text_encoder_steps", 0, Message("guide.finetune_text"))
    fill("use_captions", True, Message("guide.finetune_captions"))
    fill("offset_noise", 0.0, Message("guide.off"))
    fill("with_prior_preservation", False, Message("guide.off_for_finetune"))
    fill("text_encoder_lr", TEXT_ENCODER_LR, TEXT_ENCODER_REASON)


def _fill_words(config: RunConfig, fill: Fill) -> None:
    """Fill in the settings of words that are trained together with a LoRA."""
    if not _is_pivotal(config):
        return
    fill("embedding_lr", PIVOTAL_RATE, EMBEDDING_REASON)
    _fill_vectors(config, fill)


def _fill_vectors(config: RunConfig, fill: Fill) -> None:
    kind = config.subject_type
    if not config.embedding_weights:
        fill("num_vectors", EMBEDDING_VECTORS[kind], Message("guide.vectors", subject=subject(kind)))
        fill("initializer_token", INITIAL_WORDS[kind], Message("guide.initial_word", subject=subject(kind)))


def _complete_embedding(config: RunConfig, pictures: int, fill: Fill) -> None:
    kind = config.subject_type
    if config.num_train_epochs is None:
        fill("max_train_steps", EMBEDDING_STEPS, Message("guide.embedding_length"))
    fill("learning_rate", EMBEDDING_RATE, EMBEDDING_REASON)
    fill("placeholder_token", config.name or name_for(config), Message("guide.word_is_name"))
    _fill_vectors(config, fill)
    if config.instance_prompt is None:
        template = "style" if kind == "style" else "subject"
        fill("prompt_template", template, Message("guide.prompts", subject=subject(kind)))
    fill("use_captions", kind != "person", Message("guide.captions"))
    fill("offset_noise", 0.0, Message("guide.off_for_word"))
    fill("text_encoder_steps", 0, Message("guide.text_of_word"))
    fill("with_prior_preservation", False, Message("guide.base_unchanged"))


def _complete_hypernetwork(config: RunConfig, pictures: int, fill: Fill) -> None:
    fill("learning_rate", HYPERNETWORK_RATE, Message("guide.hypernetwork_rate"))
    if config.num_train_epochs is None:
        fill("max_train_steps", HYPERNETWORK_STEPS, Message("guide.hypernetwork_length"))
    fill("text_encoder_steps", 0, Message("guide.text_of_hypernetwork"))
    _complete_subject(config, pictures, fill)  # what is still open is as DreamBooth's


def _complete_unconditional(config: RunConfig, pictures: int, fill: Fill) -> None:
    if config.num_train_epochs is None and pictures:
        epochs, least = UNCONDITIONAL_EPOCHS, UNCONDITIONAL_LEAST_STEPS
        steps = max(least, epochs * -(-pictures // _pictures_of_step(config)))
        fill("max_train_steps", steps, Message("guide.epochs", epochs=epochs, least=least, count=pictures))
    elif config.max_train_steps is None:  # of a data set that is still to be fetched
        fill("num_train_epochs", UNCONDITIONAL_EPOCHS, Message("guide.unconditional"))
    fill("learning_rate", UNCONDITIONAL_RATE, Message("guide.unconditional"))
    fill("ddpm_num_inference_steps", config.ddpm_num_steps, Message("guide.drawing_steps"))
    if config.use_ema:
        fill("ema_inv_gamma", EMA_INV_GAMMA, Message("guide.unconditional"))
        fill("ema_power", EMA_POWER, Message("guide.unconditional"))


COMPLETIONS = {
    "dreambooth": _complete_subject,
    "finetune": _complete_finetune,
    "lora": _complete_lora,
    "textual_inversion": _complete_embedding,
    "hypernetwork": _complete_hypernetwork,
    "unconditional": _complete_unconditional,
}
