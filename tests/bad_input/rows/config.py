"""Rows: settings that make no sense, one by one and in what they do to each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bad_input import sound
from tests.bad_input.case import Case, Verb
from tests.bad_input.verbs import CHECK, CHECK_REQUEST, RUN_REQUEST, TRAIN

COMMANDS = (CHECK, TRAIN)
ALL = (*COMMANDS, CHECK_REQUEST, RUN_REQUEST)

# (what is given besides the good settings, the field that is blamed, a part of the message)
SETTINGS: list[tuple[dict[str, Any], str, str]] = [
    # --- of the wrong kind
    ({"resolution": "big"}, "resolution", "'big' is not a number"),
    ({"resolution": 512.5}, "resolution", "512.5 is not a whole number"),
    ({"resolution": True}, "resolution", "True is not a number"),
    ({"resolution": "1e999"}, "resolution", "not a finite number"),
    ({"seed": "nan"}, "seed", "not a finite number"),
    ({"seed": [1]}, "seed", "[1] is not a number"),
    ({"seed": "9" * 5000}, "seed", "not a finite number"),
    ({"train_batch_size": None}, "train_batch_size", "needs a value"),
    ({"max_train_steps": "many"}, "max_train_steps", "'many' is not a number"),
    ({"learning_rate": "fast"}, "learning_rate", "'fast' is not a number"),
    ({"learning_rate": {}}, "learning_rate", "is not a number"),
    ({"learning_rate": float("nan")}, "learning_rate", "not a finite number"),
    ({"weight_decay": float("inf")}, "weight_decay", "not a finite number"),
    ({"use_ema": "perhaps"}, "use_ema", "'perhaps' is neither true nor false"),
    ({"use_captions": 2}, "use_captions", "2 is neither true nor false"),
    ({"instance_prompt": {"a": 1}}, "instance_prompt", "is not a text"),
    ({"instance_prompt": "half a letter \ud800"}, "instance_prompt", "characters that cannot be written"),
    ({"base_model": ["a", "b"]}, "base_model", "is not a text"),
    ({"base_model": "a\0b"}, "base_model", "characters that cannot be written"),
    ({"validation_prompts": 5}, "validation_prompts", "is not a list of texts"),
    ({"validation_prompts": [1, 2]}, "validation_prompts", "is not a list of texts"),
    ({"optimizer_args": "{betas"}, "optimizer_args", "is not valid JSON"),
    ({"optimizer_args": [1]}, "optimizer_args", "is not an object"),
    ({"concepts": "[" * 100_000, "instance_data_dir": "", "instance_prompt": ""}, "concepts", "is not valid JSON"),
    ({"concepts": {"a": 1}, "instance_data_dir": "", "instance_prompt": ""}, "concepts", "is not a list of objects"),
    # --- out of range
    ({"resolution": 0}, "resolution", "0 is out of range"),
    ({"resolution": -64}, "resolution", "-64 is out of range"),
    ({"resolution": 4096}, "resolution", "4096 is out of range"),
    ({"train_batch_size": 0}, "train_batch_size", "out of range"),
    ({"train_batch_size": 10**9}, "train_batch_size", "1000000000 is out of range"),
    ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps", "out of range"),
    ({"max_train_steps": 0}, "max_train_steps", "0 is out of range"),
    ({"num_train_epochs": 0, "max_train_steps": None}, "num_train_epochs", "out of range"),
    ({"text_encoder_steps": -5}, "text_encoder_steps", "-5 is out of range"),
    ({"seed": -1}, "seed", "-1 is out of range"),
    ({"seed": 2**32}, "seed", "4294967296 is out of range"),
    ({"caption_dropout": 1.5}, "caption_dropout", "1.5 is out of range"),
    ({"clip_skip": 0}, "clip_skip", "0 is out of range"),
    ({"snr_gamma": 0}, "snr_gamma", "out of range"),
    ({"offset_noise": 3}, "offset_noise", "out of range"),
    ({"min_timestep": 1000}, "min_timestep", "1000 is out of range"),
    ({"max_grad_norm": -1}, "max_grad_norm", "out of range"),
    ({"checkpoints_total_limit": 0}, "checkpoints_total_limit", "out of range"),
    ({"num_class_images": 0, "class_prompt": "a person"}, "num_class_images", "out of range"),
    ({"prior_loss_weight": -1, "class_prompt": "a person"}, "prior_loss_weight", "out of range"),
    ({"validation_inference_steps": 5000}, "validation_inference_steps", "out of range"),
    # --- unknown names
    ({"lerning_rate": 1e-6}, "lerning_rate", "no setting of this name"),
    ({"learningRate": 1e-6}, "learningRate", "no setting of this name"),
    ({"xyzzy": 1}, "xyzzy", "no setting of this name"),
    ({"method": "hypernet"}, "method", "'hypernet' is not known"),
    ({"subject_type": "dog"}, "subject_type", "'dog' is not known"),
    ({"optimizer": "adam"}, "optimizer", "'adam' is not known"),
    ({"lr_scheduler": "cosin", "lr_warmup_steps": 5}, "lr_scheduler", "'cosin' is not known"),
    ({"loss_type": "mse", "huber_c": 1}, "loss_type", "'mse' is not known"),
    ({"mixed_precision": "fp8"}, "mixed_precision", "'fp8' is not known"),
    ({"save_format": "pt"}, "save_format", "DreamBooth does not write .pt files"),
    ({"prediction_type": "v"}, "prediction_type", "'v' is not known"),
    ({"validation_sampler": "DPM"}, "validation_sampler", "'DPM' is not known"),
    # --- conflicts, and settings that would do nothing
    ({"num_train_epochs": 3}, "num_train_epochs", "cannot both be set"),
    ({"resolution": 100}, "resolution", "not a multiple of 64"),
    ({"max_token_length": 100}, "max_token_length", "not 75, 150 or 225"),
    ({"checkpointing_steps": 10, "checkpointing_start_step": 100}, "checkpointing_start_step", "ends at step 100"),
    (
        {"checkpointing_steps": 0, "checkpointing_start_step": 50},
        "checkpointing_start_step",
        "checkpointing_steps is 0",
    ),
    ({"zero_terminal_snr": True, "prediction_type": "epsilon"}, "zero_terminal_snr", "cannot learn"),
    ({"min_timestep": 500, "max_timestep": 400}, "min_timestep", "below max_timestep"),
    ({"multires_noise_discount": 0.5}, "multires_noise_discount", "has no effect"),
    (
        {"offset_noise": 0.1, "multires_noise_iterations": 6},
        "multires_noise_iterations",
        "combined with offset_noise",
    ),
    ({"snr_gamma": 5, "debiased_estimation": True}, "debiased_estimation", "cannot be combined with snr_gamma"),
    ({"huber_c": 1}, "huber_c", "the loss l2 does not use this setting"),
    ({"ema_decay": 0.5}, "ema_decay", "use_ema is off"),
    ({"ema_decay": 0.5, "use_ema": "maybe"}, "use_ema", "neither true nor false"),
    ({"validation_steps": 10, "instance_prompt": "a photo of a cat"}, "validation_prompts", "no prompt to draw"),
    ({"text_encoder_lr": 1e-6, "text_encoder_steps": 0}, "text_encoder_lr", "text_encoder_steps is 0"),
    ({"center_crop": False, "cache_latents": True}, "cache_latents", "always have the same crop"),
    ({"cache_latents": False, "cache_latents_to_disk": True}, "cache_latents_to_disk", "has no effect"),
    ({"keep_tokens": 2}, "keep_tokens", "shuffle_tags and tag_dropout are off"),
    ({"caption_extension": ".jpg"}, "caption_extension", "not a file extension"),
    ({"method": "finetune", "class_prompt": "a person"}, "class_prompt", "Fine-tuning does not use this setting"),
    ({"method": "finetune", "with_prior_preservation": True}, "with_prior_preservation", "does not use this setting"),
    ({"method": "finetune", "text_encoder_lr": 1e-6, "text_encoder_steps": None}, "text_encoder_lr", "has no effect"),
    # --- class pictures
    ({"with_prior_preservation": True}, "class_prompt", "is missing"),
    ({"num_class_images": 50}, "class_prompt", "is missing"),
    ({"prior_loss_weight": 0.5}, "class_prompt", "is missing"),
    ({"class_data_dir": "to-come"}, "class_prompt", "is missing"),
    ({"class_prompt": "a photo of sksper person"}, "class_prompt", "the same as the instance prompt"),
    # --- rates and their schedules
    ({"learning_rate": "1e-6:abc"}, "learning_rate", "'abc' in '1e-6:abc' is not a whole number of steps"),
    ({"learning_rate": "x:5, 1e-6"}, "learning_rate", "'x' in 'x:5' is not a number"),
    ({"learning_rate": "1e-6, 2e-6"}, "learning_rate", "is never reached"),
    ({"learning_rate": "1e-6:50, 2e-6:40, 1e-6"}, "learning_rate", "above the step before it"),
    ({"learning_rate": "1e-6:50"}, "learning_rate", "ends at step 50"),
    ({"learning_rate": ",,"}, "learning_rate", "contains no number"),
    ({"learning_rate": -1e-6}, "learning_rate", "must be 0 or more"),
    ({"learning_rate": 0, "text_encoder_lr": 0}, "learning_rate", "nothing is learned"),
    ({"learning_rate": "1e-6:50, 1e-7", "lr_scheduler": "cosine"}, "lr_scheduler", "combined with the schedule"),
    ({"lr_scheduler": "polynomial", "learning_rate": 1e-8, "text_encoder_steps": 0}, "learning_rate", "not below"),
    ({"lr_warmup_steps": 5}, "lr_warmup_steps", "has no effect: lr_scheduler is 'constant'"),
    ({"lr_warmup_steps": 500, "lr_scheduler": "cosine"}, "lr_warmup_steps", "below the run's 100 steps"),
    ({"lr_num_cycles": 3}, "lr_num_cycles", "has no effect"),
    ({"lr_power": 2}, "lr_power", "has no effect"),
    (
        {"optimizer": "prodigy", "learning_rate": 1e-6, "text_encoder_steps": 0},
        "learning_rate",
        "finds the learning rate itself",
    ),
    # --- names and places
    ({"name": "my model"}, "name", "not a file name that works everywhere"),
    ({"name": "портрет"}, "name", "not a file name that works everywhere"),
    ({"name": "../up"}, "name", "not a file name that works everywhere"),
    ({"name": "mine.safetensors"}, "name", "ends like a file"),
    ({"name": "mine.PT"}, "name", "ends like a file"),
    ({"name": "con"}, "name", "on Windows"),
    ({"name": " "}, "name", "is blank"),
    ({"name": "\t\n"}, "name", "is blank"),
    ({"name": "a" * 200}, "name", "has 200 characters"),
    ({"base_model": ""}, "base_model", "needs a model"),
    ({"base_model": "  "}, "base_model", "needs a model"),
    ({"base_model": "sd15"}, "base_model", "no file or folder 'sd15'"),
    ({"base_model": "models/none.safetensors"}, "base_model", "no file or folder"),
    ({"base_model": "x" * 50}, "base_model", "no file or folder"),
    ({"base_model": "ftp://host/a.ckpt"}, "base_model", "no file or folder"),
    ({"instance_data_dir": ""}, "instance_data_dir", "needs a folder"),
    ({"instance_data_dir": "no/such/folder"}, "instance_data_dir", "there is no folder"),
    ({"instance_data_dir": "y" * 500}, "instance_data_dir", "cannot be read"),
]

CONCEPTS: list[tuple[dict[str, Any], str, str]] = [
    ({"instance_dir": "x"}, "concepts[0].instance_dir", "no setting with this name"),
    ({"repeats": 0}, "concepts[0].repeats", "not a whole number above 0"),
    ({"repeats": True}, "concepts[0].repeats", "not a whole number above 0"),
    ({"num_class_images": "many"}, "concepts[0].num_class_images", "not a whole number above 0"),
    ({"instance_prompt": 5}, "concepts[0].instance_prompt", "is not text"),
    ({"instance_data_dir": "none/here"}, "concepts[0].instance_data_dir", "there is no folder"),
    ({"instance_data_dir": ""}, "concepts[0].instance_data_dir", "needs a folder"),
    ({"class_prompt": "sksper"}, "concepts[0].class_prompt", "the same as the instance prompt"),
    ({"class_data_dir": "class"}, "concepts[0].class_prompt", "is missing"),
]


def besides(values: dict[str, Any]) -> Callable[[Path], dict[str, Any]]:
    """The good settings, and these."""
    return lambda folder: sound.settings(folder) | values


def as_concept(values: dict[str, Any]) -> Callable[[Path], dict[str, Any]]:
    """The good settings, with their subject in the list of them."""

    def make(folder: Path) -> dict[str, Any]:
        given = sound.settings(folder)
        concept = {"instance_data_dir": given.pop("instance_data_dir"), "instance_prompt": "sksper"} | values
        del given["instance_prompt"]
        return given | {"concepts": [concept]}

    return make


def verbs(values: dict[str, Any]) -> tuple[Verb, ...]:
    """A request cannot carry numbers that are none: no JSON is made of them."""
    return ALL if "NaN" not in json.dumps(values) and "Infinity" not in json.dumps(values) else COMMANDS


def named(kind: str, values: dict[str, Any]) -> str:
    return f"{kind}: {values}"[:70]


CASES = [Case(named("setting", row[0]), besides(row[0]), verbs(row[0]), *row[1:]) for row in SETTINGS]
CASES += [Case(named("concept", row[0]), as_concept(row[0]), verbs(row[0]), *row[1:]) for row in CONCEPTS]
