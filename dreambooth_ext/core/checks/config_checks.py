"""Finds every problem with a config at once, without loading a model; the engine checks what needs one.

Standard library only: the tab, the command line and the API call this before a run is created.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..config import devices, stages
from ..config.names import HUB_NAME, MODEL_SUFFIXES, exists, name_problems
from ..config.offload import offload_problems
from ..config.parsing import shown
from ..config.rates import rate_problems
from ..config.run_config import SETTINGS, RunConfig
from ..config.stages import CompletedConfig
from ..data import kohya_dataset, picture_entries, prompt_templates
from ..data.captions import rare_words
from ..data.concepts import Subjects
from ..data.entry import Entry
from ..errors import Problem
from ..facts.distribution import OTHER_ZEROS
from ..facts.methods import FORMATS, METHOD_LABELS, PROMPTED_METHODS, SUBJECT_METHODS, TUNING_METHODS, title
from ..facts.setting import Setting
from ..guide import completion, tables
from ..messages.message import Message, reason_of
from ..shards import shard_checks
from ..system.files import expanded
from . import base_header, method_checks, sharding_checks, without_effect

RESOLUTION_STEP = 64
SMALL_STEP = 8  # of models that draw pixels themselves; theirs also goes by the levels that they have


class Checked(NamedTuple):
    """The completed config, what was filled in and why, the pictures, all problems, and the subjects that were read."""

    config: CompletedConfig
    choices: dict[str, completion.Choice]
    entries: list[Entry]
    problems: list[Problem]
    subjects: Subjects


def check(config: RunConfig, data_set: kohya_dataset.DataSet | None = None) -> Checked:
    """Complete and check a config.

    A value that is out of range is set to its default in the completed config, so that the other checks can still run.
    data_set: the one that `dataset_config` names, if the caller has read it.
    """
    unfit = range_problems(config)
    config = usable(config, unfit)
    subjects = Subjects.within(config, data_set) if data_set and config.dataset_config else Subjects.of(config)
    config, stated = with_data_set(config, subjects.data_set)
    # what the guide says of captions hangs on no number of pictures
    reads = completion.fill_in(config, 0, subjects)[0].use_captions
    entries, picture_problems = picture_entries.entries(config.replace(use_captions=reads), subjects)
    completed, choices = completion.fill_in(config, picture_entries.trained(entries), subjects)
    choices |= stated
    prompted = completed.method in PROMPTED_METHODS
    if (
        prompted
        and completed.validation_steps
        and not completed.validation_prompts
        and (word := _word(completed, entries, subjects))
    ):
        prompts = tables.test_prompts(completed.subject_type, word)
        completed = completed.replace(validation_prompts=prompts)
        choices["validation_prompts"] = completion.Choice(
            prompts, Message("guide.test_prompts", subject=tables.subject(completed.subject_type))
        )
    choices = {name: choice for name, choice in choices.items() if all(name != problem.field for problem in unfit)}
    found = [*problems(completed, config, subjects), *_rate_without_steps(config, completed)]
    typed = {problem.field for problem in found if problem.field.startswith("concepts[")}  # wrong by its kind alone
    found += [problem for problem in picture_problems if problem.field not in typed]
    return Checked(completed, choices, entries, [*unfit, *independent(found, unfit)], subjects)


def with_data_set(
    config: RunConfig, data_set: kohya_dataset.DataSet | None
) -> tuple[RunConfig, dict[str, completion.Choice]]:
    """The config with the run-wide values from kohya's data set for settings that were left out."""
    said = data_set.run if data_set else {}
    taken = {name: value for name, value in said.items() if getattr(config, name) == SETTINGS[name].default != value}
    return config.replace(**taken), {
        name: completion.Choice(value, Message("guide.of_data_set")) for name, value in taken.items()
    }


def _word(config: RunConfig, entries: list[Entry], subjects: Subjects) -> str:
    """The one word that stands for the run's subject; "" if there is none, or more than one."""
    if config.method == "textual_inversion":
        return " ".join(prompt_templates.tokens(config))
    if config.method not in SUBJECT_METHODS:
        return ""
    found = {entry.identifier for entry in entries if not entry.is_class}
    if config.concepts or config.instance_prompt or config.dataset_config:
        marks = {"filewords", "name"}
        found = set().union(*(rare_words(c.instance_prompt or "", c.class_prompt) - marks for c in subjects.concepts))
    return found.pop() if len(found) == 1 else ""


