"""Which pictures of a set are copies of others, by their fingerprints."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .fingerprint import SIDE

ALIKE = 0.97  # correlation of two prints from which they show the same moment
STRUCTURE = 12.0  # grey levels of a print: flatter ones say nothing
CHUNK = 512  # pictures that are compared with all others at once


def copies(looks: Sequence[Mapping[str, Any]]) -> dict[int, tuple[str, int]]:
    """Return for each picture that repeats another ("duplicate" or "near_duplicate", the other's index).

    looks: results of `look`, in the set's order. Of equal pictures the first stays; of almost equal ones, also if one
    is mirrored, the one with more pixels, else the sharper.
    """
    found: dict[int, tuple[str, int]] = {}
    first: dict[str, int] = {}
    for index, one in enumerate(looks):
        kept = first.setdefault(one["print"]["content"], index)
        if kept != index:
            found[index] = ("duplicate", kept)
    left = [index for index in range(len(looks)) if index not in found]
    if not left:
        return found
    for worse, better in _near(looks, left):
        if worse not in found and better not in found:
            found[worse] = ("near_duplicate", better)
    return found


def _near(looks: Sequence[Mapping[str, Any]], left: list[int]) -> list[tuple[int, int]]:
    """Return pairs (worse, better) of almost equal pictures, the best ones first."""
    rank = {index: (looks[index]["width"] * looks[index]["height"], looks[index]["sharp"], -index) for index in left}
    order = sorted(left, key=lambda index: rank[index], reverse=True)
    prints, flat = _prints([looks[index]["print"]["print"] for index in order])
    mirrored = prints.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(prints), -1)
    pairs = []
    for start in range(0, len(order), CHUNK):
        part = prints[start : start + CHUNK]
        alike = np.maximum(part @ prints.T, part @ mirrored.T) >= ALIKE
        for row, column in zip(*np.nonzero(alike), strict=True):
            better, worse = int(row) + start, int(column)
            if better < worse and not flat[better] and not flat[worse]:
                pairs.append((order[worse], order[better]))
    return pairs


def _prints(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the prints as rows of mean 0 and length 1, and which of them are too flat to tell."""
    values = np.stack([np.frombuffer(base64.b64decode(text), np.uint8) for text in texts]).astype(np.float32)
    values -= values.mean(1, keepdims=True)
    flat = values.std(1) < STRUCTURE
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-3), flat
