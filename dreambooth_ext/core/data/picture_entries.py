"""Builds the list of pictures to train on from the folders: every picture with its caption, and every problem at once.

Nothing here decodes a picture (standard library only): `engine.dataset` does, and names the broken ones that it leaves
out.

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
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..config.parsing import shown, some
from ..config.run_config import RunConfig
from ..errors import Problem
from ..facts.methods import PROMPTED_METHODS, SUBJECT_METHODS
from ..messages.message import reason_of
from ..system.files import expanded
from . import caption_files, captions, identifiers, mask_files, prompt_templates, validation_split
from . import concepts as about_concepts
from .concepts import Concept, Subjects
from .entry import Entry
from .folder_scan import EXTENSIONS, FORMATS, Found, LeftOut, find_pictures
from .metadata_files import Metadata

LEAST = 5  # pictures of a subject, below which the guide warns
LONGEST_ENDING = 32  # of a caption file's name
DATASET_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)  # on Hugging Face
REPEATED = re.compile(r"(\d{1,6})_(.+)")  # kohya's folder names: "10_sks person"


def trained(entries: Iterable[Entry]) -> int:
    """The number of pictures that are trained on, without class pictures and held-out ones."""
    return sum(not entry.is_class and not entry.is_held for entry in entries)


def caches_latents(config: RunConfig, inpainting: bool = False) -> bool:
    """Whether pictures are encoded before training; if left open, they are when each is always cropped the same way."""
    if config.method not in PROMPTED_METHODS or config.train_shards_path_or_url:
        return False  # it trains on the pixels, or on pictures that come and go
    if config.cache_latents is not None:
        return config.cache_latents
    return config.center_crop and not inpainting


def problems(config: RunConfig, subjects: Subjects | None = None) -> list[Problem]:
    """Problems with the picture settings, whatever the folders contain. subjects: as in `entries`."""
    found = about_concepts.problems(config, subjects or Subjects.of(config)) + validation_split.problems(config)
    if not config.center_crop and config.cache_latents:
        found.append(Problem("pictures.cached_without_center_crop", "cache_latents"))
    if config.cache_latents_to_disk and (config.cache_latents is False or not config.center_crop):
        crops = config.cache_latents is not False
        code = "pictures.disk_without_center_crop" if crops else "pictures.disk_without_cache"
        found.append(Problem(code, "cache_latents_to_disk"))
    if not config.caption_separator.strip():
        found.append(Problem("captions.no_separator", "caption_separator"))
    ending = "." + config.caption_extension.strip().lstrip(".").lower()
    if ending == "." or ending in EXTENSIONS or set(ending) & set('/\\:*?"<>|') or len(ending) > LONGEST_ENDING:
        found.append(Problem("captions.bad_extension", "caption_extension", extension=shown(config.caption_extension)))
    return found


def warnings(config: RunConfig, entries: list[Entry], subjects: Subjects | None = None) -> list[Problem]:
    """Warnings of what is allowed but rarely intended: poor rare words, subjects with few pictures, missing captions.

    subjects: as in `entries`.
    """
    subjects = subjects or Subjects.of(config)
    known = subjects.concepts
    found = list(subjects.data_set.warnings) if subjects.data_set else []
    found += _caption_warnings(config, entries, known) + _left_out_warnings(config, entries, known)
    found += mask_files.warnings(config, [entry for entry in entries if not entry.is_class], known)
    if config.method not in SUBJECT_METHODS:
        return found
    counts: dict[str, int] = {}
    for entry in entries:
        if not entry.is_class and entry.identifier and not known[entry.concept].instance_prompt:
            counts[entry.identifier] = counts.get(entry.identifier, 0) + 1
    if config.repeats_from_folders:
        return found  # then the words are the folders'
    field = "instance_data_dir"
    found += [warning for word in counts if (warning := identifiers.identifier_warning(word, field))]
    few = [f"'{word}' ({count})" for word, count in counts.items() if count < LEAST]
    if few:
        found.append(Problem("pictures.few_of_subjects", field, least=LEAST, names=some(few)))
    return found


def _caption_warnings(config: RunConfig, entries: list[Entry], known: list[Concept]) -> list[Problem]:
    """Warn how many pictures have no caption, and which endings may hold them."""
    reads_names = any("[filewords]" in (concept.instance_prompt or "") for concept in known)
    own = [entry for entry in entries if not entry.is_class]
    without = [entry for entry in own if not entry.is_captioned]
    texts = Counter(text for entry in without for text in entry.texts)
    if not without or not (config.use_captions or (reads_names and texts)):
        return []
    code = "captions.missing_folder_name" if config.repeats_from_folders else "captions.missing_file_name"
    if all(known[entry.concept].instance_prompt for entry in without):
        code = "captions.missing_class_tokens" if config.dataset_config else "captions.missing_prompt"
    names = some([entry.path.name for entry in without])
    found = [Problem(code, "use_captions", count=len(without), total=len(own), names=names)]
    if texts:
        endings = some([f"{text} ({count})" for text, count in texts.most_common()])
        ending = texts.most_common(1)[0][0]
        found.append(Problem("captions.other_extensions", "caption_extension", extensions=endings, extension=ending))
    return found


def _left_out_warnings(config: RunConfig, entries: list[Entry], known: list[Concept]) -> list[Problem]:
    """Warn of files that look like pictures but are left out."""
    of_folders = {id(entry.left): (entry.left, entry.concept) for entry in entries if entry.left}.values()
    if not of_folders:
        return []
    field = known[next(concept for _, concept in of_folders)].named("instance_data_dir")
    found = []
    if unread := sorted((name for left, _ in of_folders for name in left.unread), key=captions.natural_key):
        found.append(Problem("pictures.other_formats", field, count=len(unread), names=some(unread), formats=FORMATS))
    masks = [name for left, _ in of_folders for name in left.masks] if not config.masked_loss else []
    if masks := sorted(masks, key=captions.natural_key):
        found.append(Problem("masks.not_used", field, count=len(masks), names=some(masks)))
    if others := sorted((name for left, _ in of_folders for name in left.others), key=captions.natural_key):
        found.append(Problem("pictures.masks", field, count=len(others), names=some(others)))
    return found


def class_prompts(config: RunConfig, subjects: Subjects, entries: list[Entry], concept: int) -> dict[str, str]:
    """The prompts from which this concept's missing class pictures are drawn in turn, each with its [filewords].

    There is one, unless the class prompt is a template: then one for each instance picture's caption without the
    subject's words, so that class pictures show what the instance pictures do. The [filewords] are then kept in caption
    files.
    """
    known = subjects.concepts[concept]
    prompt = known.class_prompt or ""
    if not captions.has_template(prompt):
        return {prompt: ""}
    found: dict[str, str] = {}
    rare = captions.rare_words(known.instance_prompt or "", prompt)
    for entry in entries:
        if entry.concept == concept and not entry.is_class:
            lines = captions.read_lines(entry.caption_file) if entry.caption_file else []
            text = " ".join(lines) or captions.cleaned_name(entry.path)
            own = rare | captions.words(entry.identifier) - identifiers.COMMON_WORDS
            filewords = " ".join(w for w in text.split() if not captions.words(w) or not captions.words(w) <= own)
            found[captions.fill_template(prompt, filewords, config.name)] = filewords
    return found


def entries(config: RunConfig, subjects: Subjects | None = None) -> tuple[list[Entry], list[Problem]]:
    """Every picture of the run with its caption, and every problem with folders and captions.

    Instance pictures come first, concept by concept, then class pictures: the first `num_class_images` of each class
    folder. Missing class pictures are no problem; the run draws them. subjects: what the caller has read; None to read
    it now.
    """
    subjects = subjects or Subjects.of(config)
    known, prior = subjects.concepts, subjects.uses_prior(config)
    folders = {expanded(text) for c in known for text in (c.instance_data_dir, c.class_data_dir, c.mask_dir) if text}
    instances: list[Entry] = []
    classes: list[Entry] = []
    problems: list[Problem] = []
    if config.dataset_name and config.method not in PROMPTED_METHODS:
        return [], _dataset_problems(config)  # the engine fetches them, and then names their folder
    if config.train_shards_path_or_url:
        return [], []  # the engine reads them while it trains
    for index, concept in enumerate(known):
        left = LeftOut()
        found, trouble = _instance_pictures(concept, folders, left)
        problems += trouble
        made, trouble = _instance_entries(config, concept, index, found, prior)
        problems += trouble
        masks, trouble = mask_files.masks_of(config, concept, found)
        problems += trouble
        if left or masks:
            made = [dataclasses.replace(entry, left=left or None, mask=masks.get(entry.path, "")) for entry in made]
        instances += made
    if prior:
        for index, concept in enumerate(known):
            if concept.class_data_dir:
                made, trouble = _class_entries(config, concept, index)
                classes += made
                problems += trouble
    if not any(problem.field.endswith("mask_dir") for problem in problems):
        problems += mask_files.problems(config, instances, subjects.concepts)
    instances, trouble = validation_split.hold_out(config, instances, known)
    used = [entry for entry in instances if entry.repeats]
    if instances and not used:
        trouble = [Problem("pictures.all_repeats_zero", "repeats_from_folders")]
    return used + classes, problems + trouble


def _dataset_problems(config: RunConfig) -> list[Problem]:
    if config.train_data_dir:
        return [Problem("dataset.name_and_folder", "dataset_name")]
    if not DATASET_NAME.fullmatch(config.dataset_name or ""):
        return [Problem("dataset.bad_name", "dataset_name", name=shown(config.dataset_name))]
    return []


def _instance_pictures(concept: Concept, folders: set[Path], left: LeftOut) -> tuple[list[Found], list[Problem]]:
    field = concept.named("instance_data_dir")
    if not concept.instance_data_dir.strip():
        return [], [Problem("pictures.needs_folder", field, formats=FORMATS)]
    folder, subset = expanded(concept.instance_data_dir), concept.subset
    try:
        if not folder.exists():
            return [], [Problem("pictures.no_folder", field, folder=shown(str(folder)), formats=FORMATS)]
        if not folder.is_dir():
            return [], [Problem("pictures.folder_is_file", field, folder=shown(str(folder)), formats=FORMATS)]
        nested = subset is None or bool(subset.metadata_file)  # else kohya looks at the folder's own pictures alone
        found = list(find_pictures(folder, folders - {folder}, nested, left))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        return [], [Problem("pictures.folder_unreadable", field, folder=shown(str(folder)), error=reason_of(error))]
    if not found:
        return [], [_no_pictures(field, folder, left)]
    return found, []


def _no_pictures(field: str, folder: Path, left: LeftOut) -> Problem:
    if not left.unread:
        return Problem("pictures.none", field, folder=shown(str(folder)), formats=FORMATS)
    names = some(sorted(left.unread, key=captions.natural_key))
    return Problem("pictures.none_readable", field, folder=shown(str(folder)), names=names, formats=FORMATS)


def _instance_entries(
    config: RunConfig, concept: Concept, index: int, found: list[Found], prior: bool
) -> tuple[list[Entry], list[Problem]]:
    if config.method not in PROMPTED_METHODS:
        return [Entry(item.path, "", index, folder=item.top) for item in found], []
    prompt = concept.instance_prompt
    lines = prompt_templates.lines(config)[0] if prompt_templates.is_used(config) else ()
    reads_files = bool(config.use_captions) or any("[filewords]" in line for line in (prompt or "", *lines))
    reads_files = reads_files or bool(concept.subset and concept.subset.metadata_file)
    metadata, problems = caption_files.metadata_of(config, concept, found) if reads_files else (Metadata(), [])
    if concept.subset and concept.subset.metadata_file:  # as kohya: it says which pictures there are
        found = [item for item in found if metadata.names(item.full_name)]
    files = [item.caption_file(concept.caption_extension) for item in found]
    texts: list[tuple[str, ...]] = [()] * len(found)
    trouble: list[Problem] = []
    if reads_files:
        texts, trouble = caption_files.texts_of(config, found, files, metadata)
    elif captions.has_template(concept.class_prompt) and prior:
        _, trouble = caption_files.lines_of(files)  # `class_prompts` reads them, when class pictures are drawn
    problems += trouble
    identifiers = captions.identifiers_of([os.path.splitext(item.name)[0] for item in found])
    named = _FolderNames(concept) if config.repeats_from_folders else None
    made = []
    for item, file, own, identifier in zip(found, files, texts, identifiers, strict=True):
        repeats, words = named.of(item) if named else (1, "")
        subject = concept if not words or prompt else dataclasses.replace(concept, instance_prompt=words)
        path = item.path
        all_captions = [instance_caption(config, subject, path, text, identifier) for text in own or (None,)]
        made.append(
            Entry(
                path,
                all_captions[0],
                index,
                repeats=concept.repeats * repeats,
                identifier=identifier,
                others=tuple(all_captions[1:]),
                folder=item.top,
                is_captioned=bool(own),
                own=own[0] if own else "",
                caption_file=file,
                texts=tuple(item.texts(concept.caption_extension)) if reads_files and not own else (),
            )
        )
    if lines:
        about = [
            (own[0] if own else None, captions.cleaned_name(entry.path), entry.identifier)
            for own, entry in zip(texts, made, strict=True)
        ]
        spoken = [
            prompt_templates.words_of(config, lines, *known) | {"others": own[1:]}
            for known, own in zip(about, texts, strict=True)
        ]
        made = [dataclasses.replace(entry, **fields) for entry, fields in zip(made, spoken, strict=True)]
    nameless = [entry.path.name for entry in made if not entry.caption]
    if nameless and config.method in SUBJECT_METHODS and not lines:
        problems.append(Problem("pictures.no_word", concept.named("instance_prompt"), names=some(nameless)))
    return made, problems


class _FolderNames:
    """Reads kohya's folder names: "10_sks person" means 10 repeats and the prompt; the innermost such folder counts."""

    def __init__(self, concept: Concept):
        self.own = self._said(expanded(concept.instance_data_dir).name)
        self.known: dict[tuple[str, ...], tuple[int, str]] = {}

    def of(self, found: Found) -> tuple[int, str]:
        if found.parts not in self.known:
            said = (self._said(part) for part in reversed(found.parts))
            self.known[found.parts] = next((one for one in said if one), None) or self.own or (1, "")
        return self.known[found.parts]

    @staticmethod
    def _said(name: str) -> tuple[int, str] | None:
        match = REPEATED.fullmatch(captions.spoken(name))
        return (int(match[1]), match[2].strip()) if match else None


