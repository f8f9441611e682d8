"""Turns disk errors into problems that a user understands."""

from __future__ import annotations

import errno

from ..errors import Problem

FILE_TOO_LARGE = 223  # Windows' own number, for which Python knows no name

FULL, GONE, REFUSED = "disk.full", "disk.gone", "disk.refused"
_CODES: dict[int | None, str] = {
    errno.ENOSPC: FULL,
    errno.EFBIG: "disk.too_large",
    errno.EROFS: "disk.read_only",
    errno.EACCES: REFUSED,
    errno.EPERM: REFUSED,
    errno.EBUSY: "disk.held",
    errno.EIO: "disk.broken",
    errno.ENODEV: GONE,
    errno.ENXIO: GONE,
    errno.EMFILE: "disk.too_many_files",
    errno.ENFILE: "disk.too_many_files",
}
for _name, _code in (("EDQUOT", FULL), ("ESTALE", GONE), ("ENOTCONN", GONE), ("EHOSTDOWN", GONE)):
    if hasattr(errno, _name):  # Windows lacks some
        _CODES[getattr(errno, _name)] = _code
_OF_FILES = {  # the same, where the file is known
    "disk.too_large": "disk.file_too_large",
    "disk.read_only": "disk.file_read_only",
    REFUSED: "disk.file_refused",
    "disk.held": "disk.file_held",
    "disk.broken": "disk.file_broken",
    GONE: "disk.file_gone",
}


def problem_of(error: OSError) -> Problem | None:
    """The problem behind an OSError; None if it is not about the disk."""
    code = _CODES.get(errno.EFBIG if getattr(error, "winerror", None) == FILE_TOO_LARGE else error.errno)
    if code is None:
        return None
    if error.filename and code in _OF_FILES:
        return Problem(_OF_FILES[code], file=str(error.filename))
    return Problem(code, "checkpointing_steps" if code == FULL else "")
