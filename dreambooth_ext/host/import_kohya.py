"""kohya's sd-scripts (TOML, with the data set's configuration pasted below it) and kohya_ss (JSON) as our settings."""

from __future__ import annotations

import ast
import math
import re
from typing import Any

from . import import_kohya_lora
from .imports import Imported, Place, Subject, batch_of, is_nothing, number, set_subjects, steps_of, text_of
from .kohya_names import ALIASES, DIRECT, OPTIMIZERS, READ_APART, SAMPLERS, WHEN, ZERO_IS_SAID, reason_against


def read(values: dict[str, Any], place: Place) -> Imported:
    is_form = "max_resolution" in values or "LoRA_type" in values or "lr_warmup" in values
    found = Imported("kohya_ss" if is_form else "kohya sd-scripts")
    flat = _flattened(values, found)
    is_lora = import_kohya_lora.is_lora(flat)
    import_kohya_lora.read(flat, found, is_form)
    if not is_lora and is_finetuning(flat, values):
        found.take("method", "method", "finetune")
    for name, value in flat.items():
        _simple(name, value, flat, found)
    _tags(flat, found)
    _model(flat, found, place)
    subjects = _subjects(values, flat, found, place)
    steps, epochs = _length(flat, found, subjects, place)
    _every(flat, found, steps, epochs)
    _rates(flat, found, is_lora, is_form, steps)
    _optimizer(flat, found, steps)
    _noise(flat, found)
    return found


def is_finetuning(flat: dict[str, Any], values: dict[str, Any]) -> bool:
    """Whether it is for fine_tune.py: captions from a metadata file, or what only its form has."""
    return any(not is_nothing(flat.get(name)) for name in ("in_json", "metadata_file")) or "create_caption" in values


def _flattened(values: dict[str, Any], found: Imported) -> dict[str, Any]:
    """All options in one table, as sd-scripts itself reads a file with sections; the first data set's go before."""
    flat: dict[str, Any] = {}
    tables = [value for name, value in values.items() if isinstance(value, dict)]
    data_sets = _objects(values.get("datasets"))
    subsets = [item for data_set in data_sets for item in _objects(data_set.get("subsets"))]
    for table in (values, *tables, *data_sets[:1], *subsets[:1]):
        for name, value in table.items():
            if not isinstance(value, dict) and name not in ("datasets", "subsets"):
                flat[ALIASES.get(name, name)] = value
    for index, other in enumerate(data_sets[1:], 1):
        for name in ("resolution", "batch_size", "enable_bucket"):
            if name in other and other[name] != data_sets[0].get(name, other[name]):
                found.ignore(f"datasets[{index}].{name}", "one holds for all pictures here: the first data set's.")
    return flat


def _objects(given: Any) -> list[dict[str, Any]]:
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def _simple(name: str, value: Any, flat: dict[str, Any], found: Imported) -> None:
    """What needs nothing but itself."""
    if is_nothing(value) and name not in ZERO_IS_SAID:
        return
    if name in DIRECT:
        found.take(name, DIRECT[name], value)
    elif name in WHEN:
        ours, needed, values = WHEN[name]
        if flat.get(needed) in values:
            found.take(name, ours, value)
    elif name not in READ_APART:
        found.ignore(name, reason_against(name))


def _tags(flat: dict[str, Any], found: Imported) -> None:
    """Only where tags vary; elsewhere our checks would refuse what kohya passes over."""
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
        found.ignore("save_model_as", "models are written as one file, which the WebUI lists.")
    elif container in ("ckpt", "safetensors"):
        found.take("save_model_as", "save_format", container)
    if size := flat.get("resolution"):
        _resolution(size, found)
    if flat.get("random_crop") is True:
        found.take("random_crop", "center_crop", False)
        if found.settings.pop("cache_latents", None):
            found.ignore("cache_latents", "goes with a crop that stays the same; random_crop is on.")
    if not is_nothing(flat.get("additional_parameters")):
        found.ignore("additional_parameters", "are not read: set them by hand.")
    if not is_nothing(flat.get("dataset_config")):
        _data_set_file(text_of(flat["dataset_config"]), found, place)