def problems(config: RunConfig, asked: RunConfig | None = None, subjects: Subjects | None = None) -> list[Problem]:
    """Problems with the settings themselves. `asked`: the config before the guide completed it.

    subjects: what the caller has read; None to read it now.
    """
    subjects = subjects or Subjects.of(config)
    found = range_problems(config)
    found += _unused(config)
    found += name_problems(config.name)
    found += _format_problems(config)
    found += _base_problems(config.base_model, needed=config.method in PROMPTED_METHODS)
    found += picture_entries.problems(config, subjects)
    found += shard_checks.problems(asked or config)
    found += rate_problems(config, config.max_train_steps)
    found += _length_problems(config)
    found += _device_problems(config)
    found += sharding_checks.problems(config)
    found += _loss_problems(config)
    found += _mask_problems(config, subjects)
    found += _preview_problems(config)
    found += _hub_problems(config)
    found += method_checks.problems(config, subjects)
    wrong = {problem.field for problem in found}
    return found + [p for p in without_effect.problems(asked or config, config, subjects) if p.field not in wrong]


def range_problems(config: RunConfig) -> list[Problem]:
    """Check each setting by itself: its choices and its range."""
    found = [problem for known in SETTINGS.values() for problem in _range_problems(known, getattr(config, known.name))]
    return found + offload_problems(config.offload)


def usable(config: RunConfig, found: Iterable[Problem]) -> RunConfig:
    """The config with the faulty settings set to their defaults."""
    blamed = {problem.field for problem in found}
    defaults = RunConfig()
    changes = {name: getattr(defaults, name) for name in blamed & SETTINGS.keys()}
    if any(field.endswith("class_prompt") for field in blamed):
        changes["with_prior_preservation"] = False
    return stages.asked(config, **changes)


def independent(found: Iterable[Problem], first: Iterable[Problem]) -> list[Problem]:
    """`found` without problems that may only follow from `first`, so that a fault gives one message: those of the same
    setting, and those that mention a faulty setting."""
    blamed = {problem.field for problem in first}
    if "concepts" in blamed:  # then the single settings are looked for, which are not to be given
        blamed.add("instance_data_dir")
    named = {name for name in blamed & SETTINGS.keys() if "_" in name}  # "name" and "device" are also plain words
    return [
        problem
        for problem in found
        if problem.field not in blamed and not named & set(re.findall(r"\w+", f"{problem.message} {problem.remedy}"))
    ]


def folder_problems(field: str, folder: Path) -> list[Problem]:
    """Why a folder, which need not exist yet, cannot be written to."""
    try:
        place = folder.absolute()
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            return [Problem("settings.folder_is_file", field, folder=str(place))]
    except (OSError, ValueError) as error:
        reason = reason_of(error)
        return [Problem("settings.folder_unusable", field, folder=shown(str(folder)), reason=reason)]
    if not os.access(place, os.W_OK):
        return [Problem("settings.folder_read_only", field, folder=str(place))]
    return []


def _range_problems(known: Setting, value: object) -> list[Problem]:
    if value is None:
        return []
    if known.choices and value not in known.choices:
        if known.name == "distribution" and str(value).lower() in OTHER_ZEROS:
            return [Problem("sharding.other_zero", known.name, value=shown(value))]
        return [Problem("settings.unknown_choice", known.name, value=shown(value), choices=list(known.choices))]
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = known.limits or (value, value)
        if not low <= value <= high:
            said = value if isinstance(value, float) else shown(value)
            return [Problem("settings.out_of_range", known.name, value=said, low=low, high=high)]
    return []


def _unused(config: RunConfig) -> list[Problem]:
    """Problems for settings that the method ignores: they must not look as if they had an effect."""
    if config.method not in METHOD_LABELS:
        return []
    ignored = [known for known in SETTINGS.values() if config.method not in known.methods]
    return [
        Problem("settings.not_of_method", known.name, method=title(config.method))
        for known in ignored
        if getattr(config, known.name) not in (known.default, False)
    ]


def _format_problems(config: RunConfig) -> list[Problem]:
    formats = FORMATS[config.method]
    if config.save_format in formats or len(formats) == 1:  # one alone is no choice: `_unused`
        return []
    method, given = title(config.method), f".{config.save_format}"
    return [Problem("settings.format_of_method", "save_format", method=method, format=given, formats=list(formats))]


