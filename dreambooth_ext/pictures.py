"""Folders of pictures -> what is trained on: every picture with its caption, and every problem at once.

Nothing here decodes a picture (standard library only): `engine.dataset` does, and leaves broken ones out by name.

A picture's caption, in this order:
- an instance prompt with [filewords] or [name] is a template: [filewords] is the caption file's text, else the cleaned
  file name; [name] is the identifier in the file name where that is a good one, else the run's name;
- with `use_captions`, the caption file's text. For DreamBooth it must name the subject: where it has none of the
  instance prompt's rare words (or not the file name's identifier), those go before it;
- the instance prompt as it is;
- with no instance prompt, the identifier in the file name; for fine-tuning the cleaned file name.
Textual inversion puts captions into lines of its own: `templates`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import captions, templates
from .config import PROMPTED_METHODS, SUBJECT_METHODS, RunConfig
from .errors import Problem
from .files import expanded
from .listing import EXTENSIONS, Listings
from .parsing import shown

FORMATS = "JPG, PNG, WebP or BMP"
CONCEPT_KEYS = ("instance_data_dir", "instance_prompt", "class_data_dir", "class_prompt", "num_class_images", "repeats")
LEAST = 5  # pictures of a subject, below which the guide warns
DATASET_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
NAMED_AT_MOST = 5  # bad files that one message names


@dataclass(frozen=True)
class Concept:
    """One subject's (or, with identifiers in the file names, one folder's) pictures and words."""

    field: str  # what its settings are called in messages: "" or "concepts[0]."
    instance_data_dir: str
    instance_prompt: str | None
    class_data_dir: str | None
    class_prompt: str | None
    num_class_images: int
    repeats: int = 1
    pictures_setting: str = "instance_data_dir"  # what `instance_data_dir` is called in messages


@dataclass(frozen=True)
class Entry:
    """One picture with the words that are trained with it."""

    path: Path
    caption: str
    concept: int  # index into `concepts(config)`
    is_class: bool = False
    repeats: int = 1  # how often it comes up in an epoch
    identifier: str = ""  # what its file name calls the subject; "" where it says nothing
    lines: tuple[str, ...] = ()  # textual inversion: `templates` for the caption, of which each step takes one
    word: str = ""  # textual inversion: what is taught


def uses_prior(config: RunConfig) -> bool:
    """Whether class pictures are trained on; left out, it is on where a class prompt is given."""
    if config.method not in SUBJECT_METHODS:
        return False
    if config.with_prior_preservation is not None:
        return config.with_prior_preservation
    return any(concept.class_prompt for concept in concepts(config))


def caches_latents(config: RunConfig, inpainting: bool = False) -> bool:
    """Whether pictures are encoded ahead of training; left out, wherever each picture is always cropped the same."""
    if config.method not in PROMPTED_METHODS:
        return False  # it trains on the pixels
    if config.cache_latents is not None:
        return config.cache_latents
    return config.center_crop and not inpainting


def concepts(config: RunConfig) -> list[Concept]:
    """The run's concepts: `config.concepts`, else the one that the single settings describe.

    A concept that names no class of its own takes the run's class prompt, folder and count.
    Values of a wrong type are left at their defaults here; `problems` names them.
    """
    if not config.concepts:
        return [
            Concept(
                field="",
                instance_data_dir=getattr(config, config.pictures_setting),
                instance_prompt=config.instance_prompt or None,
                class_data_dir=config.class_data_dir or None,
                class_prompt=config.class_prompt or None,
                num_class_images=config.num_class_images,
                pictures_setting=config.pictures_setting,
            )
        ]
    found = []
    for index, given in enumerate(config.concepts):
        texts = {key: given.get(key) if isinstance(given.get(key), str) else None for key in CONCEPT_KEYS[:4]}
        has_class = texts["class_prompt"] or texts["class_data_dir"]
        found.append(
            Concept(
                field=f"concepts[{index}].",
                instance_data_dir=texts["instance_data_dir"] or "",
                instance_prompt=texts["instance_prompt"] or None,
                class_data_dir=(texts["class_data_dir"] if has_class else config.class_data_dir) or None,
                class_prompt=texts["class_prompt"] or config.class_prompt or None,
                num_class_images=_count(given, "num_class_images", config.num_class_images),
                repeats=_count(given, "repeats", 1),
            )
        )
    return found


def _count(given: dict[str, Any], key: str, default: int) -> int:
    value = given.get(key)
    return value if _is_count(value) else default


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def problems(config: RunConfig) -> list[Problem]:
    """Picture settings that are wrong, or do not go together, whatever the folders hold."""
    found = _concept_problems(config)
    if not config.center_crop and config.cache_latents:
        message = "cached latents are always of the same crop, but center_crop is off."
        found.append(Problem("cache_latents", message, "Turn cache_latents off, or center_crop on."))
    if config.cache_latents_to_disk and (config.cache_latents is False or not config.center_crop):
        why = "center_crop is off" if config.cache_latents is not False else "cache_latents is off"
        message = f"has no effect: {why}, so nothing is cached."
        found.append(Problem("cache_latents_to_disk", message, "Turn it off, or the other on."))
    if config.keep_tokens and not config.shuffle_tags:
        found.append(Problem("keep_tokens", "has no effect: shuffle_tags is off.", "Set it to 0, or turn that on."))
    ending = "." + config.caption_extension.strip().lstrip(".").lower()
    if ending == "." or ending in EXTENSIONS or set(ending) & set('/\\:*?"<>|'):
        message = f"'{config.caption_extension}' is no ending of a text file's name."
        found.append(Problem("caption_extension", message, "Use .txt or .caption."))
    return found


def _concept_problems(config: RunConfig) -> list[Problem]:
    found = []
    for index, given in enumerate(config.concepts):
        found += _key_problems(f"concepts[{index}].", given)
    for name in ("instance_data_dir", "instance_prompt"):
        if config.concepts and getattr(config, name):
            message = "has no effect: each concept brings its own."
            found.append(Problem(name, message, "Leave it out, or make it a concept of its own."))
    if config.method not in SUBJECT_METHODS:
        return found  # class pictures are for subjects; checks of methods refuse their settings elsewhere
    prior = uses_prior(config)
    for concept in concepts(config):
        is_template = captions.has_template(concept.class_prompt)  # class words are the captions' without the subject's
        if concept.class_prompt and concept.class_prompt == concept.instance_prompt and not is_template:
            message = "is the instance prompt: your subject would be taught as the class."
            remedy = "Leave the rare word out: 'a photo of a person'."
            found.append(Problem(concept.field + "class_prompt", message, remedy))
        wants_class = prior and (not config.concepts or not any(c.class_prompt for c in concepts(config)))
        if not concept.class_prompt and (wants_class or (concept.class_data_dir and not _is_off(config))):
            message = "is missing: it says what the class pictures show."
            remedy = "Give one, 'a photo of a person', or turn with_prior_preservation off."
            found.append(Problem(concept.field + "class_prompt", message, remedy))
    return found


def _is_off(config: RunConfig) -> bool:
    return config.with_prior_preservation is False


def _key_problems(field: str, given: dict[str, Any]) -> list[Problem]:
    found = []
    for key, value in given.items():
        if key not in CONCEPT_KEYS:
            near = difflib.get_close_matches(key, CONCEPT_KEYS, n=1)
            remedy = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(CONCEPT_KEYS)}."
            found.append(Problem(field + str(key), "there is no setting of this name.", remedy))
        elif value is None:
            continue
        elif key in ("num_class_images", "repeats"):
            if not _is_count(value):
                found.append(Problem(field + key, f"{value!r} is not a whole number above 0.", "Use 1 or more."))
        elif not isinstance(value, str):
            found.append(Problem(field + key, f"{value!r} is not a text.", "Put it in quotation marks."))
    return found


def warnings(config: RunConfig, entries: list[Entry]) -> list[Problem]:
    """What is allowed, but seldom meant: poor identifiers, and subjects with next to no pictures."""
    known = concepts(config)
    counts: dict[str, int] = {}
    for entry in entries:
        if not entry.is_class and entry.identifier and not known[entry.concept].instance_prompt:
            counts[entry.identifier] = counts.get(entry.identifier, 0) + 1
    if config.method not in SUBJECT_METHODS:
        return []
    field = "instance_data_dir"
    warned = [warning for word in counts if (warning := captions.identifier_warning(word))]
    poor = [Problem(field, warning, captions.ADVICE) for warning in warned]
    few = [f"'{word}' ({count})" for word, count in counts.items() if count < LEAST]
    if few:
        message = f"these subjects have fewer than {LEAST} pictures: {_some(few)}."
        poor.append(Problem(field, message, "10 or more are good."))
    return poor


def class_prompts(config: RunConfig, entries: list[Entry], concept: int) -> dict[str, str]:
    """The prompts by which this concept's missing class pictures are to be drawn, in turn, with their [filewords].

    One, unless the class prompt is a template: then each instance picture's words without the subject's own, so that
    class pictures show what the instance pictures do. The words are then to be kept in caption files.
    """
    known = concepts(config)[concept]
    prompt = known.class_prompt or ""
    if not captions.has_template(prompt):
        return {prompt: ""}
    found: dict[str, str] = {}
    rare = captions.rare_words(known.instance_prompt or "", prompt)
    for entry in entries:
        if entry.concept == concept and not entry.is_class:
            text = captions.read_caption(entry.path, config.caption_extension) or captions.cleaned_name(entry.path)
            own = rare | captions.words(entry.identifier) - captions.COMMON_WORDS
            filewords = " ".join(w for w in text.split() if not captions.words(w) or not captions.words(w) <= own)
            found[captions.fill_template(prompt, filewords, config.name)] = filewords
    return found


def entries(config: RunConfig, listings: Listings | None = None) -> tuple[list[Entry], list[Problem]]:
    """Every picture of the run with its caption, and everything that is wrong with folders and captions.

    Instance pictures first, concept by concept, then class pictures: of each class folder the first `num_class_images`.
    Class pictures that are still missing are no problem; the run draws them. listings: what was looked up already.
    """
    known, listings = concepts(config), listings or Listings()
    folders = {expanded(text) for c in known for text in (c.instance_data_dir, c.class_data_dir) if text}
    instances: list[Entry] = []
    classes: list[Entry] = []
    found: list[Problem] = []
    if config.dataset_name and config.method not in PROMPTED_METHODS:
        return [], _dataset_problems(config)  # the engine fetches them, and then names their folder
    for index, concept in enumerate(known):
        paths, trouble = _instance_pictures(concept, folders, listings)
        found += trouble
        made, trouble = _instance_entries(config, concept, index, paths)
        instances += made
        found += trouble
        if uses_prior(config) and concept.class_data_dir:
            made, trouble = _class_entries(config, concept, index, listings)
            classes += made
            found += trouble
    return instances + classes, found


def _dataset_problems(config: RunConfig) -> list[Problem]:
    if config.train_data_dir:
        message = "has no effect: the pictures come from train_data_dir."
        return [Problem("dataset_name", message, "Leave one of them out.")]
    if not DATASET_NAME.fullmatch(config.dataset_name):
        message = f"{shown(config.dataset_name)} cannot be a data set's name."
        return [Problem("dataset_name", message, "Use owner/name; a folder is named by train_data_dir.")]
    return []


def _instance_pictures(concept: Concept, folders: set[Path], listings: Listings) -> tuple[list[Path], list[Problem]]:
    field = concept.field + concept.pictures_setting
    remedy = f"Give a folder that holds your pictures ({FORMATS})."
    if not concept.instance_data_dir.strip():
        return [], [Problem(field, "needs a folder.", remedy)]
    folder = expanded(concept.instance_data_dir)
    try:
        if not folder.exists():
            return [], [Problem(field, f"there is no folder {shown(str(folder))}.", remedy)]
        if not folder.is_dir():
            return [], [Problem(field, f"{shown(str(folder))} is a file.", remedy)]
        paths = listings.of(folder, folders - {folder})
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        return [], [
            Problem(
                field, f"{shown(str(folder))} cannot be read: {why(error)}.", "Check the folder's name and permissions."
            )
        ]
    if not paths:
        return [], [Problem(field, f"there is no picture in {shown(str(folder))}.", f"Put pictures there: {FORMATS}.")]
    return paths, []


def _instance_entries(
    config: RunConfig, concept: Concept, index: int, paths: list[Path]
) -> tuple[list[Entry], list[Problem]]:
    prompt = concept.instance_prompt
    lines = templates.lines(config)[0] if templates.is_used(config) else ()
    reads_files = bool(config.use_captions) or any("[filewords]" in line for line in (prompt or "", *lines))
    texts, problems = _caption_texts(paths, config.caption_extension) if reads_files else ({}, [])
    if config.method not in PROMPTED_METHODS:
        return [Entry(path, "", index) for path in paths], []
    names = captions.identifiers(paths)
    made = [
        Entry(
            path,
            _instance_caption(config, concept, path, texts.get(path), names[path]),
            index,
            repeats=concept.repeats,
            identifier=names[path],
        )
        for path in paths
    ]
    if lines:
        about = [(texts.get(entry.path), captions.cleaned_name(entry.path), entry.identifier) for entry in made]
        words = [templates.words_of(config, lines, *known) for known in about]
        made = [dataclasses.replace(entry, **fields) for entry, fields in zip(made, words, strict=True)]
    nameless = [entry.path.name for entry in made if not entry.caption]
    if nameless and config.method in SUBJECT_METHODS:
        message = f"is missing, and these file names hold no word for the subject: {_some(nameless)}."
        remedy = "Give a prompt with a rare word ('a photo of sksper person'), or name the files 'sksper (1).jpg'."
        problems.append(Problem(concept.field + "instance_prompt", message, remedy))
    return made, problems


def _instance_caption(config: RunConfig, concept: Concept, path: Path, text: str | None, identifier: str) -> str:
    prompt = concept.instance_prompt
    if prompt is not None and captions.has_template(prompt):
        name = identifier if identifier and captions.identifier_warning(identifier) is None else config.name
        return captions.fill_template(prompt, text or captions.cleaned_name(path), name)
    if config.method not in SUBJECT_METHODS:
        return (text if config.use_captions else None) or prompt or captions.cleaned_name(path)
    subject = prompt or identifier
    if text is None or not config.use_captions or not subject:
        return text or subject
    rare = captions.rare_words(prompt, concept.class_prompt) if prompt else captions.words(identifier)
    return captions.with_subject(text, subject, rare)


def _class_entries(
    config: RunConfig, concept: Concept, index: int, listings: Listings
) -> tuple[list[Entry], list[Problem]]:
    assert concept.class_data_dir is not None
    folder = expanded(concept.class_data_dir)
    field = concept.field + "class_data_dir"
    prompt = concept.class_prompt or ""
    try:
        if not folder.exists():
            return [], []  # the run makes it
        if not folder.is_dir():
            return [], [Problem(field, f"{shown(str(folder))} is a file.", "Give a folder, or leave it out.")]
        instance_folder = expanded(concept.instance_data_dir)
        if concept.instance_data_dir and instance_folder.is_dir() and folder.samefile(instance_folder):
            message = "is the folder of your own pictures."
            return [], [Problem(field, message, "Give another folder, or leave it out.")]
        paths = listings.of(folder, [instance_folder])[: concept.num_class_images]
    except (OSError, ValueError) as error:
        return [], [
            Problem(
                field, f"{shown(str(folder))} cannot be read: {why(error)}.", "Check the folder's name and permissions."
            )
        ]
    texts, problems = _caption_texts(paths, config.caption_extension) if "[filewords]" in prompt else ({}, [])
    made = [
        Entry(
            path,
            captions.fill_template(prompt, texts.get(path) or captions.cleaned_name(path), config.name),
            index,
            is_class=True,
        )
        for path in paths
    ]
    return made, problems


def _caption_texts(paths: list[Path], extension: str) -> tuple[dict[Path, str | None], list[Problem]]:
    texts: dict[Path, str | None] = {}
    garbled, unreadable = [], []
    for path in paths:
        try:
            texts[path] = captions.read_caption(path, extension)
        except UnicodeDecodeError:
            garbled.append(captions.caption_path(path, extension).name)
        except ValueError:  # "/x": no ending of a name, as `problems` says
            texts[path] = None
        except OSError as error:
            unreadable.append(f"{captions.caption_path(path, extension).name} ({error.strerror})")
    problems = []
    if garbled:
        message = f"these caption files are not UTF-8 text: {_some(garbled)}."
        problems.append(Problem("caption_extension", message, "Save them as UTF-8 in your editor."))
    if unreadable:
        message = f"these caption files cannot be read: {_some(unreadable)}."
        problems.append(Problem("caption_extension", message, "Check their permissions."))
    return texts, problems


def why(error: Exception) -> str:
    """A system's error without the path, which the message names already."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
