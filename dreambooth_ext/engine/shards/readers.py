"""Opens shards where they lie: files of this machine, links (http, https), and all that fsspec reads (hf, s3 ...)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ...core.config import links
from ...core.errors import UserError
from ...core.messages.message import reason_of
from ...core.shards import shard_names
from ...core.shards.shard_names import FIELD
from .http_reader import HttpReader
from .parquet_reader import ParquetReader
from .retries import PAUSES, Rest
from .tar_members import Reader

CHUNK = 2**20  # bytes read at once to pass over others
BLOCK = 8 * 2**20  # bytes that fsspec asks for at once
IDENTITIES = ("size", "ETag", "etag", "blob_id", "md5Hash", "generation")  # of S3, Hugging Face, Google
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


@dataclass(frozen=True)
class Shard:
    """One tar file. name: for messages and records, without secrets; where: the path or the complete link; size, time:
    of a local file, in bytes and nanoseconds, by which a change shows."""

    name: str
    where: str
    is_local: bool
    size: int = 0
    time: int = 0

    @property
    def is_table(self) -> bool:
        return self.name.lower().endswith(shard_names.PARQUET)

    @property
    def is_in_place(self) -> bool:
        """Whether its pictures can be read where they lie: those of a table are compressed."""
        return self.is_local and not self.is_table

    @property
    def title(self) -> str:
        """What pictures in it are called after."""
        return self.name.rstrip("/").replace("\\", "/").rpartition("/")[2]


def listed(text: str) -> list[Shard]:
    """Return the shards that the setting names, in a fixed order. text: with the link's secrets. Raises UserError."""
    if not links.is_link(text):
        found = [path.absolute() for path in shard_names.local(text)]
        stats = [path.stat() for path in found]
        return [Shard(str(p), str(p), True, s.st_size, s.st_mtime_ns) for p, s in zip(found, stats, strict=True)]
    found_names = shard_names.names(text.strip())
    if not is_http(text):
        found_names = [name for pattern in found_names for name in _matching(pattern)]
    shard_names.require_tar(found_names)
    return [Shard(links.bare(name), name, False) for name in found_names]


def is_http(text: str) -> bool:
    return text.strip().lower().startswith(("http://", "https://"))


def opened(shard: Shard, at: int, identity: str, rest: Rest) -> Reader | ParquetReader:
    """Open a shard at a place. identity: what the reader said of it before (`HttpReader.identity`), by which a change
    shows; rest: waits between tries, and may raise to end them."""
    if shard.is_table:
        return ParquetReader(shard.name, at, identity, partial(_table, shard), partial(_judge, shard), rest)
    if shard.is_local:
        return LocalReader(shard, at)
    if is_http(shard.where):
        return HttpReader(shard.where, shard.name, at, identity, rest)
    return RemoteReader(shard, at, identity, rest)


class LocalReader:
    """Reads a file of this machine. Passing over its contents costs nothing."""

    identity = ""

    def __init__(self, shard: Shard, at: int):
        self.name, self.at = shard.name, at
        try:
            self._file = open(shard.where, "rb")  # noqa: SIM115 - closed by `close`
            self._size = require_same(shard, self._file.fileno())
            self._file.seek(at)
        except OSError as error:
            raise unreadable(shard.name, error) from error

    def read(self, count: int) -> bytes:
        try:
            content = self._file.read(count)
        except OSError as error:
            raise unreadable(self.name, error) from error
        self.at += len(content)
        return content

    def skip(self, count: int) -> None:
        if self.at + count > self._size:
            raise UserError("shards.cut", FIELD, shard=self.name, at=self._size)
        self.at += count
        self._file.seek(self.at)

    def close(self) -> None:
        self._file.close()


def require_same(shard: Shard, descriptor: int) -> int:
    """Return the bytes of an opened shard. Raises UserError if it has changed since it was listed."""
    about = os.fstat(descriptor)
    if (about.st_size, about.st_mtime_ns) != (shard.size, shard.time):
        raise UserError("shards.changed", FIELD, shard=shard.name)
    return about.st_size


