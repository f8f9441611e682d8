"""A file on its way into a folder: kept apart until it is complete, so that it can be gone on with, or leave nothing.

`<folder>/.download-<key>/` holds it as `<name>.part`, a name that no program lists as a model, with `about.json`, from
which version of the file it is, and `lock`, held by the process that downloads.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ...core.system import files
from .http_file import Offer

PREFIX = ".download-"
PART = ".part"
ABOUT, LOCK = "about.json", "lock"
MOST_NAMES = 1000  # of one stem in a folder


class Unfinished:
    """One file on its way. link: one that may be stored; with `choice` it names the download. given: the link as the
    user gave it, without secrets."""

    def __init__(self, folder: Path, link: str, choice: str = "", given: str = ""):
        digest = hashlib.sha256(f"{link}\n{choice}".encode("utf-8", "surrogateescape")).hexdigest()
        self.folder, self.link, self.choice, self.given = folder, link, choice, given
        self.place = folder / f"{PREFIX}{digest[:16]}"

    def part(self, name: str) -> Path:
        return self.place / (name + PART)

    def received(self) -> int:
        """Bytes that are here already."""
        return sum(path.stat().st_size for path in self.place.glob(f"*{PART}")) if self.place.is_dir() else 0

    @contextlib.contextmanager
    def held(self, field: str) -> Iterator[None]:
        """Let no other process download the same. Raises UserError if one does."""
        self.place.mkdir(parents=True, exist_ok=True)
        lock = files.try_lock(self.place / LOCK)
        if lock is None:
            raise UserError("download.going_on", field, link=self.link)
        try:
            yield
        finally:
            lock.close()
            with contextlib.suppress(OSError):  # nothing has come yet
                if not self.received():
                    shutil.rmtree(self.place, ignore_errors=True)

    def prepare(self, name: str, offer: Offer, sha256: str) -> Path:
        """The path to download to. What is here of another version of the file is deleted."""
        about = {
            "link": self.link,
            "choice": self.choice,
            "validator": offer.validator,
            "size": offer.size,
            "sha256": sha256,
        }
        path = self.part(name)
        if self._about() != about:
            for other in self.place.glob(f"*{PART}"):
                other.unlink()
            files.write_json(self.place / ABOUT, {**about, "given": self.given})
        for other in self.place.glob(f"*{PART}"):
            if other != path:  # the server has renamed it
                files.replace(other, path)
        return path

    def _about(self) -> Any:
        try:
            return {name: value for name, value in files.read_json(self.place / ABOUT).items() if name != "given"}
        except (OSError, ValueError, AttributeError):
            return None

    def discard(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)


def numbered(name: str) -> Iterator[str]:
    """The name, and the same with a number behind it."""
    stem, suffix = Path(name).stem, Path(name).suffix
    yield name
    yield from (f"{stem}-{number}{suffix}" for number in range(2, MOST_NAMES))


def free_name(folder: Path, name: str) -> str:
    """The name, or with a number behind it if there is such a file already, whatever its case."""
    taken = {path.name.casefold() for path in folder.iterdir()} if folder.is_dir() else set()
    return next((one for one in numbered(name) if one.casefold() not in taken), name)


def there(folder: Path, name: str, size: int | None, sha256: str) -> Path | None:
    """The file of that name, perhaps with a number, and that content."""
    for one in numbered(name):
        path = folder / one
        try:
            if path.stat().st_size == size and path.is_file() and files.sha256_of(path) == sha256:
                return path
        except FileNotFoundError:
            return None
        except OSError:
            continue
    return None


def put(part: Path, folder: Path, name: str) -> Path:
    """Give a complete file its name in the folder, or the next free one; never replaces another file."""
    if os.stat(part).st_dev != os.stat(folder).st_dev:  # only now does its content tell that it belongs elsewhere
        with files.replacing(folder / (part.name + PART)) as copy:
            shutil.copyfile(part, copy)
        part = folder / (part.name + PART)
    files.flush_to_disk(part)
    for _ in range(MOST_NAMES):
        target = folder / free_name(folder, name)
        try:
            _rename(part, target)
        except FileExistsError:  # just made by somebody else
            continue
        files.flush_folder(folder)
        return target
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder / name))


def _rename(part: Path, target: Path) -> None:
    """Rename without replacing. Raises FileExistsError."""
    if os.name == "nt":
        files.patiently(lambda: os.rename(part, target))
        return
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(part, target)
    else:
        part.unlink()


def in_progress(folder: Path) -> list[Unfinished]:
    """What is on its way into a folder, or was left there by a process that was killed."""
    found = []
    for about in folder.glob(f"{PREFIX}*/{ABOUT}"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            said = files.read_json(about)
            one = Unfinished(folder, said["link"], said["choice"], said["given"])
            if one.place == about.parent:
                found.append(one)
    return found


def is_held(place: Path) -> bool:
    return files.is_locked(place / LOCK)
