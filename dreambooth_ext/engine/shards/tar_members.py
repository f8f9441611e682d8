"""The files in a tar, one after another, from any header in it: their names and places, and nothing more in memory.

`tarfile` itself keeps a list of all members and reads long names of any length; here its `TarInfo` only decodes headers
(POSIX.1-1988 ustar, with GNU's and POSIX.1-2001's long names). Links, devices and sparse files are passed over: nothing
is ever unpacked to where a name says.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ...core.errors import UserError
from ...core.shards.shard_names import FIELD

BLOCK = 512  # bytes
LONGEST_NAME = 2**16  # bytes of an extended header; names in data sets have a hundred
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
END = bytes(BLOCK)
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


class Reader(Protocol):
    """A shard that is read from its beginning or from a place in it, and only forwards."""

    name: str  # for messages
    at: int  # the place of the next byte
    identity: str  # changes with the shard; "" if unknown

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer only where the shard ends. Raises UserError naming the shard."""

    def skip(self, count: int) -> None:
        """Pass over `count` bytes. Raises UserError naming the shard if it has not so many."""

    def close(self) -> None:
        """Let go of the file or connection."""


@dataclass(frozen=True)
class Member:
    """One file in a tar. header: where the first of its headers begins; at: where its content does."""

    name: str
    header: int
    at: int
    size: int


def members(reader: Reader) -> Iterator[Member]:
    """Yield the files from the reader's place on. Of each content as much is read as the caller wants, before the next.

    Raises UserError if the shard is no tar, is damaged, or ends before the mark that closes a tar.
    """
    begin, name, size = reader.at, "", -1  # what extended headers say of the next member
    while (block := exactly(reader, BLOCK)) != END:
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError):
            if block.startswith(COMPRESSED) and reader.at == BLOCK:
                raise UserError("shards.packed", FIELD, shard=reader.name) from None
            raise UserError("shards.not_tar", FIELD, shard=reader.name, at=reader.at - BLOCK) from None
        if info.size < 0:
            raise UserError("shards.not_tar", FIELD, shard=reader.name, at=reader.at - BLOCK)
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            if info.size > LONGEST_NAME:
                raise UserError("shards.not_tar", FIELD, shard=reader.name, at=reader.at - BLOCK)
            content = exactly(reader, padded(info.size))[: info.size]
            if info.type == tarfile.GNUTYPE_LONGNAME:
                name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            else:
                said = records(content)
                name = said.get("path", name)
                size = int(said["size"]) if said.get("size", "").isdigit() else size
            continue
        length = info.size if size < 0 else size
        content_at = reader.at
        if info.type in FILES:
            yield Member(name or info.name, begin, content_at, length)
        reader.skip(content_at + padded(length) - reader.at)
        begin, name, size = reader.at, "", -1


def exactly(reader: Reader, count: int) -> bytes:
    """Return the next `count` bytes. Raises UserError if the shard ends before."""
    content = reader.read(count)
    if len(content) < count:
        raise UserError("shards.cut", FIELD, shard=reader.name, at=reader.at)
    return content


def padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def records(content: bytes) -> dict[str, str]:
    """Return what a POSIX.1-2001 header says: lines of "length key=value"."""
    found: dict[str, str] = {}
    while content:
        length = content.partition(b" ")[0]
        if not length.isdigit() or not len(length) < int(length[:9]) <= len(content):
            break
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        content = content[int(length) :]
    return found
