"""Training pictures from a Hugging Face data set: picture files as they are, or extracted once from Parquet files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, snapshot_download

from ...core.config.stages import ResolvedConfig
from ...core.data.picture_entries import EXTENSIONS
from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.runs.run_folder import Run
from ...core.system.files import remove_unfinished, replacing
from ..downloads import hub_files
from ..downloads.progress_thread import Stage
from ..runtime.control import Control

PARQUET = ".parquet"
ENDINGS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"BM": ".bmp"}  # by a picture's first bytes
NAMES = ("image", "img")  # preferred picture columns
TRAIN = "train"  # the split to train on, if a data set has several
ROWS = 64  # read at once
DOWNLOADING, READING = Message("stages.downloading_data_set"), Message("stages.reading_data_set")
Progress = Callable[[int, int], None]


def with_folder(config: ResolvedConfig, run: Run, control: Control) -> ResolvedConfig:
    """Download the config's data set and return the config with its pictures as the training folder. A resumed run
    keeps the revision that it started with.

    Raises UserError if the data set is unavailable, or contains no readable pictures.
    """
    if not config.dataset_name:
        return config
    name, known = config.dataset_name, run.state().get("dataset_revision")
    snapshot = fetch(name, known, control.stage)
    control.update(dataset_revision=snapshot.name)
    places = (snapshot / TRAIN, snapshot)
    folder = next((place for place in places if any(pictures_in(place))), None)
    if folder is None:
        key = hashlib.sha256(f"{name}/{snapshot.name}".encode()).hexdigest()[:8]
        folder = run.path.parent / "data_sets" / f"{name.replace('/', '--')}-{key}"
        if not folder.is_dir():
            tables = sorted(snapshot.rglob(f"*{PARQUET}"))
            write_out(tables, folder, partial(control.stage, READING))
    return config.replace(train_data_dir=str(folder), dataset_name=None)


def count(name: str) -> int | None:
    """Return the number of pictures in a data set, or None if its file list does not tell. Raises UserError as `fetch`
    does."""
    try:
        files, _ = wanted_files(name, None)
    except hub_files.REACH as error:
        raise hub_files.away("dataset_name", name, error, "dataset") from error
    return None if next(iter(files)).endswith(PARQUET) else len(files)


def fetch(name: str, revision: str | None, stage: Stage) -> Path:
    """Download a data set and return its folder in Hugging Face's cache, with training pictures or Parquet files."""
    try:
        files, revision = wanted_files(name, revision)
        return hub_files.snapshot(name, files, revision, kind="dataset", stage=(DOWNLOADING, stage))
    except hub_files.REACH as error:
        with contextlib.suppress(*hub_files.REACH):  # no network, but already in the cache
            return Path(snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True))
        raise hub_files.away("dataset_name", name, error, "dataset") from error


def wanted_files(name: str, revision: str | None) -> tuple[dict[str, int], str]:
    """Return the files to train on with their sizes in bytes, and the revision. Picture files are preferred to Parquet,
    and those of the split "train" to others. Raises one of `hub_files.REACH`."""
    info = HfApi().dataset_info(name, revision=revision, files_metadata=True, timeout=hub_files.TIME_OUT)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    kinds = [list(filter(is_picture, sizes)), [file for file in sizes if file.endswith(PARQUET)]]
    found = next((files for files in kinds if files), [])
    if not found:
        raise UserError("dataset.no_picture_files", "dataset_name", name=name)
    split = [file for file in found if file.startswith(f"{TRAIN}/") or PurePosixPath(file).name.startswith(TRAIN)]
    chosen = {file: sizes[file] for file in sorted(split or found)}
    hub_files.require_space("dataset_name", name, sum(chosen.values()))
    return chosen, info.sha


def is_picture(file: str) -> bool:
    return PurePosixPath(file).suffix.lower() in EXTENSIONS


def pictures_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if is_picture(path.name))


def write_out(tables: list[Path], folder: Path, progress: Progress) -> None:
    """Extract all pictures from Parquet files into a folder, which is complete or not there at all."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("dataset.needs_pyarrow", "dataset_name") from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder.parent)
    with replacing(folder) as temporary:
        temporary.mkdir()
        done = 0
        for number, path in enumerate(tables):
            table = pyarrow.parquet.ParquetFile(path)
            column = picture_column(table.schema_arrow)
            for batch in table.iter_batches(ROWS, columns=[column]):
                for row in batch.column(0).to_pylist():
                    content = (row.get("bytes") if isinstance(row, dict) else row) or b""
                    if ending := ENDINGS.get(content[:2]):
                        (temporary / f"{number:03}-{done:07}{ending}").write_bytes(content)
                    done += 1
                progress(number, len(tables))
        if not any(temporary.iterdir()):
            raise UserError("dataset.empty_parquet", "dataset_name")


def picture_column(schema: Any) -> str:
    """Return the name of the column with the pictures: bytes, alone or with a path, as `datasets` writes them."""
    fitting = []
    for field in schema:
        kind = str(field.type)
        if kind == "binary" or (kind.startswith("struct<") and "bytes: binary" in kind):
            fitting.append(field.name)
    if not fitting:
        raise UserError("dataset.empty_parquet", "dataset_name")
    return next((name for name in NAMES if name in fitting), fitting[0])
