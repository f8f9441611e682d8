"""Everything that is wrong with a config, found at once and without loading a model; the engine checks what needs one.

Standard library only: the tab, the command line and the API ask here before a run is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from . import guide, pictures
from .captions import rare_words
from .config import METHODS, NETWORK_TARGETS, PROMPTED_METHODS, SETTINGS, SUBJECT_METHODS, RunConfig, Setting
from .errors import Problem
from .files import expanded
from .parsing import shown
from .pictures import Entry
from .rates import rate_problems

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows' devices
RESOLUTION_STEP = 64
SMALL_STEP = 8  # of models that draw pixels themselves; theirs also goes by the levels that they have
LONGEST_NAME = 100
HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9](?!.*(--|\.\.))[\w.-]*(?<![.-])", re.ASCII)
MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def check(config: RunConfig) -> tuple[RunConfig, dict[str, guide.Choice], list[Entry], list[Problem]]:
    """The config completed by the guide, what was filled in and why, the pictures, and every problem.

    A value that is out of range is at its default in the completed config, so that the other checks can still run.
    """
    unfit = range_problems(config)
    config = usable(config, unfit)
    entries, picture_problems = pictures.entries(config)
    count = sum(not entry.is_class for entry in entries)
    completed, choices = guide.complete(config, count)
    if completed.use_captions != config.use_captions:  # captions are read or not by what the guide filled in
        entries, picture_problems = pictures.entries(completed)
    prompted = completed.method in PROMPTED_METHODS
    if (
        prompted
        and completed.validation_steps
        and not completed.validation_prompts
        and (word := _word(completed, entries))
    ):
        prompts = guide.test_prompts(completed.subject_type, word)
        completed = completed.replace(validation_prompts=prompts)
        choices["validation_prompts"] = guide.Choice(prompts, f"{completed.subject_type}: the guide's test prompts")
    choices = {name: choice for name, choice in choices.items() if all(name != problem.field for problem in unfit)}
    found = [*problems(completed), *_rate_without_steps(config, completed), *picture_problems]
    return completed, choices, entries, [*unfit, *independent(found, unfit)]


def _word(config: RunConfig, entries: list[Entry]) -> str:
    """The one word that stands for the run's subject, or "" where there is none, or more than one."""
    if config.method not in SUBJECT_METHODS:
        return ""
    found = {entry.identifier for entry in entries if not entry.is_class}
    if config.concepts or config.instance_prompt:
        templates = {"filewords", "name"}
        known = pictures.concepts(config)
        found = set().union(*(rare_words(c.instance_prompt or "", c.class_prompt) - templates for c in known))
    return found.pop() if len(found) == 1 else ""


def problems(config: RunConfig) -> list[Problem]:
    """What is wrong with the settings themselves."""
    found = range_problems(config)
    found += _unused(config)
    found += _name_problems(config.name)
    found += _base_problems(config.base_model, needed=config.method in PROMPTED_METHODS)
    found += pictures.problems(config)
    found += rate_problems(config, config.max_train_steps)
    found += _length_problems(config)
    found += _loss_problems(config)
    found += _preview_problems(config)
    found += _hub_problems(config)
    found += _METHOD_PROBLEMS[config.method](config) if config.method in _METHOD_PROBLEMS else []
    return found


def range_problems(config: RunConfig) -> list[Problem]:
    """Each setting looked at by itself."""
    return [problem for known in SETTINGS.values() for problem in _range_problems(known, getattr(config, known.name))]


def usable(config: RunConfig, found: Iterable[Problem]) -> RunConfig:
    """The config with the settings that are wrong at their defaults."""
    blamed = {problem.field for problem in found}
    defaults = RunConfig()
    if any(field.endswith("class_prompt") for field in blamed):
        defaults.with_prior_preservation = False
        blamed.add("with_prior_preservation")
    return config.replace(**{name: getattr(defaults, name) for name in blamed & SETTINGS.keys()})


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
        return [Problem(field, f"{shown(str(folder))} cannot be used: {pictures.why(error)}.", "Give another folder.")]
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


