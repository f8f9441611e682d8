"""Everything that is wrong with a config, found at once and without loading a model; the engine checks what needs one.

Standard library only: the tab, the command line and the API ask here before a run is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..config import stages
from ..config.names import HUB_NAME, MODEL_SUFFIXES, exists, name_problems
from ..config.parsing import shown
from ..config.rates import rate_problems
from ..config.run_config import SETTINGS, RunConfig
from ..config.stages import CompletedConfig
from ..data import kohya_dataset, picture_entries, prompt_templates
from ..data.captions import rare_words
from ..data.concepts import Subjects
from ..data.entry import Entry
from ..errors import Problem
from ..facts.methods import FORMATS, METHODS, PROMPTED_METHODS, SUBJECT_METHODS, TUNING_METHODS
from ..facts.setting import Setting
from ..guide import completion, tables
from . import method_checks, without_effect

RESOLUTION_STEP = 64
SMALL_STEP = 8  # of models that draw pixels themselves; theirs also goes by the levels that they have


class Checked(NamedTuple):
    """A config completed by the guide, what was filled in and why, the pictures, every problem, and what was read."""

    config: CompletedConfig
    choices: dict[str, completion.Choice]
    entries: list[Entry]
    problems: list[Problem]
    subjects: Subjects


def check(config: RunConfig, data_set: kohya_dataset.DataSet | None = None) -> Checked:
    """A value that is out of range is at its default in the completed config, so that the other checks can still run.

    data_set: that of `dataset_config`, where the caller has read it.
    """
    unfit = range_problems(config)
    config = usable(config, unfit)
    subjects = Subjects.within(config, data_set) if data_set and config.dataset_config else Subjects.of(config)
    config, stated = with_data_set(config, subjects.data_set)
    # what the guide says of captions hangs on no number of pictures
    reads = completion.complete(config, 0, subjects)[0].use_captions
    entries, picture_problems = picture_entries.entries(config.replace(use_captions=reads), subjects)
    completed, choices = completion.complete(config, picture_entries.trained(entries), subjects)
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
            prompts, f"{completed.subject_type}: the guide's test prompts"
        )
    choices = {name: choice for name, choice in choices.items() if all(name != problem.field for problem in unfit)}
    found = [*problems(completed, config, subjects), *_rate_without_steps(config, completed)]
    typed = {problem.field for problem in found if problem.field.startswith("concepts[")}  # wrong by its kind alone
    found += [problem for problem in picture_problems if problem.field not in typed]
    return Checked(completed, choices, entries, [*unfit, *independent(found, unfit)], subjects)


def with_data_set(
    config: RunConfig, data_set: kohya_dataset.DataSet | None
) -> tuple[RunConfig, dict[str, completion.Choice]]:
    """The config with what kohya's data set says of the whole run, where the settings leave it out."""
    said = data_set.run if data_set else {}
    taken = {name: value for name, value in said.items() if getattr(config, name) == SETTINGS[name].default != value}
    return config.replace(**taken), {
        name: completion.Choice(value, "dataset_config says so") for name, value in taken.items()
    }


def _word(config: RunConfig, entries: list[Entry], subjects: Subjects) -> str:
    """The one word that stands for the run's subject, or "" where there is none, or more than one."""
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
    """What is wrong with the settings themselves. `asked`: the config before the guide completed it.

    subjects: what the caller has read; None to read it now.
    """
    subjects = subjects or Subjects.of(config)
    found = range_problems(config)
    found += _unused(config)
    found += name_problems(config.name)
    found += _format_problems(config)
    found += _base_problems(config.base_model, needed=config.method in PROMPTED_METHODS)
    found += picture_entries.problems(config, subjects)
    found += rate_problems(config, config.max_train_steps)
    found += _length_problems(config)
    found += _loss_problems(config)
    found += _preview_problems(config)
    found += _hub_problems(config)
    found += method_checks.problems(config, subjects)
    wrong = {problem.field for problem in found}
    return found + [p for p in without_effect.problems(asked or config, config, subjects) if p.field not in wrong]


def range_problems(config: RunConfig) -> list[Problem]:
    """Each setting looked at by itself."""
    return [problem for known in SETTINGS.values() for problem in _range_problems(known, getattr(config, known.name))]


def usable(config: RunConfig, found: Iterable[Problem]) -> RunConfig:
    """The config with the settings that are wrong at their defaults."""
    blamed = {problem.field for problem in found}
    defaults = RunConfig()
    changes = {name: getattr(defaults, name) for name in blamed & SETTINGS.keys()}
    if any(field.endswith("class_prompt") for field in blamed):
        changes["with_prior_preservation"] = False
    return stages.asked(config, **changes)


def independent(found: Iterable[Problem], first: Iterable[Problem]) -> list[Problem]:
    """`found` without what may only follow from `first`: one message for a fault. That is a second one of the same
    setting, and one that speaks of a setting which is wrong itself."""
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
    """Why nothing could be written into a folder, which need not exist yet."""
    try:
        place = folder.absolute()
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            return [Problem(field, f"'{place}' is a file.", "Give a folder.")]
    except (OSError, ValueError) as error:
        return [
            Problem(
                field, f"{shown(str(folder))} cannot be used: {picture_entries.why(error)}.", "Give another folder."
            )
        ]
    if not os.access(place, os.W_OK):
        return [Problem(field, f"'{place}' cannot be written to.", "Change its permissions, or give another folder.")]
    return []


