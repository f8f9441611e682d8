"""Holds out pictures from training, so that the loss on them shows overfitting: as many as `validation_split` says, or
a few that `keep_back_pictures` keeps back for the verdict."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from pathlib import Path

from ..config.run_config import RunConfig
from ..errors import Problem
from ..system.files import expanded
from .concepts import Concept
from .entry import Entry

ONE_IN = 8  # is kept back for the verdict,
LEAST_TRAINED = 10  # as long as so many are left to train on
MOST_KEPT_BACK = 32  # which is enough to judge by


def hold_out(config: RunConfig, entries: list[Entry], known: list[Concept]) -> tuple[list[Entry], list[Problem]]:
    """The instance pictures, with those marked that are held out. known: the run's concepts.

    The choice depends only on the seed and each picture's path in its folder: those with the lowest digests are held
    out. So it is the same in each run, wherever the folder lies, and adding or removing a picture changes at most one.
    """
    if not entries or not (config.validation_split or config.keep_back_pictures):
        return entries, []
    folders = [str(expanded(concept.instance_data_dir)) for concept in known]
    named: dict[Path, str] = {}
    for entry in entries:  # a picture of two concepts is held out of both, or of none
        if entry.path not in named:
            named[entry.path] = os.path.relpath(entry.path, folders[entry.concept]).replace(os.sep, "/")
    ranked = sorted(named, key=lambda path: _rank(config.seed, named[path]))
    if not config.validation_split:
        return _marked(entries, _kept_back(entries, ranked, known)), []
    split = config.validation_split
    count = int(split) if split >= 1 else max(1, round(split * len(named)))
    marked = _marked(entries, set(ranked[:count]))
    left = {entry.concept for entry in marked if not entry.is_held}
    if lost := {entry.concept for entry in entries} - left:
        total = len(named)
        if len(left) + len(lost) == 1:
            return marked, [Problem("pictures.all_held_out", "validation_split", count=count, total=total)]
        return marked, [
            Problem("pictures.concepts_held_out", "validation_split", count=count, total=total, concepts=len(lost))
        ]
    return marked, []


def _marked(entries: list[Entry], chosen: set[Path]) -> list[Entry]:
    return [dataclasses.replace(e, is_held=True) if e.path in chosen else e for e in entries]


def _kept_back(entries: list[Entry], ranked: list[Path], known: list[Concept]) -> set[Path]:
    """The first of the `ranked` pictures, as many as each subject and folder can spare."""
    groups: dict[Path, set[tuple[int, str, str]]] = {}
    for entry in entries:
        if entry.repeats:  # others are not trained on anyway
            word = "" if known[entry.concept].instance_prompt else entry.identifier
            groups.setdefault(entry.path, set()).add((entry.concept, word, entry.folder))
    counts = Counter(group for own in groups.values() for group in own)
    spared = {group: min(count // ONE_IN, count - LEAST_TRAINED) for group, count in counts.items()}
    chosen: set[Path] = set()
    for path in ranked:
        own = groups.get(path, set())
        if own and len(chosen) < MOST_KEPT_BACK and all(spared[group] > 0 for group in own):
            chosen.add(path)
            for group in own:
                spared[group] -= 1
    return chosen


def problems(config: RunConfig) -> list[Problem]:
    split = config.validation_split
    if split > 1 and split != int(split):
        return [Problem("pictures.bad_split", "validation_split", split=float(split))]
    if not split and config.validation_loss_steps is not None:
        return [Problem("pictures.nothing_held_out", "validation_loss_steps")]
    return []


def _rank(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape"), digest_size=16).digest()
