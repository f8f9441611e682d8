"""Download models by name or link: from Hugging Face into its own cache, from elsewhere into the folder `models`.

There each link has a folder, with a subfolder per version of its file: models/<host>-<link>/<version>/<name>. None of
these names contains a link's secrets. A download in progress is in <version>.part, which a file that turns out not to
be a model never leaves.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

from ...core.config import links
from ...core.config.names import MODEL_SUFFIXES
from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.system import files
from ...core.system.files import expanded
from ..downloads import hub_files
from ..downloads.connections import Address
from ..downloads.http_file import Offer, Transfer
from ..downloads.progress_thread import STAGE, Fetch
from ..tensors.tensor_file import container
from .single_file import SingleFileSource

MODELS = Path(__file__).resolve().parents[3] / "models"
HUB_PAGE = re.compile(r"^https://huggingface\.co/([\w.-]+/[\w.-]+?)(?:/tree/main)?/?$")
HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
PART = ".part"


def download(name: str, field: str, fetch: Fetch | None = None) -> Path:
    """Return the local path of a model given by path, Hugging Face name or https link (complete, or as a `Link`),
    downloading it if needed."""
    whole, fetch = links.whole(name).strip(), fetch or Fetch()
    name = links.bare(whole) if links.is_link(whole) else whole
    if not name:
        raise UserError("base.none_chosen", field)
    if page := HUB_PAGE.match(name):
        return from_hub(page.group(1), field, fetch)
    if name.startswith(("http://", "https://")):
        return from_link(whole.replace("/blob/", "/resolve/") if "huggingface.co/" in name else whole, field, fetch)
    path = expanded(name)
    try:
        path.exists()
    except (OSError, ValueError) as error:
        raise UserError("base.not_a_path", field, path=shown(name), error=type(error).__name__) from error
    if not path.exists() and HUB_NAME.match(name) and path.suffix.lower() not in (".safetensors", ".ckpt", ".pt"):
        return from_hub(name, field, fetch)
    if not path.exists():
        raise UserError("base.not_found", field, path=name)
    return path


# --- Hugging Face


def from_hub(name: str, field: str, fetch: Fetch) -> Path:
    """Return the model's folder in the Hugging Face cache, after completing it if the network is available."""
    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=hub_files.TIME_OUT)
        chosen = hub_files.model_files({file.rfilename: file.size or 0 for file in info.siblings or []})
        if not chosen:
            raise UserError("base.not_on_hub_as_diffusers", field, name=name)
        hub_files.require_space(field, name, sum(chosen.values()))
        return hub_files.snapshot(name, chosen, info.sha, kind="model", stage=(STAGE, fetch.stage))
    except hub_files.REACH as error:
        if not isinstance(error, RepositoryNotFoundError):
            with contextlib.suppress(*hub_files.REACH):  # no network, but already in the cache
                return Path(snapshot_download(name, local_files_only=True))
        raise hub_files.away(field, name, error, "model") from error


def download_config(name: str, field: str) -> Path:
    """Download only a diffusers model's configuration files from Hugging Face, and return their folder."""
    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "unet/config.json"]))
    except hub_files.REACH as error:
        raise hub_files.away(field, name, error, "model") from error


# --- links


def from_link(link: str, field: str, fetch: Fetch) -> Path:
    """Return the file behind a complete link, downloading each version of it once. A resumed run keeps its version."""
    shown = links.bare(link)
    begun = MODELS / fetch.known[shown] if shown in fetch.known else None
    if begun and begun.is_file():
        return begun
    transfer = Transfer(Address(link), field, fetch.stage)
    folder = MODELS / (re.sub(r"[^A-Za-z0-9.-]", "_", transfer.host)[:60] + "-" + _digest(shown))
    try:
        offer = transfer.offer()
        path = there(folder, offer)
        if path is None:
            with alone(folder, fetch):
                path = there(folder, offer) or fetched(transfer, offer, folder, field)
    except UserError as error:
        raise with_earlier(error, folder) from None
    fetch.keep(shown, path.relative_to(MODELS).as_posix())
    return path


def there(folder: Path, offer: Offer) -> Path | None:
    """Return the offered file if it was downloaded before."""
    return next(_models(folder / _digest(offer.identity)), None) if offer.identity else None


def fetched(transfer: Transfer, offer: Offer, folder: Path, field: str) -> Path:
    """Download the offered file into its version's folder. A file that is not a model is deleted."""
    part = folder / f"{_digest(offer.identity)}{PART}"
    for left in folder.glob(f"*{PART}"):  # of versions that are no longer offered
        if left != part or not offer.is_resumable:
            shutil.rmtree(left, ignore_errors=True)
    part.mkdir(exist_ok=True)
    path = part / offer.name
    for other in part.iterdir():  # the server has renamed it
        if other != path:
            other.replace(path)
    transfer.fetch(offer, path)
    try:
        kept = recognised(path, transfer, field)
    except UserError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    files.flush_to_disk(kept)
    version = folder / _digest(offer.identity or files.sha256_of(kept))
    if not version.is_dir():
        files.replace(part, version)
    else:  # the server did not name a version, and the content is the same
        shutil.rmtree(part, ignore_errors=True)
    return version / kept.name


def recognised(path: Path, transfer: Transfer, field: str) -> Path:
    """Return the file with a model's suffix. Raises UserError if it is not a complete model."""
    with path.open("rb") as file:
        if file.read(512).lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
            raise transfer.page()
    kind = container(path, field)
    SingleFileSource(path, field).close()
    if path.suffix.lower() in MODEL_SUFFIXES:
        return path
    return path.rename(path.with_name(path.name + (".safetensors" if kind == "safetensors" else ".ckpt")))


@contextlib.contextmanager
def alone(folder: Path, fetch: Fetch) -> Iterator[None]:
    """Lock this link against other downloads, after waiting for one in progress."""
    while (lock := files.try_lock(folder / "lock")) is None:
        fetch.stage(STAGE, 0, 0)
        time.sleep(0.5)
    with lock:
        yield


def with_earlier(error: UserError, folder: Path) -> UserError:
    """Return the error, extended by the path of an earlier download of this link if there is one."""
    earlier = [path for version in sorted(folder.glob("*")) if version.suffix != PART for path in _models(version)]
    if not earlier:
        return error
    said = error.problem
    known = {"reason": said.message, "remedy": said.remedy, "path": earlier[-1]}
    return UserError("base.downloaded_before", said.field, **known)


def _models(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.suffix.lower() in MODEL_SUFFIXES)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
