"""Imports kohya's sd-scripts configurations (TOML, optionally with the data set's below it) and kohya_ss' (JSON)."""

from __future__ import annotations

import math
import re
from typing import Any

from ...core.data import kohya_dataset
from ...core.facts.methods import FORMATS
from ...core.messages.message import Message
from . import kohya_lora, kohya_names, kohya_optimizer, kohya_pictures, kohya_textual_inversion
from .common import Imported, Place, Subject, batch_of, is_nothing, number, steps_of, text_of
from .kohya_names import ALIASES, DIRECT, READ_APART, SAMPLERS, WHEN, ZERO_IS_SAID, reason_against


def read(values: dict[str, Any], place: Place) -> Imported:
    is_form = "max_resolution" in values or "LoRA_type" in values or "lr_warmup" in values
    found = Imported("kohya_ss" if is_form else "kohya sd-scripts")
    found.given = flat = _flattened(values, found)
    method = method_of(flat, values)
    _method(method, flat, found, is_form)
    for name, value in flat.items():
        _simple(name, value, flat, found)
    _tags(flat, found)
    _model(flat, found, place)
    subjects = kohya_pictures.read(values, flat, found, place)
    steps, epochs = _length(flat, found, subjects, place)
    _every(flat, found, steps, epochs)
    _rates(flat, found, method, is_form, steps)
    kohya_optimizer.read(flat, found, steps)
    _noise(flat, found)
    found.settle()
    return found


def method_of(flat: dict[str, Any], values: dict[str, Any]) -> str:
    """The training method of the text. A form lists its own names even if empty; a script's file only what it sets."""
    names = {name for table in (values, *(v for v in values.values() if isinstance(v, dict))) for name in table}
    given = {name for name, value in flat.items() if not is_nothing(value)}
    if "LoRA_type" in names or "network_module" in given:
        return "lora"
    if "token_string" in names or given.intersection(kohya_names.WORD_NAMES):
        return "textual_inversion"
    if names & kohya_names.FINETUNE_NAMES or given.intersection(kohya_names.METADATA_NAMES):
        return "finetune"
    return "lora" if given.intersection(kohya_names.LORA_NAMES) else "dreambooth"


def _method(method: str, flat: dict[str, Any], found: Imported, is_form: bool) -> None:
    """Import the method and the settings that only it has."""
    if method == "lora":
        kohya_lora.read(flat, found, is_form)
    else:
        kohya_lora.pass_over(flat, found)
    if method == "textual_inversion":
        kohya_textual_inversion.read(flat, found)
    if method == "finetune":
        found.take("method", "method", "finetune")
    for name in kohya_names.OTHER_KINDS:
        if flat.get(name) is True:
            found.ignore(name, Message("import.other_kind"))


def _flattened(values: dict[str, Any], found: Imported) -> dict[str, Any]:
    """All options in one table, as sd-scripts reads a file with sections; the first data set's take precedence."""
    flat: dict[str, Any] = {}
    tables = [value for name, value in values.items() if isinstance(value, dict)]
    data_sets = kohya_pictures.objects(values.get("datasets"))
    subsets = [item for data_set in data_sets for item in kohya_pictures.objects(data_set.get("subsets"))]
    for table in (values, *tables, *data_sets[:1], *subsets[:1]):
        for name, value in table.items():
            if not isinstance(value, dict) and name not in ("datasets", "subsets"):
                flat[ALIASES.get(name, name)] = value
    for index, other in enumerate(data_sets[1:], 1):
        for name in ("resolution", "batch_size", "enable_bucket"):
            if name in other and other[name] != data_sets[0].get(name, other[name]):
                found.ignore(f"datasets[{index}].{name}", Message("import.first_data_set"))
    return flat


def _simple(name: str, value: Any, flat: dict[str, Any], found: Imported) -> None:
    """Import an option that depends on no other."""
    if is_nothing(value) and name not in ZERO_IS_SAID:
        return
    if name in DIRECT:
        found.take(name, DIRECT[name], value)
    elif name in WHEN:
        ours, needed, values = WHEN[name]
        if flat.get(needed) in values:
            found.take(name, ours, value)
    elif name in kohya_names.OF_TYPES and not kohya_lora.has_type(flat, kohya_names.OF_TYPES[name]):
        return  # kohya_ss writes it for all types
    elif name not in READ_APART and value not in kohya_dataset.AS_USUAL.get(name, ()):
        found.ignore(name, reason_against(name), value)


def _tags(flat: dict[str, Any], found: Imported) -> None:
    """Import tag options only if tags vary; otherwise our checks would refuse what kohya ignores."""
    if found.settings.get("shuffle_tags") or found.settings.get("tag_dropout"):
        for name in ("keep_tokens", "caption_separator"):
            if not is_nothing(flat.get(name)):
                found.take(name, name, flat[name])