def _data_set_file(path: str, found: Imported, place: Place) -> None:
    """A data set's configuration that the text names: by its path, which a run opens. Not for other hosts' files."""
    if place.exists(path):
        found.take("dataset_config", "dataset_config", path)
    else:
        found.ignore(
            "dataset_config", "is not opened: give its whole path, or paste that file's text below this one's."
        )


def _resolution(size: Any, found: Imported) -> None:
    """'512', '512,768' or [512, 768]: one number here, the side of the square of that area."""
    parts = size if isinstance(size, list) else str(size).split(",")
    sides = [number(part) for part in parts][:2]
    if not sides or min(sides) <= 0 or max(sides) > 1e5:
        found.ignore("resolution", "is no size in pixels.")
        return
    side = round(math.sqrt(sides[0] * sides[-1]) / 64) * 64
    found.take("resolution", "resolution", side)
    if any(side != given for given in sides):
        shown = " x ".join(f"{given:g}" for given in sides)
        found.ignore(
            "resolution", f"{shown} became {side}: one number, in steps of 64. Aspect buckets keep proportions."
        )


# --- pictures ---


def _subjects(values: dict[str, Any], flat: dict[str, Any], found: Imported, place: Place) -> list[Subject]:
    data_sets = _objects(values.get("datasets"))
    if data_sets:
        subjects, classes = _from_data_sets(data_sets, flat, found)
    else:
        subjects = _from_folders(flat, "train_data_dir", found, place)
        classes = _from_folders(flat, "reg_data_dir", found, place)
    if not subjects:
        return []
    if found.settings.get("method") == "finetune":
        classes = []
    else:
        found.take("caption_extension", "use_captions", True)  # kohya reads captions wherever there are some
        if "caption_extension" not in found.settings and is_nothing(flat.get("caption_extension")):
            found.take("caption_extension", "caption_extension", ".caption")  # its default
    _match(subjects, classes, found, place)
    epochs = not is_nothing(flat.get("max_train_epochs")) or not is_nothing(flat.get("epoch"))
    set_subjects(found, subjects, counts_epochs=epochs)
    if classes and not is_nothing(flat.get("prior_loss_weight")):
        found.take("prior_loss_weight", "prior_loss_weight", flat["prior_loss_weight"])
    return subjects


def _from_data_sets(data_sets: list[dict[str, Any]], flat: dict[str, Any], found: Imported) -> tuple[list, list]:
    subjects, classes = [], []
    for subset in (item for data_set in data_sets for item in _objects(data_set.get("subsets"))):
        folder = text_of(subset.get("image_dir"))
        if not is_nothing(subset.get("metadata_file")):
            found.ignore("metadata_file", "captions are read from text files beside the pictures.")
        if not folder:
            continue
        repeats = max(1, int(number(subset.get("num_repeats", flat.get("num_repeats")), 1)))
        made = Subject(folder, text_of(subset.get("class_tokens")), repeats)
        (classes if subset.get("is_reg") is True else subjects).append(made)
    return subjects, classes


def _from_folders(flat: dict[str, Any], name: str, found: Imported, place: Place) -> list[Subject]:
    """The folders "10_sks person" in a folder: repeats and words. Others are passed over, as kohya does."""
    parent = text_of(flat.get(name))
    if not parent:
        return []
    if not is_nothing(flat.get("in_json")):
        found.ignore("in_json", "captions are read from text files beside the pictures.")
        return [Subject(parent, "")]
    inner = place.folders(parent)
    if inner is None:
        found.ignore(name, "its folders cannot be seen from here: name folder and prompt of each subject by hand.")
        return []
    named = [(folder, match) for folder in inner if (match := re.fullmatch(r"(\d{1,6})_(.+)", folder))]
    separator = "\\" if "\\" in parent and "/" not in parent else "/"
    return [
        Subject(f"{parent.rstrip('/' + chr(92))}{separator}{folder}", match[2].strip(), max(1, int(match[1])))
        for folder, match in named
    ] or [Subject(parent, "")]


