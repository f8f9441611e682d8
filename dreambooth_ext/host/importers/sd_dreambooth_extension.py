"""Imports `db_config.json` and `concepts_list.json` of sd_dreambooth_extension (d8ahazard)."""

from __future__ import annotations

import re
from typing import Any

from ...core.facts.lora_types import USUAL, variant
from ...core.messages.message import Message
from . import optimizer_names
from .common import (
    NO_COUNTERPART,
    Imported,
    Place,
    Subject,
    batch_of,
    is_nothing,
    number,
    set_subjects,
    steps_of,
    text_of,
)

SOURCE = "sd_dreambooth_extension"

# Theirs -> ours, where the value means the same
DIRECT = {
    "adamw_weight_decay": "weight_decay",
    "weight_decay": "weight_decay",
    "cache_latents": "cache_latents",
    "center_crop": "center_crop",
    "clip_skip": "clip_skip",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_checkpointing": "gradient_checkpointing",
    "hflip": "random_flip",
    "max_token_length": "max_token_length",
    "max_train_steps": "max_train_steps",
    "mixed_precision": "mixed_precision",
    "min_snr_gamma": "snr_gamma",
    "offset_noise": "offset_noise",
    "resolution": "resolution",
    "seed": "seed",
    "shuffle_tags": "shuffle_tags",
    "train_batch_size": "train_batch_size",
    "use_ema": "use_ema",
}
EMPTY_IS_OPEN = ("clip_skip", "max_train_steps", "min_snr_gamma", "seed", "resolution")
SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
READ_APART = {
    *("concepts_list", "num_train_epochs", "stop_text_encoder", "train_text_encoder", "use_lora", "model_name"),
    *("optimizer", "use_8bit_adam", "lr_scheduler", "lr_warmup_steps", "lr_cycles", "lr_power", "half_model"),
    *("save_safetensors", "save_embedding_every", "save_preview_every", "prior_loss_weight", "src", "attention"),
    *("learning_rate", "txt_learning_rate", "lora_learning_rate", "lora_txt_learning_rate", "lora_unet_rank"),
    *("lora_txt_rank", "lora_rank", "use_lora_extended", "lora_model_name", "train_unet", "input_pertubation"),
    *("train_imagic", "noise_scheduler"),
}
OF_LORA = r"lora_.*|use_lora.*|save_lora.*"
REASONS = {
    Message("import.own_folders"): r"model_dir|model_path|revision|(initial|lifetime)_revision|epoch"
    r"|snapshot|pretrained_model_name_or_path|shared_diffusers_path|use_shared_src|use_subdir|custom_model_name"
    r"|graph_smoothing|epoch_pause_(frequency|time)|concepts_path",
    Message("import.saves_and_samples"): r"save_(ckpt|lora|state)_(after|cancel|during)|save_lora_for_extra_net"
    r"|sample_batch_size|disable_logging|lora_weight|infer_ema|ema_predict|scheduler|sanity_seed",
}
LORA_RANK = 4  # its own default, of both parts
NOISE = 0.1  # that its input_pertubation adds
SCHEDULERS_ALIKE = ("", "DDPM")


def read(values: Any, place: Place) -> Imported:
    """`values`: the file's object, or a bare list of concepts."""
    found = Imported(SOURCE)
    if isinstance(values, list):
        values = {"concepts_list": values}
    values = {re.sub(r"^db_", "", str(name)): value for name, value in values.items()}
    found.given = values
    is_lora = values.get("use_lora") is True
    for name, value in values.items():
        if name in READ_APART or (is_nothing(value) and (name not in DIRECT or name in EMPTY_IS_OPEN)):
            continue
        if name in DIRECT:
            found.take(name, DIRECT[name], value)
        elif is_lora or not re.fullmatch(OF_LORA, name):  # written also where no LoRA is trained
            found.ignore(name, _reason(name))
    _method(values, found, is_lora)
    _model(values, found, place)
    subjects = _subjects(values, found, place)
    _length(values, found, subjects, place)
    _optimizer(values, found)
    found.settle()
    return found


