"""Reads kohya's data set configuration, TOML or JSON: [general], [[datasets]], [[datasets.subsets]].

https://github.com/kohya-ss/sd-scripts/blob/main/docs/config_README-en.md. An option is given in a subset, or above it
for all subsets; otherwise the run's settings hold. Options that would train something different here are problems,
those that differ only in detail are warnings; no option is ignored silently. Paths are relative to the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.parsing import convert, nearest, shown
from ..config.run_config import SETTINGS, RunConfig
from ..errors import Problem
from ..facts.methods import SUBJECT_METHODS
from ..messages.message import Message, reason_of
from ..system import toml
from ..system.files import expanded, parse_json, read_text

FIELD = "dataset_config"
LARGEST = 2**20  # bytes; 5000 subsets
MOST_SUBSETS = 10_000
MOST_PROBLEMS = 100

# Theirs -> ours, where the value means the same
OF_SUBSETS = {
    "alpha_mask": "alpha_as_loss_weight",
    "caption_dropout_rate": "caption_dropout",
    "caption_extension": "caption_extension",
    "caption_separator": "caption_separator",
    "caption_tag_dropout_rate": "tag_dropout",
    "flip_aug": "random_flip",
    "keep_tokens": "keep_tokens",
    "shuffle_caption": "shuffle_tags",
}
OF_RUNS = {"resolution": "resolution", "batch_size": "train_batch_size", "enable_bucket": "enable_bucket"}
MASKS = "conditioning_data_dir"  # with masked_loss a folder of masks, else of a ControlNet's pictures
OWN = ("image_dir", "num_repeats", "class_tokens", "is_reg", "metadata_file", "caption_prefix", "caption_suffix", MASKS)
TABLES = ("datasets", "subsets")
# Names that are refused where they ask for anything, with what asks for nothing, and the problem's code
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "caption_dropout_every_n_epochs": ((0,), "dataset.use_caption_dropout_rate"),
    "color_aug": ((False,), "dataset.unsupported"),
    "enable_wildcard": ((False,), "dataset.no_wildcards"),
    "face_crop_aug_range": (("",), "dataset.unsupported"),
    "keep_tokens_separator": (("",), "dataset.use_keep_tokens"),
    "network_multiplier": ((1,), "dataset.unsupported"),
    "random_crop": ((False,), "dataset.use_center_crop"),
    "secondary_separator": (("",), "dataset.unsupported"),
    "token_warmup_min": ((0, 1), "dataset.unsupported"),
    "token_warmup_step": ((0,), "dataset.unsupported"),
    "validation_split": ((0,), "dataset.use_validation_split"),
}
DIFFERENT = {  # theirs: how it always is here
    "bucket_no_upscale": Message("dataset.pictures_are_enlarged"),
    "bucket_reso_steps": Message("dataset.bucket_steps"),
    "cache_info": Message("dataset.only_latents_are_kept"),
    "max_bucket_reso": Message("dataset.largest_bucket"),
    "min_bucket_reso": Message("dataset.smallest_bucket"),
    "resize_interpolation": Message("dataset.lanczos"),
    "validation_seed": Message("dataset.seed_chooses"),
}
AS_USUAL: dict[str, tuple[Any, ...]] = {
    "bucket_no_upscale": (False,),
    "bucket_reso_steps": (64,),
    "cache_info": (False,),
}
ALL = (*OWN, *OF_SUBSETS, *OF_RUNS, *REFUSED, *DIFFERENT)


@dataclass(frozen=True)
class Subset:
    """One folder of pictures with its own options."""

    folder: str
    prompt: str = ""  # class_tokens: the caption of pictures that have none
    repeats: int = 1
    metadata_file: str = ""  # names the pictures and their captions
    prefix: str = ""
    suffix: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)  # ours, instead of the run's
    mask_folder: str = ""
    class_folder: str = ""
    class_prompt: str = ""


@dataclass
class DataSet:
    subsets: list[Subset] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)  # settings that hold for the whole run
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """Every file and folder that the data set names."""
        named = (path for it in self.subsets for path in (it.folder, it.class_folder, it.metadata_file, it.mask_folder))
        return [path for path in named if path]

    def refuse(self, problem: Problem) -> None:
        self.problems.append(problem)


def read(path: str) -> DataSet:
    """Read a data set's file, with every problem in it."""
    found = DataSet()
    values = _values(path, found)
    for name in values:
        if name not in ("general", "datasets"):
            found.refuse(Problem("dataset.unknown_table", FIELD, name=shown(name)))
    home = str(expanded(path).parent)
    general = values.get("general", {})
    if not isinstance(general, dict):
        found.refuse(Problem("dataset.general_no_table", FIELD))
        general = {}
    data_sets = _tables(values.get("datasets", []), "datasets", found)
    classes: list[Subset] = []
    for index, data_set in enumerate(data_sets):
        place = f"datasets[{index}]"
        _take_run({**general, **data_set}, place, found)
        for number, subset in enumerate(_tables(data_set.get("subsets", []), f"{place}.subsets", found)):
            made, is_class = _subset(general, data_set, subset, f"{place}.subsets[{number}]", home, found)
            (classes if is_class else found.subsets).append(made)
    _state_once(general, data_sets, found)
    found.subsets = _with_classes(found.subsets, classes, found)
    if not found.subsets and not found.problems:
        found.refuse(Problem("dataset.no_pictures", FIELD))
    return found


