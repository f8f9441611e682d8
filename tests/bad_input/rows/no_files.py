"""Rows: pipes, devices and sockets in the place of every file that is read; to read them would never end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import kohya_dataset, metadata_files, prompt_templates
from dreambooth_ext.core.errors import Problem
from dreambooth_ext.engine.models.unconditional_base import read_config
from dreambooth_ext.engine.pictures.picture_file import open_picture
from dreambooth_ext.host.pictures import image_decoding
from dreambooth_ext.host.service import preset_store
from tests.bad_input.case import Case, Verb
from tests.bad_input.verbs import BASES, CHECK_FILE, HYPERNETWORKS, LORAS, TRAIN_FILE, WORDS


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a")
    return folder / "a"


def bound(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "a"))
    return folder / "a"


POSIX = {"pipe": pipe, "device": lambda folder: Path("/dev/zero"), "socket": bound}
KINDS: dict[str, Callable[[Path], Path]] = {"device": lambda folder: Path("NUL")} if os.name == "nt" else POSIX


def _described(path: Path, folder: Path) -> list[Problem]:
    """Where kohya's data set names it as its metadata."""
    found = metadata_files.Metadata()
    metadata_files.read_file(str(path), str(path.parent), "text", found)
    return found.problems


def _preset(path: Path, folder: Path) -> list[Problem]:
    return [Problem("other.as_said", "preset", message=preset_store.read_file(path).problem, remedy="-")]


def _linked(path: Path, folder: Path) -> None:
    (folder / "a.jpg").symlink_to(path)
    open_picture(folder / "a.jpg")


def _looked_at(path: Path, folder: Path) -> list[Problem]:
    """The tab has a button beside it that takes it away."""
    return [Problem("other.as_said", "picture", message=image_decoding.look(path)["problem"], remedy="Take it away.")]


PICTURE = (Verb("open", lambda path, folder: open_picture(path)), Verb("open a link", _linked))
READERS: dict[str, tuple[tuple[Verb, ...], str, str]] = {
    "base": (BASES, "base_model", "device or a pipe"),
    "LoRA": (LORAS, "network_weights", " file"),
    "embedding": (WORDS, "embedding_weights", " file"),
    "hypernetwork": (HYPERNETWORKS, "hypernetwork_weights", " file"),
    "picture": (PICTURE, "instance_data_dir", "device or a pipe"),
    "config": ((CHECK_FILE, TRAIN_FILE), "config", "device or a pipe"),
    "data set": (
        (Verb("dataset_config", lambda path, _: kohya_dataset.read(str(path)).problems),),
        "dataset_config",
        "device or a pipe",
    ),
    "metadata": ((Verb("metadata", _described),), "use_captions", "device or a pipe"),
    "prompt template": (
        (Verb("prompt_template", lambda path, _: prompt_templates.lines(RunConfig(prompt_template=str(path)))[1]),),
        "prompt_template",
        "no file",
    ),
    "model_config": ((Verb("model_config", lambda path, _: read_config(path)),), "model_config", "device or a pipe"),
    "preset": ((Verb("preset", _preset),), "preset", "device or a pipe"),
    "thumbnail": ((Verb("thumbnail", _looked_at),), "picture", "device or a pipe"),
}
CASES = [
    Case(f"{what} that is a {kind}", make, verbs, field, part)
    for what, (verbs, field, part) in READERS.items()
    for kind, make in KINDS.items()
]