def instance_caption(config: RunConfig, concept: Concept, path: Path, text: str | None, identifier: str) -> str:
    """One of a picture's captions. text: what its caption file or sample says, None if that is nothing."""
    prompt, subset = concept.instance_prompt, concept.subset
    if subset:  # as kohya: the caption as it is, else class_tokens
        own_name = identifier if config.method in SUBJECT_METHODS else captions.cleaned_name(path)
        words = (text if config.use_captions else None) or prompt or own_name
        return " ".join(part for part in (subset.prefix, words, subset.suffix) if part)
    if prompt is not None and captions.has_template(prompt):
        name = identifier if identifier and identifiers.identifier_warning(identifier) is None else config.name
        return captions.fill_template(prompt, text or captions.cleaned_name(path), name)
    if config.method not in SUBJECT_METHODS:
        return (text if config.use_captions else None) or prompt or captions.cleaned_name(path)
    subject = prompt or identifier
    if text is None or not config.use_captions or not subject:
        return text or subject
    rare = captions.rare_words(prompt, concept.class_prompt) if prompt else captions.words(identifier)
    return captions.with_subject(text, subject, rare)


def _class_entries(config: RunConfig, concept: Concept, index: int) -> tuple[list[Entry], list[Problem]]:
    assert concept.class_data_dir is not None
    folder = expanded(concept.class_data_dir)
    field = concept.named("class_data_dir")
    prompt = concept.class_prompt or ""
    try:
        if not folder.exists():
            return [], []  # the run makes it
        if not folder.is_dir():
            return [], [Problem("pictures.class_folder_is_file", field, folder=shown(str(folder)))]
        instance_folder = expanded(concept.instance_data_dir)
        if concept.instance_data_dir and instance_folder.is_dir() and folder.samefile(instance_folder):
            return [], [Problem("pictures.class_folder_is_own", field)]
        left = LeftOut()
        found = list(itertools.islice(find_pictures(folder, (instance_folder,), left=left), concept.num_class_images))
    except (OSError, ValueError) as error:
        return [], [Problem("pictures.folder_unreadable", field, folder=shown(str(folder)), error=reason_of(error))]
    if left.unread and not found:
        return [], [_no_pictures(field, folder, left)]
    reads_files = "[filewords]" in prompt
    files = [item.caption_file(config.caption_extension) if reads_files else "" for item in found]
    lines, problems = caption_files.lines_of(files)
    made = []
    for item, own in zip(found, lines, strict=True):
        path = item.path
        caption = captions.fill_template(prompt, " ".join(own) or captions.cleaned_name(path), config.name)
        made.append(Entry(path, caption, index, is_class=True, left=left or None))
    return made, problems
