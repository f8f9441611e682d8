"""The verb `tag`: a tagger proposes a caption for each picture of a folder, into one JSON file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from PIL import Image

from ...core.captions import taggers
from ...core.data import folder_scan
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system import files
from ...core.system.terminal import Progress, say
from ..pictures.picture_file import open_picture, to_srgb
from ..runtime.device import choose_device
from ..tagging.tag_table import TagChoice

FIELD = "tagger"
AT_LEAST = 768  # pixels of the shorter side, to which large JPEGs are decoded


class Tagger(Protocol):
    batch_size: int

    def propose(self, pictures: list[Image.Image]) -> list[str]:
        """A caption for each picture."""


def run(arguments: argparse.Namespace) -> list[str]:
    """Write {"tagger", "captions": {picture: text}}; what was found so far is written when it is stopped.

    Pictures that cannot be read are named and left out. Raises UserError.
    """
    pictures = list(chosen(arguments.folder, arguments.only_empty))
    tagger = load(arguments)
    found: dict[str, str] = {}
    try:
        with Progress(len(pictures), "Looking") as progress:
            for done, batch in batches(pictures, tagger.batch_size):
                opened = [(name, image) for name, path in batch if (image := readable(path)) is not None]
                if opened:
                    texts = tagger.propose([image for _, image in opened])
                    found |= {name: text for (name, _), text in zip(opened, texts, strict=True) if text}
                progress.update(done)
    finally:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(arguments.out, {"tagger": arguments.tagger.name, "captions": found})
    return []  # the file says it all; standard output is the caller's


def load(arguments: argparse.Namespace) -> Tagger:
    """The tagger in the folder that was named. Raises UserError if it is none, or needs code of its own."""
    folder = arguments.tagger
    if why := taggers.why_not(folder):
        raise UserError("tagging.not_usable", FIELD, why=why)
    device = choose_device(arguments.device)
    if taggers.kind_of(folder) == taggers.TAGS:
        from ..tagging.onnx_tagger import OnnxTagger

        left_out = frozenset(tag.replace("_", " ").strip().casefold() for tag in arguments.leave_out)
        choice = TagChoice(
            arguments.threshold, arguments.character_threshold, arguments.ratings, not arguments.no_characters,
            arguments.underscores, left_out,
        )  # fmt: skip
        return OnnxTagger(folder, choice, str(device))
    from ..tagging.captioner import Captioner

    return Captioner(folder, arguments.begin, device)


def chosen(folder: Path, only_empty: bool) -> Iterator[tuple[str, Path]]:
    """(name in the folder, path) of the pictures to look at. Raises UserError if there are none."""
    try:
        known = list(folder_scan.find_pictures(folder))
    except (OSError, ValueError) as error:
        raise UserError("pictures.folder_unreadable", "folder", folder=str(folder), error=reason_of(error)) from error
    if not known:
        raise UserError("pictures.none", "folder", folder=str(folder), formats=folder_scan.FORMATS)
    for one in known:
        caption = one.caption_file(".txt")
        if not (only_empty and caption and Path(caption).stat().st_size):
            yield one.path.relative_to(folder).as_posix(), one.path


def batches(pictures: list[tuple[str, Path]], size: int) -> Iterator[tuple[int, list[tuple[str, Path]]]]:
    """(how many are done after it, the batch)"""
    for start in range(0, len(pictures), size):
        batch = pictures[start : start + size]
        yield start + len(batch), batch


def readable(path: Path) -> Image.Image | None:
    """The picture as sRGB; None, and a word about it, if it cannot be read."""
    try:
        return to_srgb(open_picture(path, at_least=AT_LEAST))
    except UserError as error:
        say(Message("tagging.left_out", problem=error.problem.message))
        return None
