"""Download files of a Hugging Face repository into its cache, with progress; a stop also takes effect within a file."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import filter_repo_objects

from ...core.config import links
from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.system.files import free_bytes, human_size
from .progress_thread import MB, Stage, watched

THREADS = 8
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
TIME_OUT = 30.0  # seconds for an answer
REACH = (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError)  # errors of a Hub that is unreachable or refuses
CODES = {  # problems of a missing repository, and of an unreachable one
    "model": ("download.no_model", "download.model_unreachable"),
    "dataset": ("download.no_data_set", "download.data_set_unreachable"),
}


def model_files(sizes: dict[str, int]) -> dict[str, int]:
    """Select the files of a repository that training needs: one precision, and pickles only if there is nothing
    else."""

    def some(endings: tuple[str, ...], without: tuple[str, ...]) -> list[str]:
        wanted = [f"{part}/*{ending}" for part in PARTS for ending in endings]
        return list(filter_repo_objects(sizes, allow_patterns=wanted, ignore_patterns=list(without)))

    if "model_index.json" not in sizes:
        return {}
    chosen = ["model_index.json", *some((".json", "merges.txt"), ())]
    weights = some((".safetensors",), ("*non_ema*", "*.fp16.*"))
    if {"unet", "vae", "text_encoder"} - {file.partition("/")[0] for file in weights}:
        weights += some((".fp16.safetensors", ".bin"), ("*non_ema*",))
    return {file: sizes[file] for file in dict.fromkeys([*chosen, *weights])}


def snapshot(name: str, files: Mapping[str, int], revision: str, *, kind: str, stage: tuple[Message, Stage]) -> Path:
    """Download files (name -> bytes) of a revision and return their folder. kind: "model" or "dataset"; stage: its
    message, and what receives the progress. Raises one of REACH, and what the stage raises."""
    found: dict[str, Path] = {}
    label, tell = stage
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / "blobs"

    def fetch(file: str) -> None:
        # the first file by branch name, so that the cache knows the latest revision when there is no network
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
    """Yield the sizes of incomplete files."""
    for path in blobs.glob("*.incomplete"):
        with contextlib.suppress(OSError):
            yield path.stat().st_size


def require_space(field: str, name: str, need: int) -> None:
    """Raise UserError if the cache's disk has no room for so many bytes."""
    free = free_bytes(Path(constants.HF_HUB_CACHE))
    if need > free:
        raise UserError("download.no_space", field, name=name, need=human_size(need), free=human_size(free))


def away(field: str, name: str, error: BaseException, kind: str) -> UserError:
    """Return why a repository is unavailable, as a UserError. kind: "model" or "dataset"."""
    missing, unreachable = CODES[kind]
    if isinstance(error, GatedRepoError) or (getattr(getattr(error, "response", None), "status_code", 0) == 403):
        return UserError("download.hub_login", field, name=name)
    if isinstance(error, RepositoryNotFoundError):
        return UserError(missing, field, name=name)
    why = f"{type(error).__name__}: {links.masked(str(error))[:200]}"
    return UserError(unreachable, field, name=name, error=why)
