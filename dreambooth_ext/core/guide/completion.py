"""What a config leaves out, filled in from the guide's tables, each value with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..config import stages
from ..config.rates import is_zero
from ..config.run_config import SETTINGS, RunConfig
from ..config.stages import CompletedConfig
from ..data import bundled_words
from ..data.concepts import Subjects
from ..facts.lora_types import lora_type
from ..facts.optimizer_facts import optimizer_facts
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
)

TEXT_ENCODER_REASON = "the guide: half of the UNet's standard rate"
BUNDLE_REASON = "the LoRA that goes on brings its word along"
EMBEDDING_REASON = "usual for a word: far above that of whole models"


@dataclass(frozen=True)
class Choice:
    """A value that was filled in, and why."""

    value: object
    reason: str


Fill = Callable[[str, object, str], None]  # setting, value, reason; the first to fill an open setting has it


def complete(
    config: RunConfig, pictures: int, subjects: Subjects | None = None
) -> tuple[CompletedConfig, dict[str, Choice]]:
    """Fill in what was left out and follows from the subject type and the number of pictures.

    subjects: what the caller has read; None to read it now.
    """
    choices: dict[str, Choice] = {}

    def fill(name: str, value: object, reason: str) -> None:
        if value and config.method not in SETTINGS[name].methods:
            return  # of no use there
        if getattr(config, name) in (None, "", []) and name not in choices:
            choices[name] = Choice(value, reason)

    is_word = config.method == "textual_inversion"
    fill("name", name_for(config), "calls it in prompts" if is_word else "after the pictures' folder")
    optimizer = optimizer_facts(config.optimizer)
    if optimizer.finds_rate:
        for name in ("learning_rate", "text_encoder_lr", *(["embedding_lr"] if _is_pivotal(config) else [])):
            fill(name, 1.0, f"{optimizer.class_name} finds the rate itself")
    if config.dataset_config:
        fill("use_captions", True, "as kohya, which reads captions wherever there are some")
        data_set = (subjects or Subjects.of(config)).data_set
        if data_set and any(subset.class_folder for subset in data_set.subsets):
            fill("with_prior_preservation", True, "dataset_config has class pictures")
    if config.method == "lora":
        config = _with_bundle(config, fill)
    if is_zero(config.text_encoder_lr) and config.text_encoder_2_lr in (None, 0):
        fill("text_encoder_steps", 0, "text_encoder_lr is 0")
    COMPLETIONS[config.method](config, pictures, fill)
    return stages.completed(config, **{name: choice.value for name, choice in choices.items()}), choices


def _with_bundle(config: RunConfig, fill: Fill) -> RunConfig:
    """With the words that a LoRA which goes on brings along: they go on from the same file."""
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
    """Whether a LoRA learns along with a word."""
    return config.method == "lora" and bool(config.placeholder_token)


def _complete_subject(config: RunConfig, pictures: int, fill: Fill) -> None:
    kind, count = config.subject_type, f"{pictures} pictures, {config.subject_type}"
    if config.num_train_epochs is None:
        fill("max_train_steps", steps_for(kind, pictures), f"{count}: the guide's number of steps")
    steps = config.max_train_steps or steps_for(kind, pictures)
    fill("learning_rate", LEARNING_RATE, "the guide's standard rate")
    text_steps = min(TEXT_ENCODER_STEPS[kind], round(steps * TEXT_ENCODER_SHARE))
    fill("text_encoder_steps", text_steps, f"{kind}: the guide's best, at most a quarter of the UNet's steps")
    fill("use_captions", kind != "person", "the guide: captions help styles and objects, faces need none")
    fill("offset_noise", OFFSET_NOISE.get(kind, 0.0), "the guide: always for styles, never for others")
    has_none = "dataset_config has no class pictures" if config.dataset_config else "on when a class prompt is given"
    fill("with_prior_preservation", _wants_prior(config), has_none)
    fill("text_encoder_lr", TEXT_ENCODER_LR, TEXT_ENCODER_REASON)


def _complete_lora(config: RunConfig, pictures: int, fill: Fill) -> None:
    _fill_network(config, fill)
    _complete_subject(config, pictures, fill)  # what is still open is as DreamBooth's
    if _is_pivotal(config):
        steps = config.max_train_steps or steps_for(config.subject_type, pictures)
        fill(
            "embedding_steps", max(1, round(steps * EMBEDDING_SHARE)), "diffusers' default: then the LoRA goes on alone"
        )


def _fill_network(config: RunConfig, fill: Fill) -> None:
    _fill_words(config, fill)
    fill("learning_rate", LORA_RATE, "usual for LoRA: far above that of whole models")
    fill("text_encoder_lr", LORA_TEXT_RATE, "half of the UNet's usual rate")
    if config.network_weights:
        fill("text_encoder_steps", 0, "a LoRA that goes on has taught the text encoder already")
        return
    fill("rank", LORA_RANK, "enough for a subject, and a small file")
    rank = config.rank or LORA_RANK
    facts = lora_type(config.network_type)
    if facts.has_alpha:
        fill("alpha", float(rank), "as the rank")
    if not config.target_modules:
        fill("target_modules", list(facts.layers), f"usual for {config.network_type}")


def _wants_prior(config: RunConfig) -> bool:
    """Whether anything was said of class pictures; where their prompt is missing, a check then says so."""
    blank = RunConfig()
    own = ("class_prompt", "class_data_dir", "num_class_images", "prior_loss_weight")
    return any(getattr(config, name) not in ("", getattr(blank, name)) for name in own) or any(
        concept.get(name) for concept in config.concepts for name in own[:2]
    )


def saves_on_the_way(config: RunConfig, steps: int, epochs: float) -> int:
    """How many training states a run writes before its end."""
    if config.save_every_n_epochs and steps:
        step = steps * config.save_every_n_epochs / max(epochs, 1e-9)  # between two of them
        return max(0, math.ceil(steps / step) - 1 - int(max(0, config.checkpointing_start_step - 1) / step))
    every = config.checkpointing_steps
    return max(0, (steps - 1) // every - max(0, config.checkpointing_start_step - 1) // every) if every else 0


def a_or_an(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def is_path(value: object) -> bool:
    """What else stands in a concept, `picture_entries.problems` names."""
    return isinstance(value, str) and value != ""


def name_for(config: RunConfig) -> str:
    """A file name for the model where the user gave none.

    An embedding's is the word that calls it, on every checkpoint: it gets another one than the subject's own word.
    """
    if config.method == "textual_inversion":
        return f"{_name_of_pictures(config, config.placeholder_token.partition(',')[0])[:57]}_ti"
    return _name_of_pictures(config)


def _name_of_pictures(config: RunConfig, word: str = "") -> str:
    folders = [
        getattr(config, config.pictures_setting),
        *(concept.get("instance_data_dir") for concept in config.concepts),
    ]
    named = (expanded(folder).resolve().name for folder in folders if is_path(folder))
    name = word or next(named, config.dataset_name or "")
    if config.dataset_config and not word:
        name = expanded(config.dataset_config).stem
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:60] or config.method


def _complete_finetune(config: RunConfig, pictures: int, fill: Fill) -> None:
    if config.num_train_epochs is None:
        batch = config.train_batch_size * config.gradient_accumulation_steps
        steps = max(FINETUNE_LEAST_STEPS, FINETUNE_EPOCHS * -(-pictures // batch))
        fill(
            "max_train_steps", steps, f"{pictures} pictures: {FINETUNE_EPOCHS} epochs, at least {FINETUNE_LEAST_STEPS}"
        )
    fill("learning_rate", FINETUNE_RATE, "usual for fine-tuning all weights")
    fill("text_encoder_steps", 0, "fine-tuning leaves the text encoder alone unless told otherwise")
    fill("use_captions", True, "fine-tuning lives by captions")
    fill("offset_noise", 0.0, "off unless asked for")
    fill("with_prior_preservation", False, "DreamBooth only")
    fill("text_encoder_lr", TEXT_ENCODER_LR, TEXT_ENCODER_REASON)


def _fill_words(config: RunConfig, fill: Fill) -> None:
    """Of words that learn along with a LoRA."""
    if not _is_pivotal(config):
        return
    fill("embedding_lr", PIVOTAL_RATE, EMBEDDING_REASON)
    _fill_vectors(config, fill)


def _fill_vectors(config: RunConfig, fill: Fill) -> None:
    kind = config.subject_type
    if not config.embedding_weights:
        fill("num_vectors", EMBEDDING_VECTORS[kind], f"{kind}: enough for its looks, and short in the prompt")
        fill("initializer_token", INITIAL_WORDS[kind], f"{kind}: a word that the base knows")


def _complete_embedding(config: RunConfig, pictures: int, fill: Fill) -> None:
    kind = config.subject_type
    if config.num_train_epochs is None:
        fill("max_train_steps", EMBEDDING_STEPS, "usual for textual inversion; continue if it does not do")
    fill("learning_rate", EMBEDDING_RATE, EMBEDDING_REASON)
    fill("placeholder_token", config.name or name_for(config), "the file's name, by which WebUIs know the word")
    _fill_vectors(config, fill)
    if config.instance_prompt is None:
        fill("prompt_template", "style" if kind == "style" else "subject", f"the prompts for {a_or_an(kind)}")
    fill("use_captions", kind != "person", "the guide: captions help styles and objects, faces need none")
    fill("offset_noise", 0.0, "a word cannot learn it: off unless asked for")
    fill("text_encoder_steps", 0, "textual inversion leaves the text encoder alone")
    fill("with_prior_preservation", False, "the base stays as it is")


def _complete_hypernetwork(config: RunConfig, pictures: int, fill: Fill) -> None:
    fill("learning_rate", HYPERNETWORK_RATE, "the WebUI's rate for hypernetworks: higher ones break them")
    if config.num_train_epochs is None:
        fill("max_train_steps", HYPERNETWORK_STEPS, "usual at this rate; files saved on the way tell when it is enough")
    fill("text_encoder_steps", 0, "a hypernetwork has no place for a text encoder")
    _complete_subject(config, pictures, fill)  # what is still open is as DreamBooth's


def _complete_unconditional(config: RunConfig, pictures: int, fill: Fill) -> None:
    if config.num_train_epochs is None and pictures:
        batch = config.train_batch_size * config.gradient_accumulation_steps
        epochs, least = UNCONDITIONAL_EPOCHS, UNCONDITIONAL_LEAST_STEPS
        steps = max(least, epochs * -(-pictures // batch))
        fill("max_train_steps", steps, f"{pictures} pictures: {epochs} epochs, at least {least}")
    elif config.max_train_steps is None:  # of a data set that is still to be fetched
        fill("num_train_epochs", UNCONDITIONAL_EPOCHS, "usual for unconditional models")
    fill("learning_rate", UNCONDITIONAL_RATE, "usual for unconditional models")
    fill("ddpm_num_inference_steps", config.ddpm_num_steps, "as many as the noise has")
    if config.use_ema:
        fill("ema_inv_gamma", EMA_INV_GAMMA, "usual for unconditional models")
        fill("ema_power", EMA_POWER, "usual for unconditional models")


COMPLETIONS = {
    "dreambooth": _complete_subject,
    "finetune": _complete_finetune,
    "lora": _complete_lora,
    "textual_inversion": _complete_embedding,
    "hypernetwork": _complete_hypernetwork,
    "unconditional": _complete_unconditional,
}