def _values(path: str, found: DataSet) -> dict[str, Any]:
    file = expanded(path)
    name = shown(str(file))
    try:
        text = read_text(file, LARGEST)
        values = parse_json(text) if file.suffix.lower() == ".json" else toml.loads(text)
    except UnicodeDecodeError:
        found.refuse(Problem("dataset.not_utf8", FIELD, file=name))
    except OSError as error:
        found.refuse(Problem("dataset.unreadable", FIELD, file=name, error=reason_of(error)))
    except (ValueError, RecursionError) as error:  # a zero byte in the path, too
        found.refuse(Problem("dataset.not_parsed", FIELD, file=name, error=reason_of(error)))
    else:
        if isinstance(values, dict):
            return values
        found.refuse(Problem("dataset.holds_none", FIELD, file=name))
    return {}


def _tables(given: Any, name: str, found: DataSet) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given) or len(given) > MOST_SUBSETS:
        found.refuse(Problem("dataset.not_tables", FIELD, name=name, table=name.partition("[")[0]))
        return []
    return given


def _state_once(general: dict[str, Any], data_sets: list[dict[str, Any]], found: DataSet) -> None:
    """Report each unknown, refused or different option once, where it is given."""
    places = [("general", general, True)]
    for index, data_set in enumerate(data_sets):
        places.append((f"datasets[{index}]", data_set, True))
        subsets = data_set.get("subsets", [])
        inner = subsets if isinstance(subsets, list) else []
        places += [(f"datasets[{index}].subsets[{n}]", s, False) for n, s in enumerate(inner) if isinstance(s, dict)]
    for place, table, may_be_of_runs in places:
        if len(found.problems) > MOST_PROBLEMS:
            return
        for name, value in table.items():
            if name in TABLES and may_be_of_runs:
                continue
            if name not in ALL:
                near = nearest(name, ALL) if len(found.problems) < MOST_PROBLEMS else []
                if near:
                    found.refuse(Problem("dataset.misspelt_option", FIELD, place=place, name=shown(name), near=near[0]))
                else:
                    found.refuse(Problem("dataset.unknown_option", FIELD, place=place, name=shown(name)))
            elif name in OF_RUNS and not may_be_of_runs:
                found.refuse(Problem("dataset.option_of_data_sets", FIELD, place=place, name=name))
            elif name in OWN and name not in ("num_repeats", "caption_prefix", "caption_suffix") and may_be_of_runs:
                found.refuse(Problem("dataset.option_of_subsets", FIELD, place=place, name=name))
            elif name in REFUSED and value not in REFUSED[name][0]:
                found.refuse(Problem(REFUSED[name][1], FIELD, place=place, name=name, value=shown(value)))
            elif name in DIFFERENT and value not in AS_USUAL.get(name, ()):
                found.warnings.append(
                    Problem("dataset.option_without_effect", FIELD, place=place, name=name, reason=DIFFERENT[name])
                )


def _take_run(table: dict[str, Any], place: str, found: DataSet) -> None:
    """Take over the options that kohya gives per data set and that hold for the whole run here."""
    for theirs, ours in OF_RUNS.items():
        if theirs not in table:
            continue
        value = table[theirs]
        if theirs == "resolution" and isinstance(value, list):
            if len(set(map(str, value))) != 1:
                found.refuse(Problem("dataset.one_resolution", FIELD, place=place, value=shown(value)))
                continue
            value = value[0]
        value = _converted(theirs, ours, value, place, found)
        if value is not None and found.run.setdefault(ours, value) != value:
            found.refuse(
                Problem("dataset.one_for_all", FIELD, place=place, name=theirs, value=value, before=found.run[ours])
            )