def _model(flat: dict[str, Any], found: Imported, place: Place) -> None:
    if base := text_of(flat.get("pretrained_model_name_or_path")):
        found.take("pretrained_model_name_or_path", "base_model", place.base(base))
    if name := re.sub(r"[^A-Za-z0-9_-]+", "_", text_of(flat.get("output_name"))).strip("_-")[:60]:
        found.take("output_name", "name", name)
    if flat.get("v_parameterization") is True:
        found.take("v_parameterization", "prediction_type", "v_prediction")
    if precision := text_of(flat.get("save_precision")):
        found.take("save_precision", "save_precision", {"float": "fp32"}.get(precision, precision))
    container = text_of(flat.get("save_model_as"))
    if container.startswith("diffusers"):
        found.ignore("save_model_as", Message("import.one_file"))
    elif container in FORMATS[found.settings.get("method", "dreambooth")]:
        found.take("save_model_as", "save_format", container)
    elif container:
        found.ignore("save_model_as", Message("import.no_format"))
    if size := flat.get("resolution"):
        _resolution(size, found)
    if flat.get("random_crop") is True:
        found.take("random_crop", "center_crop", False)
        if found.settings.pop("cache_latents", None):
            found.ignore("cache_latents", Message("import.needs_fixed_crop"))
    if not is_nothing(flat.get("additional_parameters")):
        found.ignore("additional_parameters", Message("import.not_read"))
    if not is_nothing(flat.get("dataset_config")):
        _data_set_file(text_of(flat["dataset_config"]), found, place)


def _data_set_file(path: str, found: Imported, place: Place) -> None:
    """Import the path of a data set's configuration, which a run opens; only if it exists on this machine."""
    if place.exists(path):
        found.take("dataset_config", "dataset_config", path)
    else:
        found.ignore("dataset_config", Message("import.data_set_not_opened"))


def _resolution(size: Any, found: Imported) -> None:
    """Convert '512', '512,768' or [512, 768] to one number, the side of the square with the same area."""
    parts = size if isinstance(size, list) else str(size).split(",")
    sides = [number(part) for part in parts][:2]
    if not sides or min(sides) <= 0 or max(sides) > 1e5:
        found.ignore("resolution", Message("import.no_size"))
        return
    side = round(math.sqrt(sides[0] * sides[-1]) / 64) * 64
    found.take("resolution", "resolution", side)
    if any(side != given for given in sides):
        given = " x ".join(f"{one:g}" for one in sides)
        found.ignore("resolution", Message("import.became_square", given=given, side=side))


# --- length, rates, optimizer ---


def _length(
    flat: dict[str, Any], found: Imported, subjects: list[Subject], place: Place
) -> tuple[int | None, int | None]:
    """The run's steps and epochs, as far as known. Epochs take precedence, as in kohya's scripts."""
    epochs, steps = int(number(flat.get("max_train_epochs"))), int(number(flat.get("max_train_steps")))
    if not epochs and not steps:
        epochs = int(number(flat.get("epoch")))
    if epochs > 0:
        epochs *= _passes(found, subjects)
        found.take("max_train_epochs", "num_train_epochs", epochs)
        if steps:
            found.ignore("max_train_steps", Message("import.epochs_first"))
        once = [Subject(s.folder, s.prompt) for s in subjects] if _passes(found, subjects) > 1 else subjects
        return steps_of(once, epochs, batch_of(flat), place), epochs
    if steps > 0:
        found.take("max_train_steps", "max_train_steps", steps)
        if any(subject.class_prompt for subject in subjects):
            found.ignore("max_train_steps", Message("import.class_steps"))
        return steps, None
    return None, None


def _passes(found: Imported, subjects: list[Subject]) -> int:
    """How often kohya repeats one folder's pictures in an epoch, where an epoch here has each once."""
    is_one = len(subjects) == 1 and not found.settings.get("repeats_from_folders")
    return subjects[0].repeats if is_one and found.settings.get("method") in ("finetune", "textual_inversion") else 1


def _every(flat: dict[str, Any], found: Imported, steps: int | None, epochs: int | None) -> None:
    """Import the intervals of saves and previews, which kohya also counts in epochs."""
    prompts = _prompts(flat, found)
    for what, ours in (("save", "checkpointing_steps"), ("sample", "validation_steps")):
        by_step, by_epoch = number(flat.get(f"{what}_every_n_steps")), number(flat.get(f"{what}_every_n_epochs"))
        if ours == "validation_steps" and not prompts:
            continue
        if by_step > 0:
            found.take(f"{what}_every_n_steps", ours, int(by_step))
        elif by_epoch > 0 and what == "save":
            found.take("save_every_n_epochs", "save_every_n_epochs", int(by_epoch))
        elif by_epoch > 0 and steps and epochs:
            found.take(f"{what}_every_n_epochs", ours, max(1, round(by_epoch * steps / epochs)))
        elif by_epoch > 0:
            found.ignore(f"{what}_every_n_epochs", Message("import.uncounted_epochs"))