def unreadable(name: str, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError("shards.missing", FIELD, shard=name)
    return UserError("shards.unreadable", FIELD, shard=name, error=reason_of(error))


# --- by fsspec


class RemoteReader:
    """Reads through one of fsspec's file systems. What fails is tried again, from the same place. identity: the file's
    size, and what else the file system knows its content by."""

    def __init__(self, shard: Shard, at: int, identity: str, rest: Rest):
        self.name, self.at, self.identity, self._where, self._rest = shard.name, at, identity, shard.where, rest
        self._file: Any = None

    def read(self, count: int) -> bytes:
        parts, left = [], count
        while left and (block := _patiently(partial(self._some, left), self.name, self._rest, self.close)):
            parts.append(block)
            left -= len(block)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        while count:
            passed = len(self.read(min(count, CHUNK)))
            if not passed:
                raise UserError("shards.cut", FIELD, shard=self.name, at=self.at)
            count -= passed

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _some(self, count: int) -> bytes:
        if self._file is None:
            self._file, said = _remote(self._where)
            if self.identity and said != self.identity:
                raise UserError("shards.changed", FIELD, shard=self.name)
            self.identity = said
            self._file.seek(self.at)
        content = self._file.read(count)
        self.at += len(content)
        return content


def _patiently(work: Callable[[], Any], name: str, rest: Rest, before_next: Callable[[], None] = lambda: None) -> Any:
    """Do what a file system may fail to do, several times. Its packages raise errors of their own."""
    for pause in (*PAUSES, None):
        try:
            return work()
        except UserError:
            raise
        except Exception as error:
            before_next()
            _require_hope(name, error, pause is None)
            assert pause is not None
            rest(pause)
    raise AssertionError("unreachable")


def _require_hope(name: str, error: Exception, is_last: bool) -> None:
    """Raise UserError for an error of a file system after which no further try is worthwhile."""
    if isinstance(error, FileNotFoundError):
        raise UserError("shards.missing", FIELD, shard=name) from None
    if isinstance(error, PermissionError) or _status(error) in REFUSED:
        raise UserError("shards.refused", FIELD, shard=name, error=_told(error)) from None
    if is_last:
        raise UserError("shards.unreachable", FIELD, shard=name, tries=len(PAUSES) + 1, error=_told(error)) from error


def _status(error: Exception) -> int:
    """Return the status that a server answered with, 0 if none is known."""
    return getattr(getattr(error, "response", None), "status_code", 0)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {links.masked(str(reason_of(error)))[:200]}"


def _remote(where: str) -> tuple[Any, str]:
    """Return an opened file of fsspec's, and what its content is known by."""
    system, path = _system(where)
    about = system.info(path)
    said = " ".join(str(about[key]) for key in IDENTITIES if about.get(key))
    return system.open(path, "rb", block_size=BLOCK, cache_type="readahead"), said


def _table(shard: Shard) -> tuple[Any, str]:
    """Open a Parquet file wherever it is."""
    if not shard.is_local:
        return _remote(shard.where)
    file = open(shard.where, "rb")  # noqa: SIM115 - closed by the reader
    require_same(shard, file.fileno())
    return file, ""


def _judge(shard: Shard, error: Exception, is_last: bool) -> None:
    if shard.is_local:
        raise unreadable(shard.name, error if isinstance(error, OSError) else OSError(_told(error))) from error
    _require_hope(shard.name, error, is_last)


def _matching(pattern: str) -> Sequence[str]:
    """Return the complete addresses of a pattern: of a folder all .tar files, in natural order."""
    scheme, shown = pattern.partition("://")[0], links.bare(pattern)

    def found() -> list[str]:
        system, path = _system(pattern)
        if shard_names.has_wildcard(path):
            return [str(one) for one in system.glob(path)]
        if path.lower().endswith((shard_names.TAR, shard_names.PARQUET)) or not system.isdir(path):
            return [path]
        return shard_names.of_folder([str(one) for one in system.ls(path, detail=False)])

    names = sorted(_patiently(found, shown, time.sleep), key=shard_names.natural_key)
    if not names:
        raise UserError("shards.none_match", FIELD, text=shown)
    return [name if "://" in name else f"{scheme}://{name.lstrip('/')}" for name in names]


def _system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it. Raises UserError if it is not installed."""
    import fsspec

    scheme = address.partition("://")[0].strip().lower()
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = PACKAGES.get(scheme) or reason_of(error)
        raise UserError("shards.needs_package", FIELD, scheme=f"{scheme}://", package=package) from error
    except ValueError as error:
        raise UserError("shards.other_scheme", FIELD, scheme=f"{scheme}://", error=_told(error)) from error


def content_of(path: Path, at: int, size: int, shard: Shard | None) -> bytes:
    """Return a part of a file. shard: the one that it is, if it is one. Raises UserError if it vanished or changed."""
    name = shard.name if shard else str(path)
    try:
        with path.open("rb", buffering=0) as file:
            if shard:
                require_same(shard, file.fileno())
            file.seek(at)
            content = file.read(size)
    except OSError as error:
        raise unreadable(name, error) from error
    if len(content) < size:
        raise UserError("shards.cut", FIELD, shard=name, at=at + len(content))
    return content