def _subset(
    general: dict[str, Any], data_set: dict[str, Any], subset: dict[str, Any], place: str, home: str, found: DataSet
) -> tuple[Subset, bool]:
    """A subset, and whether it holds class pictures."""
    table = {**general, **data_set, **subset}
    is_class = _typed(table, "is_reg", bool, False, place, found)
    folder = _typed(table, "image_dir", str, "", place, found).strip()
    metadata = _typed(table, "metadata_file", str, "", place, found).strip()
    if not folder and not metadata:
        found.refuse(Problem("dataset.no_image_dir", FIELD, place=place))
    repeats = _typed(table, "num_repeats", int, 1, place, found)
    if repeats < 1:
        found.refuse(Problem("dataset.few_repeats", FIELD, place=place, repeats=repeats))
    if is_class:
        strange = [name for name in subset if name in OF_SUBSETS or name in ("metadata_file", "caption_prefix", MASKS)]
        if repeats > 1 or strange:
            names = [*(["num_repeats"] if repeats > 1 else []), *strange]
            found.warnings.append(Problem("dataset.not_of_class_pictures", FIELD, place=place, names=names))
    taken = {
        ours: _converted(name, ours, table[name], place, found) for name, ours in OF_SUBSETS.items() if name in table
    }
    masks = _typed(table, MASKS, str, "", place, found).strip()
    metadata = os.path.join(home, os.path.expanduser(metadata)) if metadata else ""
    made = Subset(
        folder=os.path.join(home, os.path.expanduser(folder)) if folder else os.path.dirname(metadata),
        prompt=_typed(table, "class_tokens", str, "", place, found).strip(),
        repeats=max(1, repeats),
        metadata_file=metadata,
        prefix=_typed(table, "caption_prefix", str, "", place, found),
        suffix=_typed(table, "caption_suffix", str, "", place, found),
        mask_folder=os.path.join(home, os.path.expanduser(masks)) if masks else "",
        settings={ours: value for ours, value in taken.items() if value is not None},
    )
    return made, is_class


def _typed(table: dict[str, Any], name: str, kind: type, default: Any, place: str, found: DataSet) -> Any:
    value = table.get(name, default)
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    codes = {str: "dataset.not_text", int: "dataset.not_whole", bool: "dataset.not_true_or_false"}
    found.refuse(Problem(codes[kind], FIELD, place=place, name=name, value=shown(value)))
    return default


def _converted(theirs: str, ours: str, value: Any, place: str, found: DataSet) -> Any:
    """The value converted to our setting's type; None if that is not possible."""
    known = SETTINGS[ours]
    try:
        result = convert(known, value)
    except (ValueError, TypeError) as error:
        found.refuse(Problem("dataset.bad_option", FIELD, place=place, name=theirs, error=reason_of(error)))
        return None
    is_number = isinstance(result, int | float) and not isinstance(result, bool)
    if is_number and known.range and not known.minimum <= result <= known.maximum:
        low, high = known.limits
        found.refuse(
            Problem("dataset.out_of_range", FIELD, place=place, name=theirs, value=shown(value), low=low, high=high)
        )
        return None
    return result


def _with_classes(subsets: list[Subset], classes: list[Subset], found: DataSet) -> list[Subset]:
    """Give each subject the class pictures whose prompt ends its own ("sks person": "person"), else the first."""
    if not classes:
        return subsets
    made, used = [], set()
    for subset in subsets:
        fitting = (c for c in classes if c.prompt and subset.prompt.casefold().endswith(c.prompt.casefold()))
        chosen = next(fitting, classes[0])
        used.add(chosen.folder)
        made.append(Subset(**{**vars(subset), "class_folder": chosen.folder, "class_prompt": chosen.prompt}))
    for other in classes:
        if not other.prompt:
            found.refuse(Problem("dataset.no_class_tokens", FIELD, folder=shown(other.folder)))
        if other.folder not in used:
            found.warnings.append(Problem("dataset.class_without_subject", FIELD, folder=shown(other.folder)))
    return made


def problems(config: RunConfig, found: DataSet) -> list[Problem]:
    """Problems in the data set, or between it and the settings."""
    wrong = list(found.problems)
    pictures = (
        "instance_data_dir",
        "instance_prompt",
        "concepts",
        "class_data_dir",
        "class_prompt",
        "num_class_images",
    )
    for name in (*pictures, "repeats_from_folders"):
        if getattr(config, name) not in (SETTINGS[name].default, "", None):
            wrong.append(Problem("dataset.says_it_all", name))
    if not config.masked_loss:
        unused = (subset for subset in found.subsets if subset.mask_folder)
        wrong += [Problem("dataset.masks_are_off", FIELD, folder=shown(subset.mask_folder)) for subset in unused]
        clear = (subset for subset in found.subsets if subset.settings.get("alpha_as_loss_weight"))
        wrong += [Problem("dataset.alpha_is_off", FIELD, folder=shown(subset.folder)) for subset in clear]
    for name, value in found.run.items():
        if getattr(config, name) != value:
            wrong.append(Problem("dataset.says_another", name, asked=getattr(config, name), value=value))
    for name in OF_SUBSETS.values():
        is_own = getattr(config, name) != SETTINGS[name].default
        if is_own and found.subsets and all(name in subset.settings for subset in found.subsets):
            wrong.append(Problem("dataset.says_for_each", name))
    if config.method not in SUBJECT_METHODS and any(subset.class_folder for subset in found.subsets):
        wrong.append(Problem("dataset.unused_class_pictures", FIELD))
    return wrong
