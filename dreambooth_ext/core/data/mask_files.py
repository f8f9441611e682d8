"""Finds the mask of each picture: beside it, or under its name in a folder of masks.

Names are OneTrainer's ("a-masklabel.png" for "a.jpg"), "a_mask.png", and, in a folder of masks, kohya's: the picture's
own. In such a folder a mask lies where its picture lies in its own, or at the top.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..config.parsing import shown, some
from ..config.run_config import RunConfig
from ..errors import Problem
from ..messages.message import reason_of
from ..system.files import expanded
from .concepts import Concept
from .entry import Entry
from .folder_scan import EXTENSIONS, MASKS, Found, find_pictures

ANOTHER_SHAPE = 0.01  # by how much a mask's proportions may differ from its picture's, beside a pixel from rounding
Places = dict[tuple[tuple[str, ...], str], str]  # folders on the way, and the stem -> the path of a mask


def beside(path: Path, ends: Sequence[str] = MASKS) -> list[str]:
    """The names of the masks beside a picture, the one that counts first. ends: of names that belong to a picture."""
    names = [path.stem + end + ending for end in ends for ending in (".png", *sorted(EXTENSIONS))]
    return [name for name in dict.fromkeys(names) if path.with_name(name).is_file()]


def fits(picture: tuple[int, int], mask: tuple[int, int]) -> bool:
    """Whether a mask has its picture's proportions; sizes are (width, height)."""
    (wide, high), (width, height) = picture, mask
    return abs(width * high - height * wide) <= max(wide, high) + ANOTHER_SHAPE * width * high


def masks_of(config: RunConfig, concept: Concept, found: Sequence[Found]) -> tuple[dict[Path, str], list[Problem]]:
    """The path of each picture's mask, where it has one, and problems with the folder of masks.

    A mask in the folder counts before one beside the picture.
    """
    if not config.masked_loss:
        return {}, []
    places, problems = _places(concept) if concept.mask_dir else ({}, [])
    masks = {item.path: _mask(item, places) for item in found}
    return {path: mask for path, mask in masks.items() if mask}, problems


def _mask(found: Found, places: Places) -> str:
    stem = os.path.normcase(os.path.splitext(found.name)[0])
    named = places.get((found.parts, stem)) or places.get(((), stem))
    return named or (os.path.join(found.folder, found.mask) if found.mask else "")


def _places(concept: Concept) -> tuple[Places, list[Problem]]:
    field, folder = concept.named("mask_dir"), expanded(concept.mask_dir)
    name = shown(str(folder))
    places: Places = {}
    try:
        if not folder.is_dir():
            return {}, [Problem("masks.no_folder", field, folder=name)]
        pictures = expanded(concept.instance_data_dir)
        if concept.instance_data_dir and pictures.is_dir() and folder.samefile(pictures):
            return {}, [Problem("masks.folder_of_pictures", field)]
        for item in find_pictures(folder):
            stem = os.path.normcase(os.path.splitext(item.name)[0])
            end = next((end for end in MASKS if stem.endswith(end) and stem != end), "")
            places.setdefault((item.parts, stem.removesuffix(end)), item.full_name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        return {}, [Problem("pictures.folder_unreadable", field, folder=name, error=reason_of(error))]
    return places, []


def problems(config: RunConfig, entries: Sequence[Entry], concepts: Sequence[Concept]) -> list[Problem]:
    """The problem that no picture has a mask. entries: without class pictures, which count as a whole."""
    if not config.masked_loss or not entries:
        return []
    if any(entry.mask or concepts[entry.concept].by_alpha for entry in entries):
        return []
    return [Problem("masks.none", "masked_loss", count=len(entries))]


def warnings(config: RunConfig, entries: Sequence[Entry], concepts: Sequence[Concept]) -> list[Problem]:
    """A warning of pictures without a mask. entries: as in `problems`."""
    without = [entry.path.name for entry in entries if not entry.mask and not concepts[entry.concept].by_alpha]
    if not config.masked_loss or not without:
        return []
    return [Problem("masks.missing", "masked_loss", count=len(without), total=len(entries), names=some(without))]