def _method(values: dict[str, Any], found: Imported, is_lora: bool) -> None:
    """Import the method and its learning rates, and report what that trainer does differently."""
    rates = {"learning_rate": "learning_rate", "text_encoder_lr": "txt_learning_rate"}
    if is_lora:
        rates = {"learning_rate": "lora_learning_rate", "text_encoder_lr": "lora_txt_learning_rate"}
        _lora(values, found)
    for ours, theirs in rates.items():
        if not is_nothing(values.get(theirs)):
            found.take(theirs, ours, values[theirs])
    if values.get("input_pertubation") is True:
        found.take("input_pertubation", "ip_noise_gamma", NOISE)
    if values.get("train_unet") is False:
        found.ignore("train_unet", Message("import.unet_trains"), "false")
    if values.get("train_imagic") is True:
        found.ignore("train_imagic", Message("import.no_imagic"))
    if text_of(values.get("noise_scheduler")) not in SCHEDULERS_ALIKE:
        found.ignore("noise_scheduler", Message("import.noise_of_base"))


def _lora(values: dict[str, Any], found: Imported) -> None:
    found.take("use_lora", "method", "lora")
    if weights := text_of(values.get("lora_model_name")):
        found.ignore("lora_model_name", Message("import.not_continued"), weights)
    if values.get("use_lora_extended") is True:
        found.take("use_lora_extended", "network_type", variant(USUAL, magnitude=False, convolutions=True))
    ranks = {}
    for ours, theirs in (("rank", "lora_unet_rank"), ("text_encoder_rank", "lora_txt_rank")):
        ranks[ours] = int(number(values.get(theirs)) or number(values.get("lora_rank")) or LORA_RANK)
        if ours == "rank" or ranks[ours] != ranks["rank"]:
            found.take(theirs, ours, ranks[ours])


def _reason(name: str) -> str:
    for what, pattern in REASONS.items():
        if re.fullmatch(pattern, name):
            return what
    return NO_COUNTERPART


def _model(values: dict[str, Any], found: Imported, place: Place) -> None:
    if src := text_of(values.get("src")):
        found.take("src", "base_model", place.base(src))
    if name := re.sub(r"[^A-Za-z0-9_-]+", "_", text_of(values.get("model_name"))).strip("_-")[:60]:
        found.take("model_name", "name", name)
    if "half_model" in values:
        found.take("half_model", "save_precision", "fp16" if values["half_model"] is True else "fp32")
    if values.get("save_safetensors") is False:
        found.take("save_safetensors", "save_format", "ckpt")
    if not is_nothing(values.get("attention")) and values["attention"] != "default":
        found.ignore("attention", Message("import.own_attention"))


