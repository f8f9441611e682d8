"""Warns of rare words that are also the name of an embedding in the host, which prompts would then use on every
model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

from ...core.config.run_config import SETTINGS, RunConfig
from ...core.data.captions import words
from ...core.data.concepts import Concept
from ...core.data.entry import Entry
from ...core.errors import Problem
from ..hosts import model_lists


def taken(
    config: RunConfig, entries: Iterable[Entry], known: Iterable[Concept], embeddings: Path | None
) -> list[Problem]:
    """A warning for each of the subjects' words that is the name of an installed embedding.

    known: the run's concepts. embeddings: their folder.
    """
    if embeddings is None or config.method not in SETTINGS["class_prompt"].methods:
        return []
    listed = model_lists.listing(embeddings, model_lists.SUFFIXES["textual_inversion"])
    installed = {PurePath(file["title"]).stem.casefold(): file["title"] for file in listed}
    said = {word for concept in known for word in words(concept.instance_prompt or "")}
    said |= {entry.identifier.casefold() for entry in entries if entry.identifier}
    return [
        Problem("publishing.word_is_embedding", "instance_prompt", word=word, file=installed[word])
        for word in sorted(said & installed.keys())
    ]
