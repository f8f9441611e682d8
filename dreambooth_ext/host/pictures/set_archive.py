"""A set as one zip: its pictures, captions and masks; and a set from a zip that anybody may have made.

The zip has the files side by side, and `set.json` with the title. It names no folder, user or machine. What was done to
edited pictures, and their originals, stay behind.

A zip from elsewhere is refused as a whole, with the reason, before anything of it is a set: names that lead elsewhere,
links, devices, encryption, more entries or bytes than a set can have, contents that unpack to far more than they are
(also by sharing them among entries), and pictures that cannot be decoded.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.data import captions, folder_scan
from ...core.system import files
from ..errors import Refusal
from . import image_decoding, set_about
from .new_set import new_set
from .uploads import LARGEST, LARGEST_CAPTION, MOST_PICTURES, SPARE, PictureSets, safe_name

ABOUT = "set.json"
MOST_ENTRIES = 4 * MOST_PICTURES  # each picture with a caption and masks
LARGEST_ARCHIVE = 4 * 2**30 - 2**20  # bytes; larger ones need zip64
MOST_BYTES = 8 * 2**30  # unpacked
STEEPEST = 200  # times that an entry may unpack to; photographs do not shrink at all
SMALL = 2**20  # bytes, below which that does not matter
LARGEST_LIST = 24 * 2**20  # bytes of the zip's list of entries
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
END, END_SIZE, ZIP64 = b"PK\x05\x06", 22, b"PK\x06\x07"
ENCRYPTED = 0x1  # of an entry's flags
BLOCK = 2**20
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError, OverflowError)


# --- out


class _Pipe:
    """What a zip is written into, to be taken piece by piece."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def take(self) -> bytes:
        data, self.written = b"".join(self.written), []
        return data


