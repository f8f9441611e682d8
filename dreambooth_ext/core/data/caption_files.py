"""What the files beside pictures, and metadata files, say of them: their captions, and what is wrong with those."""

from __future__ import annotations

import os

from ..config.parsing import shown, some
from ..config.run_config import RunConfig
from ..errors import Problem
from ..system.files import expanded
from . import captions
from .concepts import Concept
from .folder_scan import Found
from .metadata_files import Metadata, read_below, read_file


def metadata_of(config: RunConfig, concept: Concept, found: list[Found]) -> tuple[Metadata, list[Problem]]:
    """The captions in metadata files, and what is wrong with those."""
    folder, subset = str(expanded(concept.instance_data_dir)), concept.subset
    if not subset or not subset.metadata_file:
        metadata = read_below(folder, {item.folder for item in found}, config.caption_column)
        return metadata, metadata.problems
    metadata = Metadata(setting="dataset_config")
    read_file(subset.metadata_file, folder, config.caption_column, metadata)
    if not metadata.problems and found and not any(metadata.names(item.full_name) for item in found):
        message = f"{shown(subset.metadata_file)} names no picture in {shown(folder)}."
        metadata.problems.append(Problem("dataset_config", message, "Check image_dir."))
    return metadata, metadata.problems


def texts_of(
    config: RunConfig, found: list[Found], files: list[str], metadata: Metadata
) -> tuple[list[tuple[str, ...]], list[Problem]]:
    """Each picture's captions, from the file beside it, else from a metadata file; and what is wrong with them."""
    lines, problems = lines_of(files)
    draws = config.captions_per_picture == "random"
    texts = []
    for item, own in zip(found, lines, strict=True):
        if own:
            texts.append(tuple(own) if draws else (" ".join(own),))
        else:
            given = metadata.of(item.full_name) if metadata.captions else ()
            texts.append(given if draws else given[:1])
    return texts, problems


def lines_of(files: list[str]) -> tuple[list[list[str]], list[Problem]]:
    """The lines of each file, none for "", and what is wrong with them."""
    lines: list[list[str]] = []
    garbled, unreadable = [], []
    for file in files:
        own: list[str] = []
        try:
            own = captions.read_lines(file) if file else []
        except UnicodeDecodeError:
            garbled.append(os.path.basename(file))
        except OSError as error:
            unreadable.append(f"{os.path.basename(file)} ({error.strerror})")
        lines.append(own)
    problems = []
    if garbled:
        message = f"these caption files are not UTF-8 text: {some(garbled)}."
        problems.append(Problem("caption_extension", message, "Save them as UTF-8 in your editor."))
    if unreadable:
        message = f"these caption files cannot be read: {some(unreadable)}."
        problems.append(Problem("caption_extension", message, "Check their permissions."))
    return lines, problems