def _name_problems(name: str) -> list[Problem]:
    good = "Use Latin letters, digits, - and _, such as portrait_john."
    if not name:
        return [Problem("name", "needs a value.", good)]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name.endswith("."):
        return [Problem("name", f"{shown(name)} cannot be a model's file name everywhere.", good)]
    if len(name) > LONGEST_NAME:
        return [Problem("name", f"has {len(name)} letters.", f"Use {LONGEST_NAME} at most.")]
    if RESERVED.fullmatch(name):
        return [Problem("name", f"'{name}' cannot be a file name on Windows.", good)]
    return []


def _base_problems(base: str, needed: bool) -> list[Problem]:
    remedy = "Give a .safetensors or .ckpt file, a diffusers folder, a Hugging Face name or a link."
    if not base.strip():
        return [Problem("base_model", "needs a model to start from.", remedy)] if needed else []
    is_hub_name = re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not base.lower().endswith(MODEL_SUFFIXES)
    if base.startswith(("http://", "https://")) or is_hub_name or _exists(base):
        return []
    return [Problem("base_model", f"there is no file or folder {shown(base)}.", remedy)]


def _exists(path: str) -> bool:
    try:
        return expanded(path).exists()
    except (OSError, ValueError):  # too long, a zero byte
        return False


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
    if start and not config.checkpointing_steps:
        message = "has no effect: checkpointing_steps is 0."
        found.append(Problem("checkpointing_start_step", message, "Set that above 0, or leave this out."))
    if config.checkpointing_steps and steps and start >= steps > 1:
        found.append(
            Problem("checkpointing_start_step", f"the run ends at step {steps} already.", "Use a smaller number.")
        )
    return found


def _rate_without_steps(config: RunConfig, completed: RunConfig) -> list[Problem]:
    """A text encoder's rate that was asked for, where the text encoder does not train."""
    if completed.text_encoder_steps:
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
    default_discount = SETTINGS["multires_noise_discount"].default
    if config.multires_noise_discount != default_discount and not config.multires_noise_iterations:
        message = "has no effect: multires_noise_iterations is 0."
        found.append(Problem("multires_noise_discount", message, "Set that to 6 or so, or leave this out."))
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
    if config.ema_decay != SETTINGS["ema_decay"].default and not config.use_ema:
        found.append(Problem("ema_decay", "has no effect: use_ema is off.", "Turn use_ema on, or leave it out."))
    return found


def _preview_problems(config: RunConfig) -> list[Problem]:
    if config.method in PROMPTED_METHODS and config.validation_steps and not config.validation_prompts:
        return [
            Problem("validation_prompts", "previews are asked for, but there is nothing to draw.", "Give a prompt.")
        ]
    return []


def _network_problems(config: RunConfig) -> list[Problem]:
    """A LoRA's settings that cannot be, or would have no effect."""
    if config.network_weights:
        return _continued_problems(config)
    found, kind = [], config.network_type
    targets = config.target_modules
    if unknown := [word for word in targets if word not in NETWORK_TARGETS]:
        message = f"{shown(unknown[0])} is not known."
        found.append(Problem("target_modules", message, f"Choose of: {', '.join(NETWORK_TARGETS)}."))
    for name, rank in config.block_ranks.items():
        if not isinstance(rank, int) or isinstance(rank, bool) or not 0 <= rank <= SETTINGS["rank"].maximum:
            message = f"the rank of {shown(name)} cannot be {shown(rank)}."
            found.append(Problem("block_ranks", message, "Use 0 to 1024, 0 to leave the block out."))
    convolves = "convolutions" in targets
    if kind == "locon" and targets and not convolves:
        remedy = "Add convolutions to target_modules, or choose lora."
        found.append(Problem("network_type", "locon is LoRA with convolutions, and they are left out.", remedy))
    useless = {
        "conv_rank": (not convolves, "no convolutions are trained", "add convolutions to target_modules"),
        "text_encoder_rank": (config.text_encoder_steps == 0, "text_encoder_steps is 0", "set that above 0"),
        "lokr_factor": (kind != "lokr", f"the type {kind} has none", "choose lokr"),
        "loraplus_lr_ratio": (
            kind not in ("lora", "locon", "dora"),
            f"the type {kind} has no up matrix",
            "choose lora",
        ),
        "alpha": (kind == "oft", "the type oft has none", "choose another type"),
        "use_rslora": (kind == "oft", "the type oft has no alpha", "choose another type"),
    }
    for name, (is_so, why, remedy) in useless.items():
        if is_so and getattr(config, name) != SETTINGS[name].default:
            found.append(Problem(name, f"has no effect: {why}.", f"Leave it out, or {remedy}."))
    if config.lokr_factor == 0:
        found.append(Problem("lokr_factor", "cannot be 0.", "Use -1, or 1 and more."))
    return found