def stream(folder: Path) -> Iterator[bytes]:
    """A set's zip, in pieces of a file each."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:  # type: ignore[call-overload]
        title = set_about.title(folder) or folder.name
        archive.writestr(ABOUT, json.dumps({"format": 1, "title": title}, ensure_ascii=False) + "\n")
        for item in sorted(os.scandir(folder), key=lambda item: item.name):
            if item.is_file(follow_symlinks=False) and _belongs(item.name):
                archive.write(item.path, item.name)
                yield pipe.take()
    yield pipe.take()


def _belongs(name: str) -> bool:
    return not name.startswith(".") and (folder_scan.is_picture(name) or name.lower().endswith(".txt"))


# --- in


def read(sets: PictureSets, path: Path, title: str = "") -> dict[str, Any]:
    """Make a set of the zip at `path`: {"set", "folder", "title", "count", "left_out"}. Raises a Refusal.

    title: instead of the zip's own. left_out: names of files that are neither pictures nor captions.
    """
    try:
        _check_list(path)
        with zipfile.ZipFile(path) as archive:
            entries, left_out = _entries(archive, path.stat().st_size)
            title = set_about.cleaned(title) or _title(archive)
            if files.free_bytes(sets.folder) < sum(entry.file_size for entry in entries.values()) + SPARE:
                raise Refusal(507, "upload.disk_full", folder=str(sets.folder))
            with new_set(sets, title or "pictures") as made:
                for name, entry in entries.items():
                    _unpack(archive, entry, name, made.place)
                set_about.write_title(made.place, title)
    except DAMAGE as error:
        raise Refusal(422, "sets.damaged", "file", error=str(error)[:200]) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a position before the file's beginning gives
            raise
        raise Refusal(422, "sets.damaged", "file", error=str(error)[:200]) from None
    count = len(folder_scan.without_masks(entries))
    return {"set": made.path.name, "folder": str(made.path), "title": title, "count": count, "left_out": left_out}


def _check_list(path: Path) -> None:
    """Raise a Refusal if the zip's list of entries is longer than any set's, before anything reads it."""
    with path.open("rb") as stream:
        length = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, length - 2**16 - END_SIZE))
        tail = stream.read()
    at = tail.rfind(END)
    if at < 0 or len(tail) - at < END_SIZE:
        raise zipfile.BadZipFile("File is not a zip file")
    entries, listed = struct.unpack("<10xHL", tail[at : at + 16])
    if entries > MOST_ENTRIES or listed > LARGEST_LIST or tail[max(0, at - 20) : at].startswith(ZIP64):
        raise Refusal(422, "sets.many_entries", "file", most=MOST_ENTRIES)


def _entries(archive: zipfile.ZipFile, length: int) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """The entries to unpack by their names in the set, and names of others. Raises a Refusal."""
    listed = archive.infolist()
    if len(listed) > MOST_ENTRIES:
        raise Refusal(422, "sets.many_entries", "file", most=MOST_ENTRIES)
    found: dict[str, zipfile.ZipInfo] = {}
    left_out: list[str] = []
    taken: set[str] = set()
    for entry in listed:
        _check_kind(entry)
        name = _name(entry)
        if entry.is_dir() or not name or name == ABOUT:
            continue
        if not _belongs(name):
            left_out.append(ascii(name[:80])[1:-1])
            continue
        safe = safe_name(name)
        if safe.casefold() in taken:
            raise Refusal(422, "sets.twice", "file", name=shown(safe))
        taken.add(safe.casefold())
        found[safe] = entry
    pictures = [name for name in found if folder_scan.is_picture(name)]
    if not pictures:
        raise Refusal(422, "sets.no_pictures", "file")
    if len(pictures) > MOST_PICTURES:
        raise Refusal(413, "upload.set_full", "set", most=MOST_PICTURES)
    _check_sizes(found, length)
    return found, left_out


def _check_kind(entry: zipfile.ZipInfo) -> None:
    """Raise a Refusal for an entry that is encrypted, or neither a file nor a folder."""
    name = entry.orig_filename
    if entry.flag_bits & ENCRYPTED:
        raise Refusal(422, "sets.encrypted", "file", name=shown(name))
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refusal(422, "sets.link", "file", name=shown(name))
    if entry.compress_type not in PACKINGS:
        raise Refusal(422, "sets.packing", "file", name=shown(name))


def _name(entry: zipfile.ZipInfo) -> str:
    """The name without the folders before it; "" for hidden files. Raises a Refusal for a path that leads out."""
    path = entry.orig_filename
    parts = path.split("/")
    leads_out = path.startswith("/") or ".." in parts or set(path) & {"\\", "\0"} or ":" in parts[0]
    if leads_out:
        raise Refusal(422, "sets.path", "file", name=shown(path))
    if any(part.startswith(".") or part.lower() in folder_scan.NO_FOLDERS for part in parts):
        return ""
    return parts[-1]


def _check_sizes(found: dict[str, zipfile.ZipInfo], length: int) -> None:
    """Raise a Refusal for what unpacks to too much, or is packed in fewer bytes than it says."""
    for name, entry in found.items():
        most = LARGEST if folder_scan.is_picture(name) else LARGEST_CAPTION
        if entry.file_size > most:
            raise Refusal(413, "sets.large_entry", "file", name=shown(name), most=files.human_size(most))
        if entry.file_size > max(SMALL, STEEPEST * entry.compress_size):
            raise Refusal(422, "sets.bomb", "file", name=shown(name), times=STEEPEST)
    if sum(entry.file_size for entry in found.values()) > MOST_BYTES:
        raise Refusal(413, "sets.too_much", "file", most=files.human_size(MOST_BYTES))
    if sum(entry.compress_size for entry in found.values()) > length:
        raise Refusal(422, "sets.shared", "file")


def _title(archive: zipfile.ZipFile) -> str:
    """The title in the zip, if it has a good one."""
    for entry in archive.infolist():
        if entry.orig_filename.rpartition("/")[2] == ABOUT and entry.file_size <= LARGEST_CAPTION:
            try:
                return set_about.cleaned(files.parse_json(b"".join(_content(archive, entry)))["title"])
            except (ValueError, LookupError, TypeError, Refusal):
                return ""
    return ""


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """An entry's bytes, no more than it says. Raises BadZipFile, also if its checksum is another."""
    left = entry.file_size
    with archive.open(entry) as stream:
        while block := stream.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise zipfile.BadZipFile(f"{shown(entry.orig_filename)} is longer than it says")
            yield block


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, place: Path) -> None:
    data = b"".join(_content(archive, entry))
    if folder_scan.is_picture(name):
        image_decoding.check_picture(name, data)
    else:
        try:
            captions.decoded(data)
        except UnicodeDecodeError:
            raise Refusal(422, "upload.caption_not_utf8", "caption", file=name) from None
    (place / name).write_bytes(data)


def shown(name: str) -> str:
    return ascii(name[:80])[1:-1]
