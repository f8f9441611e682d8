"""Folders of pictures -> what is trained on: every picture with its caption, and every problem at once.

Nothing here decodes a picture (standard library only): `engine.dataset` does, and leaves broken ones out by name.

A picture's caption, in this order:
- an instance prompt with [filewords] or [name] is a template: [filewords] is the caption file's text, else the cleaned
  file name; [name] is the identifier in the file name where that is a good one, else the run's name;
- with `use_captions`, the caption file's text. For DreamBooth it must name the subject: where it has none of the
  instance prompt's rare words (or not the file name's identifier), those go before it;
- the instance prompt as it is;
- with no instance prompt, the identifier in the file name; for fine-tuning the cleaned file name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import captions
from .config import RunConfig
from .errors import Problem

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
FORMATS = "JPG, PNG, WebP or BMP"
CONCEPT_KEYS = ("instance_data_dir", "instance_prompt", "class_data_dir", "class_prompt", "num_class_images", "repeats")
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


@dataclass(frozen=True)
class Entry:
    """One picture with the words that are trained with it."""

    path: Path
    caption: str
    concept: int  # index into `concepts(config)`
    is_class: bool = False
    repeats: int = 1  # how often it comes up in an epoch
    identifier: str = ""  # what its file name calls the subject; "" where it says nothing


def uses_prior(config: RunConfig) -> bool:
    """Whether class pictures are trained on; left out, it is on where a class prompt is given."""
    if config.method != "dreambooth":
        return False
    if config.with_prior_preservation is not None:
        return config.with_prior_preservation
    return any(concept.class_prompt for concept in concepts(config))


def caches_latents(config: RunConfig, inpainting: bool = False) -> bool:
    """Whether pictures are encoded ahead of training; left out, wherever each picture is always cropped the same."""
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
                instance_data_dir=config.instance_data_dir,
                instance_prompt=config.instance_prompt or None,
                class_data_dir=config.class_data_dir or None,
                class_prompt=config.class_prompt or None,
                num_class_images=config.num_class_images,
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


def list_pictures(folder: Path, without: tuple[Path, ...] = ()) -> list[Path]:
    """All pictures in `folder` and below, in natural order; hidden files and the WebUI's previews are none.

    Folders in `without` (other concepts' and class folders that lie inside) are left out. Linked folders are followed,
    each once. Raises OSError for a folder that cannot be read.
    """
    seen = {path.resolve() for path in without}
    return sorted(_walk(folder, seen), key=lambda path: captions.natural_key(path.relative_to(folder)))


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    seen.add(folder.resolve())
    with os.scandir(folder) as items:
        for item in items:
            name = item.name
            if name.startswith(".") or name == "__MACOSX":
                continue
            path = folder / name
            if item.is_dir():
                if path.resolve() not in seen:
                    yield from _walk(path, seen)
            elif path.suffix.lower() in EXTENSIONS and not path.stem.lower().endswith(".preview"):
                yield path


def entries(config: RunConfig) -> tuple[list[Entry], list[Problem]]:
    """Every picture of the run with its caption, and everything that is wrong with folders and captions.

    Instance pictures first, concept by concept, then class pictures: of each class folder the first
    `num_class_images`. Class pictures that are still missing are no problem; the run draws them.
    """
    known = concepts(config)
    folders = {Path(text).expanduser() for c in known for text in (c.instance_data_dir, c.class_data_dir) if text}
    instances: list[Entry] = []
    classes: list[Entry] = []
    found: list[Problem] = []
    for index, concept in enumerate(known):
        paths, trouble = _instance_pictures(concept, folders)
        found += trouble
        made, trouble = _instance_entries(config, concept, index, paths)
        instances += made
        found += trouble
        if uses_prior(config) and concept.class_data_dir:
            made, trouble = _class_entries(config, concept, index)
            classes += made
            found += trouble
    return instances + classes, found


def _instance_pictures(concept: Concept, folders: set[Path]) -> tuple[list[Path], list[Problem]]:
    field = concept.field + "instance_data_dir"
    remedy = f"Give a folder that holds your pictures ({FORMATS})."
    if not concept.instance_data_dir.strip():
        return [], [Problem(field, "needs a folder.", remedy)]
    folder = Path(concept.instance_data_dir).expanduser()
    try:
        if not folder.exists():
            return [], [Problem(field, f"there is no folder '{folder}'.", remedy)]
        if not folder.is_dir():
            return [], [Problem(field, f"'{folder}' is a file.", remedy)]
        paths = list_pictures(folder, tuple(folders - {folder}))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        return [], [Problem(field, f"'{folder}' cannot be read: {error}.", "Check the folder's name and permissions.")]
    if not paths:
        return [], [Problem(field, f"there is no picture in '{folder}'.", f"Put pictures there: {FORMATS}.")]
    return paths, []


def _instance_entries(
    config: RunConfig, concept: Concept, index: int, paths: list[Path]
) -> tuple[list[Entry], list[Problem]]:
    prompt = concept.instance_prompt
    reads_files = bool(config.use_captions) or (prompt is not None and "[filewords]" in prompt)
    texts, problems = _caption_texts(paths, config.caption_extension) if reads_files else ({}, [])
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
    nameless = [entry.path.name for entry in made if not entry.caption]
    if nameless and config.method == "dreambooth":
        message = f"is missing, and these file names hold no word for the subject: {_some(nameless)}."
        remedy = "Give a prompt with a rare word ('a photo of sksper person'), or name the files 'sksper (1).jpg'."
        problems.append(Problem(concept.field + "instance_prompt", message, remedy))
    return made, problems


def _instance_caption(config: RunConfig, concept: Concept, path: Path, text: str | None, identifier: str) -> str:
    prompt = concept.instance_prompt
    if prompt is not None and captions.has_template(prompt):
        name = identifier if identifier and captions.identifier_warning(identifier) is None else config.name
        return captions.fill_template(prompt, text or captions.cleaned_name(path), name)
    if config.method != "dreambooth":
        return (text if config.use_captions else None) or prompt or captions.cleaned_name(path)
    subject = prompt or identifier
    if text is None or not config.use_captions or not subject:
        return text or subject
    rare = captions.rare_words(prompt, concept.class_prompt) if prompt else captions.words(identifier)
    return captions.with_subject(text, subject, rare)


def _class_entries(config: RunConfig, concept: Concept, index: int) -> tuple[list[Entry], list[Problem]]:
    assert concept.class_data_dir is not None
    folder = Path(concept.class_data_dir).expanduser()
    field = concept.field + "class_data_dir"
    prompt = concept.class_prompt or ""
    try:
        if not folder.exists():
            return [], []  # the run makes it
        if not folder.is_dir():
            return [], [Problem(field, f"'{folder}' is a file.", "Give a folder, or leave it out.")]
        instance_folder = Path(concept.instance_data_dir).expanduser()
        if concept.instance_data_dir and instance_folder.is_dir() and folder.samefile(instance_folder):
            message = "is the folder of your own pictures."
            return [], [Problem(field, message, "Give another folder, or leave it out.")]
        paths = list_pictures(folder, (instance_folder,))[: concept.num_class_images]
    except (OSError, ValueError) as error:
        return [], [Problem(field, f"'{folder}' cannot be read: {error}.", "Check the folder's name and permissions.")]
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


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
