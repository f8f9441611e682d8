"""Files of a Hugging Face repository into its cache, with progress; a stop is heard also in the midst of a file."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.file_download import repo_folder_name

from ...core.config import links
from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.system.files import free_bytes, human_size
from .progress_thread import MB, Stage, watched

THREADS = 8
TIME_OUT = 30.0  # seconds for an answer
REACH = (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError)  # what a Hub that is away, or refuses, comes to
LOGIN = "Check the spelling; for one behind a login run `huggingface-cli login` first, and accept its terms there."
TOLD = {  # what is said of one that is not there, and of one that cannot be fetched; and what to do about that
    "model": (
        "{name} is neither a file or folder here nor a public model on Hugging Face.",
        "{name} is not a file or folder here, and cannot be fetched from Hugging Face ({why}).",
        "Check the network, or choose a file on this machine.",
    ),
    "dataset": (
        "there is no public data set {name} on Hugging Face.",
        "{name} cannot be fetched from Hugging Face ({why}).",
        "Check the network; or download the pictures, and give their folder as train_data_dir.",
    ),
}


def snapshot(name: str, files: Mapping[str, int], revision: str, *, kind: str, stage: tuple[Message, Stage]) -> Path:
    """The folder with these files (name -> bytes) of a revision. kind: "model" or "dataset"; stage: what is told, and
    where. Raises one of REACH, and what the stage raises."""
    found: dict[str, Path] = {}
    label, tell = stage
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / "blobs"

    def fetch(file: str) -> None:
        # the first one by its branch: the cache remembers then, for want of a network, which revision was the last
        at = revision if found or kind != "model" else None
        found[file] = Path(hf_hub_download(name, file, repo_type=kind, revision=at))

    def look() -> None:
        done = sum(files[file] for file in list(found)) + sum(_sizes(blobs))
        tell(label, min(done, total) // MB, total // MB)

    total, (first, *others) = sum(files.values()), files
    watched([lambda: fetch(first)], look)
    watched([functools.partial(fetch, file) for file in others], look, THREADS)
    return found[first].parents[len(PurePosixPath(first).parts) - 1]


def _sizes(blobs: Path) -> Iterator[int]:
    """Of files that are on their way."""
    for path in blobs.glob("*.incomplete"):
        with contextlib.suppress(OSError):
            yield path.stat().st_size


def require_space(field: str, name: str, need: int) -> None:
    """Raise UserError where so many bytes do not go into the cache."""
    free = free_bytes(Path(constants.HF_HUB_CACHE))
    if need > free:
        message = f"{name} needs {human_size(need)} of disk, and {human_size(free)} are free."
        raise UserError(field, message, "Free some space first.")


def away(field: str, name: str, error: BaseException, kind: str) -> UserError:
    """Why a repository cannot be had. kind: "model" or "dataset"."""
    missing, unreachable, remedy = TOLD[kind]
    if isinstance(error, GatedRepoError) or (getattr(getattr(error, "response", None), "status_code", 0) == 403):
        return UserError(field, f"Hugging Face does not give {name} without a login or its owner's leave.", LOGIN)
    if isinstance(error, RepositoryNotFoundError):
        return UserError(field, missing.format(name=name), LOGIN)
    why = f"{type(error).__name__}: {links.masked(str(error))[:200]}"
    return UserError(field, unreachable.format(name=name, why=why), remedy)