def _subjects(values: dict[str, Any], found: Imported, place: Place) -> list[Subject]:
    given = values.get("concepts_list")
    concepts = [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    subjects = []
    for index, concept in enumerate(concepts):
        folder = text_of(concept.get("instance_data_dir"))
        if not folder:
            found.ignore(f"concepts_list[{index}]", Message("import.no_folder"))
            continue
        subjects.append(_subject(concept, folder, place, found, f"concepts_list[{index}]"))
    set_subjects(found, subjects, counts_epochs=number(values.get("num_train_epochs")) > 0)
    if any("[filewords]" in text_of(concept.get("instance_prompt")) for concept in concepts):
        found.take("instance_prompt", "use_captions", True)
    weight = values.get("prior_loss_weight")
    if not is_nothing(weight) and any(subject.class_prompt for subject in subjects):
        found.take("prior_loss_weight", "prior_loss_weight", weight)
    _previews(concepts, values, found)
    return subjects


def _subject(concept: dict[str, Any], folder: str, place: Place, found: Imported, where: str) -> Subject:
    """Import one concept; without class pictures its class prompt is left out, because here it would ask for them."""
    subject = Subject(folder, _instance_prompt(concept))
    each, total = number(concept.get("num_class_images_per")), number(concept.get("num_class_images"))
    prompt = text_of(concept.get("class_prompt")) or text_of(concept.get("class_token"))
    if not prompt:
        return subject
    if each <= 0 and total <= 0:
        found.ignore(f"{where}.class_prompt", Message("import.none_asked_for"))
        return subject
    count = place.pictures(folder)
    subject.class_prompt, subject.class_folder = prompt, text_of(concept.get("class_data_dir"))
    if total > 0:
        subject.class_pictures = int(total)
    elif count:
        subject.class_pictures = int(each * count)
    else:
        found.ignore(f"{where}.num_class_images_per", Message("import.uncounted_pictures"))
    return subject


def _instance_prompt(concept: dict[str, Any]) -> str:
    """Their prompt with the instance token in it. For captions ([filewords]), the trainer puts the rare word before
    those that lack it."""
    prompt, word = text_of(concept.get("instance_prompt")), text_of(concept.get("instance_token"))
    general = text_of(concept.get("class_token"))
    if not word or re.search(rf"\b{re.escape(word)}\b", prompt, re.IGNORECASE):
        return prompt
    if prompt in ("", "[filewords]"):
        return word
    if general and re.search(rf"\b{re.escape(general)}\b", prompt, re.IGNORECASE):
        return re.sub(rf"\b{re.escape(general)}\b", lambda _: word, prompt, flags=re.IGNORECASE)
    return f"{word}, {prompt}"


def _previews(concepts: list[dict[str, Any]], values: dict[str, Any], found: Imported) -> None:
    prompts = [text_of(c.get("save_sample_prompt")) for c in concepts if number(c.get("n_save_sample"), 1) > 0]
    prompts = [prompt for prompt in [*prompts, text_of(values.get("sanity_prompt"))] if prompt and "[" not in prompt]
    if not prompts:
        return
    found.take("save_sample_prompt", "validation_prompts", list(dict.fromkeys(prompts)))
    first = next(c for c in [*concepts, {}] if not c or text_of(c.get("save_sample_prompt")))
    if negative := text_of(first.get("save_sample_negative_prompt")):
        found.take("save_sample_negative_prompt", "validation_negative_prompt", negative)
    for theirs, ours in (("save_guidance_scale", "guidance_scale"), ("save_infer_steps", "inference_steps")):
        if not is_nothing(first.get(theirs)):
            found.take(theirs, f"validation_{ours}", first[theirs])
    if number(values.get("sanity_seed"), -1) >= 0 and text_of(values.get("sanity_prompt")):
        found.take("sanity_seed", "validation_seed", values["sanity_seed"])


def _length(values: dict[str, Any], found: Imported, subjects: list[Subject], place: Place) -> None:
    """Import the length, and intervals that are shares or epochs there and steps here."""
    epochs = int(number(values.get("num_train_epochs")))
    steps = int(number(values.get("max_train_steps"))) or None
    batch = batch_of(values)
    if epochs > 0 and not steps:
        found.take("num_train_epochs", "num_train_epochs", epochs)
        steps = steps_of(subjects, epochs, batch, place)
    elif epochs:
        found.ignore("num_train_epochs", Message("import.steps_given"))
    share = number(values.get("stop_text_encoder", values.get("train_text_encoder", 0)))
    if share <= 0 and "stop_text_encoder" in values:
        found.take("stop_text_encoder", "text_encoder_steps", 0)
    elif share > 0 and steps:
        found.take("stop_text_encoder", "text_encoder_steps", round(min(1.0, share) * steps))
    elif share > 0:
        found.ignore("stop_text_encoder", Message("import.uncounted_share"))
    for theirs, ours in (("save_embedding_every", "checkpointing_steps"), ("save_preview_every", "validation_steps")):
        every = number(values.get(theirs))
        if every <= 0 or (ours == "validation_steps" and "validation_prompts" not in found.settings):
            continue
        if steps and epochs > 0:
            found.take(theirs, ours, max(1, round(every * steps / epochs)))
        else:
            found.ignore(theirs, Message("import.uncounted_epochs"))


def _optimizer(values: dict[str, Any], found: Imported) -> None:
    if name := text_of(values.get("optimizer")) or ("8bit AdamW" if values.get("use_8bit_adam") is True else ""):
        optimizer_names.take(found, "optimizer", name)
    schedule = text_of(values.get("lr_scheduler"))
    if schedule in SCHEDULERS:
        found.take("lr_scheduler", "lr_scheduler", schedule)
    elif schedule:
        found.ignore("lr_scheduler", Message("import.no_scheduler"))
    warmup = number(values.get("lr_warmup_steps"))
    if warmup > 0 and found.settings.get("lr_scheduler", "constant") != "constant":
        found.take("lr_warmup_steps", "lr_warmup_steps", int(warmup))
    for theirs, ours, needed in (
        ("lr_cycles", "lr_num_cycles", "cosine_with_restarts"),
        ("lr_power", "lr_power", "polynomial"),
    ):
        if schedule == needed and not is_nothing(values.get(theirs)):
            found.take(theirs, ours, values[theirs])
