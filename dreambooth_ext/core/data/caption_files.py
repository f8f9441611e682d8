"""Reads captions from the files beside pictures and from metadata files, and reports what is wrong with them."""

from __future__ import annotations

import os

from ..config.parsing import NAMED_AT_MOST, shown, some
from ..config.run_config import RunConfig
from ..errors import Problem
from ..messages.message import Message, reason_of
from ..system.files import expanded
from . import captions
from .concepts import Concept
from .folder_scan import Found
from .metadata_files import Metadata, read_below, read_file


def metadata_of(config: RunConfig, concept: Concept, found: list[Found]) -> tuple[Metadata, list[Problem]]:
    """The captions in a concept's metadata files, and the problems with these files."""
    folder, subset = str(expanded(concept.instance_data_dir)), concept.subset
    if not subset or not subset.metadata_file:
        metadata = read_below(folder, {item.folder for item in found}, config.caption_column)
        return metadata, metadata.problems
    metadata = Metadata(setting="dataset_config")
    read_file(subset.metadata_file, folder, config.caption_column, metadata)
    if not metadata.problems and found and not any(metadata.names(item.full_name) for item in found):
        metadata.problems.append(
            Problem(
                "captions.metadata_names_none", "dataset_config", file=shown(subset.metadata_file), folder=shown(folder)
            )
        )
    return metadata, metadata.problems


def texts_of(
    config: RunConfig, found: list[Found], files: list[str], metadata: Metadata
) -> tuple[list[tuple[str, ...]], list[Problem]]:
    """Each picture's captions, from the file beside it or else a metadata file, and the problems found."""
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
    """The lines of each file ([] for the name ""), and the problems with unreadable files."""
    lines: list[list[str]] = []
    garbled: list[str] = []
    unreadable: list[Message] = []
    for file in files:
        own: list[str] = []
        try:
            own = captions.read_lines(file) if file else []
        except UnicodeDecodeError:
            garbled.append(os.path.basename(file))
        except OSError as error:
            unreadable.append(Message("captions.file_and_error", file=os.path.basename(file), error=reason_of(error)))
        lines.append(own)
    problems = []
    if garbled:
        problems.append(Problem("captions.not_utf8", "caption_extension", names=some(garbled)))
    if unreadable:
        problems.append(
            Problem("captions.unreadable", "caption_extension", count=len(unreadable), files=unreadable[:NAMED_AT_MOST])
        )
    return lines, problems