def _match(subjects: list[Subject], classes: list[Subject], found: Imported, place: Place) -> None:
    """Each subject gets the class folder whose words end its own ("sks person": "person"), else the first."""
    for subject in subjects if classes else []:
        fitting = (c for c in classes if c.prompt and subject.prompt.casefold().endswith(c.prompt.casefold()))
        chosen = next(fitting, classes[0])
        if chosen.prompt and chosen.prompt != subject.prompt:
            subject.class_folder, subject.class_prompt = chosen.folder, chosen.prompt
            subject.class_pictures = place.pictures(chosen.folder)
    used = {subject.class_folder for subject in subjects}
    for other in classes:
        if other.folder not in used:
            found.ignore("reg_data_dir", f"'{other.folder[-80:]}' belongs to none of the subjects.")


# --- length, rates, optimizer ---


def _length(
    flat: dict[str, Any], found: Imported, subjects: list[Subject], place: Place
) -> tuple[int | None, int | None]:
    """Steps and epochs of the run, as far as they are known. Epochs go before steps, as in kohya's scripts."""
    epochs, steps = int(number(flat.get("max_train_epochs"))), int(number(flat.get("max_train_steps")))
    if not epochs and not steps:
        epochs = int(number(flat.get("epoch")))
    if epochs > 0:
        found.take("max_train_epochs", "num_train_epochs", epochs)
        if steps:
            found.ignore("max_train_steps", "the number of epochs is given, which goes before it.")
        return steps_of(subjects, epochs, batch_of(flat), place), epochs
    if steps > 0:
        found.take("max_train_steps", "max_train_steps", steps)
        if any(subject.class_prompt for subject in subjects):
            reason = "was taken over. Half of kohya's steps show class pictures; here each step shows both."
            found.ignore("max_train_steps", reason)
        return steps, None
    return None, None


def _every(flat: dict[str, Any], found: Imported, steps: int | None, epochs: int | None) -> None:
    """Saves and previews, which kohya also counts in epochs."""
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
            found.ignore(f"{what}_every_n_epochs", "counts in epochs, and the pictures cannot be counted here.")


def _prompts(flat: dict[str, Any], found: Imported) -> bool:
    """Preview prompts, one a line, without kohya's "--n negative --w 512"."""
    text = text_of(flat.get("sample_prompts"))
    if not text:
        return False
    if "\n" not in text and re.search(r"\.(txt|json|toml)$", text):
        found.ignore("sample_prompts", "is not opened: copy that file's prompts into the preview prompts.")
        return False
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found.take("sample_prompts", "validation_prompts", [re.split(r"\s--\w\s", line)[0].strip() for line in lines])
    if negative := next((m[1].strip() for line in lines if (m := re.search(r"\s--n\s(.*?)(?=\s--\w\s|$)", line))), ""):
        found.take("sample_prompts", "validation_negative_prompt", negative)
    sampler = text_of(flat.get("sample_sampler"))
    if sampler in SAMPLERS:
        found.take("sample_sampler", "validation_sampler", SAMPLERS[sampler])
    elif sampler:
        found.ignore("sample_sampler", f"'{sampler[:50]}' is not there; the default is used.")
    return "validation_prompts" in found.settings


def _rates(flat: dict[str, Any], found: Imported, is_lora: bool, is_form: bool, steps: int | None) -> None:
    if is_lora:
        if import_kohya_lora.rates(flat, found, is_form):
            _text_steps({}, found, is_form, steps)
        else:
            found.take("text_encoder_lr", "text_encoder_steps", 0)
        return
    if not is_nothing(flat.get("learning_rate")):
        found.take("learning_rate", "learning_rate", flat["learning_rate"])
    is_sdxl = flat.get("sdxl") is True or "learning_rate_te" not in flat
    names = ("learning_rate_te1", "learning_rate_te2") if is_sdxl else ("learning_rate_te",)
    given = {name: flat[name] for name in names if name in flat}
    if _trains_text(flat, given, found):
        for (name, rate), ours in zip(given.items(), ("text_encoder_lr", "text_encoder_2_lr"), strict=False):
            found.take(name, ours, rate)
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
    """kohya trains the text encoder to the end unless told otherwise; its form says so in percent."""
    name = "stop_text_encoder_training"
    stop = number(flat.get(name))
    if stop > 0 and not is_form:
        found.take(name, "text_encoder_steps", int(stop))
    elif steps:
        share = min(100.0, stop) / 100 if stop > 0 else 1.0
        found.take(name, "text_encoder_steps", math.ceil(steps * share))
    elif stop > 0:
        found.ignore(name, "is a share of all steps, which cannot be counted here.")