def _prompts(flat: dict[str, Any], found: Imported) -> bool:
    """Import preview prompts, one per line, without kohya's "--n negative --w 512"."""
    text = text_of(flat.get("sample_prompts"))
    if not text:
        return False
    if "\n" not in text and re.search(r"\.(txt|json|toml)$", text):
        found.ignore("sample_prompts", Message("import.prompts_not_opened"))
        return False
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found.take("sample_prompts", "validation_prompts", [re.split(r"\s--\w\s", line)[0].strip() for line in lines])
    if negative := next((m[1].strip() for line in lines if (m := re.search(r"\s--n\s(.*?)(?=\s--\w\s|$)", line))), ""):
        found.take("sample_prompts", "validation_negative_prompt", negative)
    sampler = text_of(flat.get("sample_sampler"))
    if sampler in SAMPLERS:
        found.take("sample_sampler", "validation_sampler", SAMPLERS[sampler])
    elif sampler:
        found.ignore("sample_sampler", Message("import.no_sampler", sampler=sampler[:50]))
    return "validation_prompts" in found.settings


def _rates(flat: dict[str, Any], found: Imported, method: str, is_form: bool, steps: int | None) -> None:
    if method == "lora":
        if kohya_lora.rates(flat, found, is_form):
            _text_steps({}, found, is_form, steps)
        else:
            found.take("text_encoder_lr", "text_encoder_steps", 0)
        return
    if not is_nothing(flat.get("learning_rate")):
        found.take("learning_rate", "learning_rate", flat["learning_rate"])
    if method == "textual_inversion":
        return
    two_encoders = flat.get("sdxl") is True or "learning_rate_te" not in flat
    names = ("learning_rate_te1", "learning_rate_te2") if two_encoders else ("learning_rate_te",)
    given = {name: flat[name] for name in names if name in flat}
    if _trains_text(flat, given, found):
        for (name, rate), ours in zip(given.items(), ("text_encoder_lr", "text_encoder_2_lr"), strict=False):
            found.take(name, ours, rate)
        if not given and not is_nothing(flat.get("learning_rate")):  # then it holds for both
            found.take("learning_rate", "text_encoder_lr", flat["learning_rate"])
        _text_steps(flat, found, is_form, steps)
    else:
        found.take("text_encoder_lr", "text_encoder_steps", 0)


def _trains_text(flat: dict[str, Any], given: dict[str, Any], found: Imported) -> bool:
    if found.settings.get("method") == "finetune" or flat.get("sdxl") is True or "train_text_encoder" in flat:
        return flat.get("train_text_encoder") is True or any(number(rate) for rate in given.values())
    if number(flat.get("stop_text_encoder_training")) < 0:
        return False
    return not given or any(number(rate) for rate in given.values())


def _text_steps(flat: dict[str, Any], found: Imported, is_form: bool, steps: int | None) -> None:
    """Import how long the text encoder trains: in kohya to the end by default; its form gives a percentage."""
    name = "stop_text_encoder_training"
    stop = number(flat.get(name))
    if stop > 0 and not is_form:
        found.take(name, "text_encoder_steps", int(stop))
    elif steps:
        share = min(100.0, stop) / 100 if stop > 0 else 1.0
        found.take(name, "text_encoder_steps", math.ceil(steps * share))
    elif stop > 0:
        found.ignore(name, Message("import.uncounted_share"))
    else:
        found.ignore(name, Message("import.text_encoder_to_the_end"))


def _noise(flat: dict[str, Any], found: Imported) -> None:
    """Import one of two settings that kohya adds up and that we refuse together."""
    kind = text_of(flat.get("noise_offset_type")).lower()
    settings = found.settings
    if kind.startswith("multires"):
        settings.pop("offset_noise", None)
    elif kind:
        settings.pop("multires_noise_iterations", None)
    if settings.get("offset_noise") and settings.pop("multires_noise_iterations", None):
        found.ignore("multires_noise_iterations", Message("import.with_offset_noise"))
    if settings.get("multires_noise_iterations"):
        settings["offset_noise"] = 0.0  # a style's would be filled in
        if not is_nothing(flat.get("multires_noise_discount")):
            found.take("multires_noise_discount", "multires_noise_discount", flat["multires_noise_discount"])
    if flat.get("debiased_estimation_loss") is True:
        if "snr_gamma" in settings:
            found.ignore("debiased_estimation_loss", Message("import.with_min_snr"))
        else:
            found.take("debiased_estimation_loss", "debiased_estimation", True)