def _base_problems(base: str, needed: bool) -> list[Problem]:
    if not base.strip():
        return [Problem("settings.no_base", "base_model")] if needed else []
    is_hub_name = re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not base.lower().endswith(MODEL_SUFFIXES)
    if exists(base):
        return base_header.flow_problems(os.path.abspath(expanded(base)), base_header.family_of(base))
    if base.startswith(("http://", "https://")) or is_hub_name:
        return []
    return [Problem("settings.base_missing", "base_model", path=shown(base))]


def _length_problems(config: RunConfig) -> list[Problem]:
    found = []
    if config.max_train_steps is not None and config.num_train_epochs is not None:
        found.append(Problem("settings.steps_and_epochs", "num_train_epochs"))
    step = RESOLUTION_STEP if config.method in PROMPTED_METHODS else SMALL_STEP
    if config.resolution is not None and config.resolution % step:
        near = max(step, round(config.resolution / step) * step)
        found.append(Problem("settings.not_multiple", "resolution", value=config.resolution, step=step, near=near))
    if config.max_token_length % 75:
        found.append(Problem("settings.token_length", "max_token_length", value=config.max_token_length))
    steps, start = config.max_train_steps, config.checkpointing_start_step
    usual = SETTINGS["checkpointing_steps"].default
    if config.save_every_n_epochs and config.checkpointing_steps not in (usual, 0):
        found.append(Problem("effect.saves_by_epochs", "checkpointing_steps"))
    if (config.checkpointing_steps or config.save_every_n_epochs) and steps and start >= steps > 1:
        found.append(Problem("settings.save_after_end", "checkpointing_start_step", steps=steps))
    return found


def _device_problems(config: RunConfig) -> list[Problem]:
    if not devices.is_sound(config.device):
        return [Problem("processes.list", "device", device=shown(config.device))]
    cards = len(devices.listed(config.device)) if "," in config.device else 1
    if cards > 1 and config.processes not in (1, cards):
        about: dict[str, Any] = {"device": config.device, "cards": cards, "count": config.processes}
        return [Problem("processes.listed", "processes", **about)]
    return []


def _rate_without_steps(config: RunConfig, completed: RunConfig) -> list[Problem]:
    """Problems for text encoder learning rates that were given although the text encoder is not trained."""
    if completed.text_encoder_steps or completed.method not in TUNING_METHODS:
        return []
    names = [name for name in ("text_encoder_lr", "text_encoder_2_lr") if getattr(config, name)]
    return [Problem("effect.no_text_steps", name) for name in names]


def _loss_problems(config: RunConfig) -> list[Problem]:
    found = []
    if config.zero_terminal_snr and config.prediction_type == "epsilon":
        found.append(Problem("settings.last_timestep", "zero_terminal_snr"))
    if config.prediction_type == "sample" and config.method in PROMPTED_METHODS:
        found.append(Problem("settings.no_sample_prediction", "prediction_type"))
    if config.min_timestep >= config.max_timestep:
        found.append(Problem("settings.timesteps", "min_timestep"))
    if config.offset_noise and config.multires_noise_iterations:
        found.append(Problem("settings.two_noises", "multires_noise_iterations"))
    if config.snr_gamma is not None and config.debiased_estimation:
        found.append(Problem("settings.two_weightings", "debiased_estimation"))
    robust = config.loss_type in ("huber", "smooth_l1")
    for name in ("huber_c", "huber_schedule"):
        if not robust and getattr(config, name) != SETTINGS[name].default:
            found.append(Problem("settings.not_of_loss", name, loss=config.loss_type))
    return found


def _mask_problems(config: RunConfig, subjects: Subjects) -> list[Problem]:
    """The problem that the base's own texts cannot be noted in advance, where text encoders or words learn."""
    learns = config.text_encoder_steps or config.placeholder_token
    varies = any(concept.variation.varies_tags for concept in subjects.concepts)
    if config.masked_prior_preservation_weight and learns and varies:
        return [Problem("masks.varying_texts", "masked_prior_preservation_weight")]
    return []


def _preview_problems(config: RunConfig) -> list[Problem]:
    if config.method in PROMPTED_METHODS and config.validation_steps and not config.validation_prompts:
        return [Problem("settings.no_preview_prompts", "validation_prompts")]
    return []


def _hub_problems(config: RunConfig) -> list[Problem]:
    """Check the repository's name; only the engine can check the login."""
    name = config.hub_model_id
    if not config.push_to_hub or not name or (HUB_NAME.fullmatch(name) and len(name) <= 96):
        return []
    return [Problem("settings.repository_name", "hub_model_id", name=shown(config.hub_model_id))]