def _optimizer(flat: dict[str, Any], found: Imported, steps: int | None) -> None:
    name = text_of(flat.get("optimizer_type"))
    name = name or ("AdamW8bit" if flat.get("use_8bit_adam") is True else "")
    name = name or ("Lion" if flat.get("use_lion_optimizer") is True else "")
    ours = OPTIMIZERS.get(name.lower())
    if ours:
        found.take("optimizer_type", "optimizer", ours)
    elif name:
        found.ignore("optimizer_type", f"'{name[:50]}' is not there; the machine's best is used.")
    arguments = _arguments(flat.get("optimizer_args"))
    if arguments and not ours:
        found.ignore("optimizer_args", "belong to that optimizer.")
    elif arguments:
        if "weight_decay" in arguments:
            found.take("optimizer_args", "weight_decay", arguments.pop("weight_decay"))
        for fixed in ("relative_step", "warmup_init") if ours == "adafactor" else ("decouple",):
            if arguments.pop(fixed, None) is True and ours == "adafactor":
                found.ignore("optimizer_args", f"{fixed} is off here: the learning rate is the one that you set.")
        if arguments:
            found.take("optimizer_args", "optimizer_args", arguments)
    if found.settings.get("lr_scheduler", "constant") != "constant":
        _warmup(flat, found, steps)


def _warmup(flat: dict[str, Any], found: Imported, steps: int | None) -> None:
    given, percent = number(flat.get("lr_warmup_steps")), number(flat.get("lr_warmup"))
    share = given if 0 < given < 1 else percent / 100 if not given else 0.0
    if share > 0 and steps:
        found.take("lr_warmup", "lr_warmup_steps", round(share * steps))
    elif share > 0:
        found.ignore("lr_warmup", "is a share of all steps, which cannot be counted here.")
    elif given >= 1:
        found.take("lr_warmup_steps", "lr_warmup_steps", int(given))


def _arguments(given: Any) -> dict[str, Any]:
    """["betas=0.9,0.99"], or the form's "betas=0.9,0.99 eps=1e-8"; what is no Python literal stays out."""
    pairs = given if isinstance(given, list) else text_of(given).split()
    found = {}
    for pair in (pair for pair in pairs if isinstance(pair, str) and len(pair) < 200):
        name, is_pair, value = pair.partition("=")
        try:
            literal = ast.literal_eval(value.strip().strip('"'))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if is_pair and name.strip().isidentifier() and isinstance(literal, bool | int | float | tuple | list):
            found[name.strip()] = list(literal) if isinstance(literal, tuple) else literal
    return found


def _noise(flat: dict[str, Any], found: Imported) -> None:
    """What kohya adds up and we refuse to: one of two stays."""
    kind = text_of(flat.get("noise_offset_type")).lower()
    settings = found.settings
    if kind.startswith("multires"):
        settings.pop("offset_noise", None)
    elif kind:
        settings.pop("multires_noise_iterations", None)
    if settings.get("offset_noise") and settings.pop("multires_noise_iterations", None):
        found.ignore("multires_noise_iterations", "cannot be used along with offset noise here.")
    if settings.get("multires_noise_iterations"):
        settings["offset_noise"] = 0.0  # a style's would be filled in
        if not is_nothing(flat.get("multires_noise_discount")):
            found.take("multires_noise_discount", "multires_noise_discount", flat["multires_noise_discount"])
    if flat.get("debiased_estimation_loss") is True:
        if "snr_gamma" in settings:
            found.ignore("debiased_estimation_loss", "cannot be used along with Min-SNR here.")
        else:
            found.take("debiased_estimation_loss", "debiased_estimation", True)
