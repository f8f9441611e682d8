"""What a disk refuses, in words."""

from __future__ import annotations

import errno
from collections.abc import Callable

from ..errors import Problem

FILE_TOO_LARGE = 223  # Windows' own number, for which Python knows no name


def problem_of(error: OSError) -> Problem | None:
    """None for what is no matter of the disk."""
    told = _TOLD.get(errno.EFBIG if getattr(error, "winerror", None) == FILE_TOO_LARGE else error.errno)
    if told is None:
        return None
    where = f" ({error.filename})" if error.filename else ""
    message, remedy = told(where)
    return Problem("checkpointing_steps" if told is _full else "", message, remedy)


def _full(where: str) -> tuple[str, str]:
    return "the disk is full.", "Delete old runs, then resume this one."


def _too_large(where: str) -> tuple[str, str]:
    remedy = "Use another disk (NTFS, exFAT or ext4, not FAT32), or raise the limit (ulimit -f), then try again."
    return f"a file became larger than this disk, or this user's limit, allows{where}.", remedy


def _read_only(where: str) -> tuple[str, str]:
    return f"the disk can only be read{where}.", "Make it writable, or use another folder, then try again."


def _refused(where: str) -> tuple[str, str]:
    return (
        f"this user may not use a file or folder{where}.",
        "Change its rights, or close the program that has it open, then try again.",
    )


def _held(where: str) -> tuple[str, str]:
    message = f"another program has a file that is needed, and does not let go of it{where}: it is paused, or hangs."
    return message, "Let it go on, or end it, then try again."


def _broken(where: str) -> tuple[str, str]:
    return f"the disk reports an error{where}.", "Check the disk and its cable, then try again."


def _gone(where: str) -> tuple[str, str]:
    return f"a network folder or a disk is gone{where}.", "Connect it again, then try again."


def _too_many(where: str) -> tuple[str, str]:
    return "too many files are open.", "Close other programs, or raise the limit (ulimit -n), then try again."


_TOLD: dict[int | None, Callable[[str], tuple[str, str]]] = {
    errno.ENOSPC: _full,
    errno.EFBIG: _too_large,
    errno.EROFS: _read_only,
    errno.EACCES: _refused,
    errno.EPERM: _refused,
    errno.EBUSY: _held,
    errno.EIO: _broken,
    errno.ENODEV: _gone,
    errno.ENXIO: _gone,
    errno.EMFILE: _too_many,
    errno.ENFILE: _too_many,
}
for _name, _words in (("EDQUOT", _full), ("ESTALE", _gone), ("ENOTCONN", _gone), ("EHOSTDOWN", _gone)):
    if hasattr(errno, _name):  # Windows lacks some
        _TOLD[getattr(errno, _name)] = _words
