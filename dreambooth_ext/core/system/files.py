"""Writes files so that they survive a kill at any instant: temporary name, flush to disk, rename; and locks between
processes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from ..messages.message import Message

Result = TypeVar("Result")

LARGEST_TEXT = 64 * 2**20  # bytes of a text or JSON file that nothing says less about
MOST_DIGITS = 1000
PATIENCE = 10.0  # seconds for a lock that is held for moments only: who has it for longer is paused, or hangs
TEMPORARY = ".tmp-"  # prefix of unfinished files and folders; anything so named may be deleted at start-up


@contextlib.contextmanager
def replacing(path: Path, parents: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` if the block succeeds, else removed.

    The name keeps its suffix because some writers choose the format by it. parents: create the folders above it.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        yield temporary
        flush_to_disk(temporary)
        replace(temporary, path)
        flush_folder(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:  # what Windows keeps because it is still mapped goes at the next start, and hides no error here
            with contextlib.suppress(PermissionError):
                temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Flush a file, or every file below a folder, through the operating system's cache."""
    for file in [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    if path.is_dir():
        flush_folder(path)


def flush_folder(path: Path) -> None:
    """Flush a folder's list of names, so that a renamed file keeps its new name after a power cut."""
    if os.name == "nt":
        return  # Windows cannot open folders, and its rename is journalled
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def patiently(action: Callable[[], Result], patience: float = 5.0) -> Result:
    """Retry an action for a moment while Windows refuses it because a virus scanner, a viewer, or another of our
    processes has the file open or is replacing it."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return action()
        except PermissionError:
            if os.name != "nt" or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def replace(source: Path, target: Path) -> None:
    """`os.replace` with retries; a folder may replace a folder, too."""

    def once() -> None:
        if target.is_dir() and source.is_dir():
            shutil.rmtree(target)
        os.replace(source, target)

    patiently(once)


def expanded(path: str | Path) -> Path:
    """The path with `~` expanded to the home folder; unchanged for an unknown user."""
    return Path(os.path.expanduser(path))


def write_text(path: Path, text: str, parents: bool = True) -> None:
    with replacing(path, parents) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, parents: bool = True) -> None:
    """Write a JSON file. parents: create the folders above it."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n", parents)


def require_ordinary(path: str | Path, largest: int | None = None) -> None:
    """Raise OSError with the reason for anything that must not be read whole: folders, devices and pipes, which never
    end or block, and files above `largest` bytes."""
    about = os.stat(path)
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, Message("files.is_folder"), str(path))
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, Message("files.is_device"), str(path))
    if largest is not None and about.st_size > largest:
        raise OSError(errno.EFBIG, Message("files.too_large", most=human_size(largest)), str(path))


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Read an untrusted UTF-8 text. Raises OSError, also for what `require_ordinary` refuses, and
    UnicodeDecodeError."""
    require_ordinary(path, largest)
    return path.read_text(encoding="utf-8-sig")


def read_json(path: Path, largest: int = LARGEST_TEXT) -> Any:
    """Read a JSON file. Raises OSError, and ValueError if it is damaged."""
    return parse_json(patiently(lambda: read_text(path, largest)))


def parse_json(text: str | bytes, **options: Any) -> Any:
    """`json.loads` with its options. Raises ValueError for damaged JSON, too deep nesting, and numbers of thousands of
    digits, which take old Pythons minutes."""
    try:
        return json.loads(text, parse_int=_whole_number, **options)
    except RecursionError:
        raise ValueError(Message("files.json_too_deep")) from None


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(Message("files.json_long_number", digits=len(digits)))
    return int(digits)


def remove_unfinished(folder: Path) -> None:
    """Delete temporary files that a killed process left directly in `folder`."""
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a folder so that an interruption never leaves part of it under its name."""
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    replace(path, temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def free_bytes(path: Path) -> int:
    """Free space on the disk that holds `path`, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def human_size(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{size:.0f} {unit}" if unit in ("B", "KB") else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


class Held(OSError):
    """The lock is held by another process that does not release it."""

    def __init__(self, path: Path):
        super().__init__(errno.EBUSY, Message("files.locked"), str(path))


@contextlib.contextmanager
def locked(path: Path, patience: float | None = None) -> Iterator[None]:
    """Hold `path` as a lock between processes; the system releases it however its holder ends.

    Raises Held after `patience` seconds, PATIENCE if None, because a holder may be paused and neither end nor continue.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    with path.open("a+b") as stream:
        while not _lock(stream):
            if time.monotonic() >= deadline:
                raise Held(path)
            time.sleep(0.005)
        try:
            yield
        finally:
            _unlock(stream)


def try_lock(path: Path) -> IO[bytes] | None:
    """Take the lock if it is free, and hold it until the returned stream is closed; None if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("a+b")
    if _lock(stream):
        return stream
    stream.close()
    return None


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock. Checking does not block others who check."""
    if not path.exists():
        return False
    with path.open("rb") as stream:
        return not _lock(stream, shared=True)


if sys.platform == "win32":
    import msvcrt

    def _lock(stream: IO[bytes], shared: bool = False) -> bool:  # there are no shared locks here
        try:
            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(stream: IO[bytes]) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(stream: IO[bytes], shared: bool = False) -> bool:
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(stream: IO[bytes]) -> None:
        fcntl.flock(stream, fcntl.LOCK_UN)