def _continued_problems(config: RunConfig) -> list[Problem]:
    """A LoRA that goes on has its own type, ranks and layers."""
    path = config.network_weights
    if not _exists(path) or not path.lower().endswith(MODEL_SUFFIXES):
        remedy = "Give a .safetensors file."
        return [Problem("network_weights", f"{shown(path)} is no LoRA file that is there.", remedy)]
    named = ("network_type", "rank", "alpha", "text_encoder_rank", "conv_rank", "target_modules", "block_ranks")
    given = [n for n in (*named, "use_rslora", "lokr_factor") if getattr(config, n) != SETTINGS[n].default]
    return [
        Problem(name, "has no effect: network_weights names a LoRA, which has its own.", "Leave it out.")
        for name in given
    ]


def _unconditional_problems(config: RunConfig) -> list[Problem]:
    found = []
    if config.model_config and config.base_model:
        message = "has no effect: base_model names a model, which has its own."
        found.append(Problem("model_config", message, "Leave one of them out."))
    elif config.model_config and not (_exists(config.model_config) or HUB_NAME.fullmatch(config.model_config)):
        remedy = "Give a diffusers config.json, or the folder that holds it."
        found.append(Problem("model_config", f"there is no file or folder {shown(config.model_config)}.", remedy))
    steps = config.ddpm_num_inference_steps
    if steps is not None and steps > config.ddpm_num_steps:
        message = f"{steps} are more than the noise has, {config.ddpm_num_steps}."
        found.append(Problem("ddpm_num_inference_steps", message, "Use as many, or fewer."))
    if config.min_timestep >= config.ddpm_num_steps:
        message = f"the noise has no timestep from {config.min_timestep} on: ddpm_num_steps is {config.ddpm_num_steps}."
        found.append(Problem("min_timestep", message, "Use a lower one."))
    for name in ("ema_inv_gamma", "ema_power"):
        if getattr(config, name) is not None and not config.use_ema:
            found.append(Problem(name, "has no effect: use_ema is off.", "Turn use_ema on, or leave it out."))
    return found


def _hub_problems(config: RunConfig) -> list[Problem]:
    """Whether a login is there can only be told by the engine."""
    if config.push_to_hub:
        if config.hub_model_id and not (HUB_NAME.fullmatch(config.hub_model_id) and len(config.hub_model_id) <= 96):
            message = f"{shown(config.hub_model_id)} cannot be a repository's name."
            found = Problem("hub_model_id", message, "Use owner/name, of Latin letters, digits, -, _ and dots.")
            return [found]
        return []
    given = [name for name in ("hub_model_id", "hub_private_repo") if getattr(config, name)]
    remedy = "Turn push_to_hub on, or leave it out."
    return [Problem(name, "has no effect: push_to_hub is off.", remedy) for name in given]


_METHOD_PROBLEMS = {"lora": _network_problems, "unconditional": _unconditional_problems}
