"""Imports kohya's picture folders and data sets."""

from __future__ import annotations

import re
from typing import Any

from ...core.facts.methods import SUBJECT_METHODS
from ...core.messages.message import Message
from .common import NO_COUNTERPART, Imported, Place, Subject, is_nothing, number, set_subjects, text_of
from .kohya_names import METADATA_NAMES

CAPTIONS = Message("import.captions_beside")


def read(values: dict[str, Any], flat: dict[str, Any], found: Imported, place: Place) -> list[Subject]:
    data_sets = objects(values.get("datasets"))
    _masks(values, data_sets, flat, found)
    method = found.settings.get("method", "dreambooth")
    if method not in SUBJECT_METHODS:
        return _without_concepts(data_sets, flat, found, place)
    has_metadata, folder = _metadata(flat, found), text_of(flat.get("train_data_dir"))
    if data_sets:
        subjects, classes = _from_data_sets(data_sets, flat, found)
    elif has_metadata and folder:  # with it sd-scripts reads no repeats and words from folders' names
        subjects, classes = [Subject(folder, "", _repeats(flat))], []
    else:
        subjects = _from_folders(flat, "train_data_dir", found, place)
        classes = _from_folders(flat, "reg_data_dir", found, place)
    names_any = any(not is_nothing(flat.get(name)) for name in ("train_data_dir", "caption_extension"))
    if subjects or names_any:
        found.take("caption_extension", "use_captions", True)  # kohya reads captions wherever there are some
        if "caption_extension" not in found.settings and is_nothing(flat.get("caption_extension")):
            found.take("caption_extension", "caption_extension", ".caption")  # its default
    if not subjects:
        return []
    _match(subjects, classes, found, place)
    epochs = not is_nothing(flat.get("max_train_epochs")) or not is_nothing(flat.get("epoch"))
    set_subjects(found, subjects, counts_epochs=epochs)
    if classes and not is_nothing(flat.get("prior_loss_weight")):
        found.take("prior_loss_weight", "prior_loss_weight", flat["prior_loss_weight"])
    return subjects


def _masks(values: dict[str, Any], data_sets: list[dict[str, Any]], flat: dict[str, Any], found: Imported) -> None:
    """Import the masked loss as kohya's scripts have it: what is black counts nothing, and a small mask counts less."""
    (general,) = objects([values.get("general")]) or [{}]
    tables = [{**general, **data_set, **one} for data_set in data_sets for one in objects(data_set.get("subsets"))]
    if len({table.get("alpha_mask") is True for table in tables}) > 1:
        found.ignore("alpha_mask", Message("import.first_data_set"))
    if flat.get("masked_loss") is True or flat.get("alpha_mask") is True:
        asked = "masked_loss" if flat.get("masked_loss") is True else "alpha_mask"
        found.take(asked, "masked_loss", True)
        found.take(asked, "unmasked_weight", 0)
        found.take(asked, "normalize_masked_area_loss", False)
    elif not is_nothing(flat.get("conditioning_data_dir")):
        found.ignore("conditioning_data_dir", NO_COUNTERPART)


def _without_concepts(
    data_sets: list[dict[str, Any]], flat: dict[str, Any], found: Imported, place: Place
) -> list[Subject]:
    """Import the one folder of a method without concepts; folders such as "10_zkz cat" in it keep their repeats."""
    if not is_nothing(flat.get("reg_data_dir")):
        found.ignore("reg_data_dir", Message("import.no_class_pictures"))
    _metadata(flat, found)
    if text_of(flat.get("caption_metadata_filename")) and flat.get("create_caption") is False:
        found.ignore("caption_metadata_filename", CAPTIONS)
    if data_sets:
        subjects, classes = _from_data_sets(data_sets, flat, found)
        for other in (*subjects[1:], *classes):
            found.ignore("image_dir", Message("import.other_folder"), other.folder)
        folder, subjects = subjects[0].folder if subjects else "", subjects[:1]
    else:
        folder = text_of(flat.get("train_data_dir"))
        subjects = [Subject(folder, "", _repeats(flat))] if folder else []
        named = _named_folders(folder, place) if found.settings.get("method") == "textual_inversion" and folder else []
        if named or named is None:
            found.take("train_data_dir", "repeats_from_folders", True)
            subjects = named or []
    if folder:
        found.take("train_data_dir", "instance_data_dir", folder)
    if subjects and subjects[0].mask_folder:
        found.take("conditioning_data_dir", "mask_dir", subjects[0].mask_folder)
    return subjects


def _metadata(flat: dict[str, Any], found: Imported) -> bool:
    """Whether captions come from a metadata file; if so, reports it as not imported."""
    given = [name for name in METADATA_NAMES if not is_nothing(flat.get(name))]
    for name in given:
        found.ignore(name, CAPTIONS)
    return bool(given)


def _repeats(flat: dict[str, Any]) -> int:
    return max(1, int(number(flat.get("dataset_repeats"), 1)))


def _from_data_sets(data_sets: list[dict[str, Any]], flat: dict[str, Any], found: Imported) -> tuple[list, list]:
    subjects: list[Subject] = []
    classes: list[Subject] = []
    for subset in (item for data_set in data_sets for item in objects(data_set.get("subsets"))):
        folder = text_of(subset.get("image_dir"))
        if not folder:
            continue
        repeats = max(1, int(number(subset.get("num_repeats", flat.get("num_repeats")), 1)))
        made = Subject(folder, text_of(subset.get("class_tokens")), repeats)
        if "masked_loss" in found.settings:  # else they are a ControlNet's pictures
            made.mask_folder = text_of(subset.get("conditioning_data_dir"))
        (classes if subset.get("is_reg") is True else subjects).append(made)
    return subjects, classes


def _from_folders(flat: dict[str, Any], name: str, found: Imported, place: Place) -> list[Subject]:
    """The subjects in folders named like "10_sks person": repeats and prompt. Other folders are ignored, as in
    kohya."""
    parent = text_of(flat.get(name))
    if not parent:
        return []
    named = _named_folders(parent, place)
    if named is None:
        found.ignore(name, Message("import.folders_unseen"))
        return []
    return named or [Subject(parent, "")]


def _named_folders(parent: str, place: Place) -> list[Subject] | None:
    """The subjects in such folders below `parent`; None if it cannot be listed."""
    inner = place.folders(parent)
    if inner is None:
        return None
    named = [(folder, match) for folder in inner if (match := re.fullmatch(r"(\d{1,6})_(.+)", folder))]
    separator = "\\" if "\\" in parent and "/" not in parent else "/"
    return [
        Subject(f"{parent.rstrip('/' + chr(92))}{separator}{folder}", match[2].strip(), max(1, int(match[1])))
        for folder, match in named
    ]


def _match(subjects: list[Subject], classes: list[Subject], found: Imported, place: Place) -> None:
    """Give each subject the class folder whose prompt ends its own ("sks person": "person"), else the first."""
    for subject in subjects if classes else []:
        fitting = (c for c in classes if c.prompt and subject.prompt.casefold().endswith(c.prompt.casefold()))
        chosen = next(fitting, classes[0])
        if chosen.prompt and chosen.prompt != subject.prompt:
            subject.class_folder, subject.class_prompt = chosen.folder, chosen.prompt
            subject.class_pictures = place.pictures(chosen.folder)
    used = {subject.class_folder for subject in subjects}
    for other in classes:
        if other.folder not in used:
            found.ignore("reg_data_dir", Message("import.of_no_subject", folder=other.folder[-80:]))


def objects(given: Any) -> list[dict[str, Any]]:
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
