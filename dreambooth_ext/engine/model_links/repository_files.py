"""Fetches named files of a Hugging Face repository into a folder, for tools that need more than a model: a tagger with
its list of tags, say."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from ...core.errors import UserError
from ...core.messages.message import reason_of
from ...core.system import files
from ...core.system.files import free_bytes, human_size
from ..downloads import unfinished
from ..downloads.http_file import RESERVE, Transfer
from ..downloads.progress_thread import STAGE, Stage, silent
from ..downloads.unfinished import Unfinished
from . import hub
from .found import Logins


def fetch_files(
    link: str,
    names: list[str],
    folder: Path,
    *,
    known: Logins,
    public_only: bool = False,
    stage: Stage = silent,
    field: str = "link",
) -> list[Path]:
    """Fetch files of a repository (its name, or a link to a revision) into a folder; returns their paths there.

    A file that is there with the same content is not fetched again, one with other content is never replaced. stage:
    gets bytes, of all files together. Each file is compared with the hash that the Hub tells. Raises UserError.
    """
    name, revision, _ = hub.parsed(link, field)
    info = hub.about(name, revision, known, field)
    listed = {file.rfilename: file for file in info.siblings or []}
    missing = [one for one in names if one not in listed or not is_plain(one)]
    if missing or not names:
        raise UserError("download.hub_no_file", field, name=name, file=", ".join(missing) or "?")
    sizes = {one: hub.size_of(listed[one]) or 0 for one in names}
    free, need = free_bytes(folder), sum(sizes.values())
    if need + RESERVE > free:
        raise UserError("download.no_space", field, name=name, need=human_size(need), free=human_size(free))
    done = 0
    for one in names:
        told = {"site": hub.SITE, "revision": info.sha or revision}
        found = hub.one_file(listed[one], f"{name}/{one}", told, name, known, public_only)
        tell = functools.partial(_tell, stage, done, need)
        _fetch(found.address, found.link, listed[one], folder / one, field, tell)
        done += sizes[one]
        stage(STAGE, done, need)
    return [folder / one for one in names]


def _tell(stage: Stage, before: int, of: int, now: int) -> None:
    stage(STAGE, before + now, of)


def is_plain(name: str) -> bool:
    """Whether a file of a repository may have its own name below a folder of ours."""
    parts = PurePosixPath(name).parts
    plain = all(part not in ("..", ".") and not set(part) & set('\\:*?"<>|') for part in parts)
    return bool(parts) and plain and not name.startswith("/")


def _fetch(address: Any, link: str, about: Any, target: Path, field: str, tell: Any) -> None:
    if target.is_file():
        if is_same(target, about):
            return
        raise UserError("download.other_file_there", field, path=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        coming = Unfinished(target.parent, link)
        with coming.held(field):
            transfer = Transfer(address, field, lambda *_: tell(transfer.done))
            offer = transfer.offer()
            part = coming.prepare(target.name, offer, hub.sha256_of(about))
            transfer.fetch(offer, part)
            if not is_same(part, about):
                coming.discard()
                raise UserError("download.not_announced", field, name=target.name)
            unfinished.put(part, target.parent, target.name)
        coming.discard()
    except OSError as error:
        raise UserError("download.cannot_save", field, error=reason_of(error)) from error


def is_same(path: Path, about: Any) -> bool:
    """Whether a file has the content that the Hub tells: SHA-256 of large files, git's own hash of the others."""
    if sha256 := hub.sha256_of(about):
        return files.sha256_of(path) == sha256
    content = path.read_bytes() if path.stat().st_size == hub.size_of(about) else b""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return blob == about.blob_id