def _range_problems(known: Setting, value: object) -> list[Problem]:
    if value is None:
        return []
    if known.choices and value not in known.choices:
        return [Problem(known.name, f"{shown(value)} is not known.", f"Choose one of: {', '.join(known.choices)}.")]
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = known.minimum, known.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            return [Problem(known.name, f"{shown(value)} is out of range.", f"Use {known.range}.")]
    return []


def _unused(config: RunConfig) -> list[Problem]:
    """Settings that the chosen method ignores must not look as if they did something."""
    if config.method not in METHODS:
        return []
    ignored = [known for known in SETTINGS.values() if config.method not in known.methods]
    return [
        Problem(known.name, f"the method {config.method} does not use it.", "Leave it out.")
        for known in ignored
        if getattr(config, known.name) not in (known.default, False)
    ]


def _format_problems(config: RunConfig) -> list[Problem]:
    formats = FORMATS[config.method]
    if config.save_format in formats or len(formats) == 1:  # one alone is no choice: `_unused`
        return []
    message = f"the method {config.method} does not write {config.save_format}."
    return [Problem("save_format", message, f"Choose {' or '.join(formats)}.")]


def _base_problems(base: str, needed: bool) -> list[Problem]:
    remedy = "Give a .safetensors or .ckpt file, a diffusers folder, a Hugging Face name or a link."
    if not base.strip():
        return [Problem("base_model", "needs a model to start from.", remedy)] if needed else []
    is_hub_name = re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not base.lower().endswith(MODEL_SUFFIXES)
    if base.startswith(("http://", "https://")) or is_hub_name or exists(base):
        return []
    return [Problem("base_model", f"there is no file or folder {shown(base)}.", remedy)]


def _length_problems(config: RunConfig) -> list[Problem]:
    found = []
    if config.max_train_steps is not None and config.num_train_epochs is not None:
        found.append(Problem("num_train_epochs", "steps and epochs cannot both be given.", "Leave one of them out."))
    step = RESOLUTION_STEP if config.method in PROMPTED_METHODS else SMALL_STEP
    if config.resolution is not None and config.resolution % step:
        near = max(step, round(config.resolution / step) * step)
        found.append(Problem("resolution", f"{config.resolution} is not a multiple of {step}.", f"Use {near}."))
    if config.max_token_length % 75:
        found.append(Problem("max_token_length", f"{config.max_token_length} is not 75, 150 or 225.", "Use 75."))
    steps, start = config.max_train_steps, config.checkpointing_start_step
    usual = SETTINGS["checkpointing_steps"].default
    if config.save_every_n_epochs and config.checkpointing_steps not in (usual, 0):
        message = "has no effect: save_every_n_epochs says when."
        found.append(Problem("checkpointing_steps", message, "Leave one of them out."))
    if (config.checkpointing_steps or config.save_every_n_epochs) and steps and start >= steps > 1:
        found.append(
            Problem("checkpointing_start_step", f"the run ends at step {steps} already.", "Use a smaller number.")
        )
    return found


def _rate_without_steps(config: RunConfig, completed: RunConfig) -> list[Problem]:
    """A text encoder's rate that was asked for, where the text encoder does not train."""
    if completed.text_encoder_steps or completed.method not in TUNING_METHODS:
        return []
    names = [name for name in ("text_encoder_lr", "text_encoder_2_lr") if getattr(config, name)]
    remedy = "Set text_encoder_steps to a number of steps, or leave this out."
    return [Problem(name, "has no effect: text_encoder_steps is 0.", remedy) for name in names]


def _loss_problems(config: RunConfig) -> list[Problem]:
    found = []
    if config.zero_terminal_snr and config.prediction_type == "epsilon":
        message = "a base that predicts noise cannot learn the last timestep."
        found.append(Problem("zero_terminal_snr", message, "Turn it off."))
    if config.prediction_type == "sample" and config.method in PROMPTED_METHODS:
        message = "no base predicts the sample."
        found.append(Problem("prediction_type", message, "Leave it at auto, or train an unconditional model."))
    if config.min_timestep >= config.max_timestep:
        found.append(Problem("min_timestep", "must be below max_timestep.", "0 and 1000 are usual."))
    if config.offset_noise and config.multires_noise_iterations:
        found.append(
            Problem("multires_noise_iterations", "cannot be used along with offset_noise.", "Set one of them to 0.")
        )
    if config.snr_gamma is not None and config.debiased_estimation:
        found.append(Problem("debiased_estimation", "cannot be used along with snr_gamma.", "Choose one of them."))
    robust = config.loss_type in ("huber", "smooth_l1")
    for name in ("huber_c", "huber_schedule"):
        if not robust and getattr(config, name) != SETTINGS[name].default:
            remedy = "Leave it out, or set loss_type to huber or smooth_l1."
            found.append(Problem(name, f"the loss {config.loss_type} does not use it.", remedy))
    return found


def _preview_problems(config: RunConfig) -> list[Problem]:
    if config.method in PROMPTED_METHODS and config.validation_steps and not config.validation_prompts:
        return [
            Problem("validation_prompts", "previews are asked for, but there is nothing to draw.", "Give a prompt.")
        ]
    return []


def _hub_problems(config: RunConfig) -> list[Problem]:
    """Whether a login is there can only be told by the engine."""
    name = config.hub_model_id
    if not config.push_to_hub or not name or (HUB_NAME.fullmatch(name) and len(name) <= 96):
        return []
    message = f"{shown(config.hub_model_id)} cannot be a repository's name."
    return [Problem("hub_model_id", message, "Use owner/name, of Latin letters, digits, -, _ and dots.")]
