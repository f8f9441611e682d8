"""Holds out pictures from training, so that the loss on them shows overfitting."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from ..config.run_config import RunConfig
from ..errors import Problem
from ..system.files import expanded
from .concepts import Concept
from .entry import Entry


def hold_out(config: RunConfig, entries: list[Entry], known: list[Concept]) -> tuple[list[Entry], list[Problem]]:
    """The instance pictures, with those marked that `validation_split` holds out. known: the run's concepts.

    The choice depends only on the seed and each picture's path in its folder: those with the lowest digests are held
    out. So it is the same in each run, wherever the folder lies, and adding or removing a picture changes at most one.
    """
    if not config.validation_split or not entries:
        return entries, []
    folders = [str(expanded(concept.instance_data_dir)) for concept in known]
    named: dict[Path, str] = {}
    for entry in entries:  # a picture of two concepts is held out of both, or of none
        if entry.path not in named:
            named[entry.path] = os.path.relpath(entry.path, folders[entry.concept]).replace(os.sep, "/")
    split = config.validation_split
    count = int(split) if split >= 1 else max(1, round(split * len(named)))
    ranked = sorted(named, key=lambda path: _rank(config.seed, named[path]))
    chosen = set(ranked[:count])
    marked = [dataclasses.replace(e, is_held=True) if e.path in chosen else e for e in entries]
    left = {entry.concept for entry in marked if not entry.is_held}
    if lost := {entry.concept for entry in entries} - left:
        total = len(named)
        if len(left) + len(lost) == 1:
            return marked, [Problem("pictures.all_held_out", "validation_split", count=count, total=total)]
        return marked, [
            Problem("pictures.concepts_held_out", "validation_split", count=count, total=total, concepts=len(lost))
        ]
    return marked, []


def problems(config: RunConfig) -> list[Problem]:
    split = config.validation_split
    if split > 1 and split != int(split):
        return [Problem("pictures.bad_split", "validation_split", split=float(split))]
    if not split and config.validation_loss_steps is not None:
        return [Problem("pictures.nothing_held_out", "validation_loss_steps")]
    return []


def _rank(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape"), digest_size=16).digest()
