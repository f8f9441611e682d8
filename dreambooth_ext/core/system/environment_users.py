"""Tracks which programs are using the trainer's environment, so that it is not removed while they run.

Each holds a lock file of its own in the environment's `users/`, named after what it does; the system releases it
however the program ends. A single lock for all would have to be shared, which Windows lacks.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from . import files

VARIABLE = "DREAMBOOTH_EXT_USED"  # the environment's folder, for programs that run inside
PATIENCE = 1.0  # seconds; who looks holds a lock for an instant
OLD = 60.0  # seconds after which a file that nobody holds was left by a kill


@contextlib.contextmanager
def joined(what: str, folder: Path | None = None) -> Iterator[None]:
    """Register as a user of the environment in `folder` (default: the one this program runs in), under the name `what`.

    If nothing can be written there, the program runs all the same.
    """
    folder = folder or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    path = folder / "users" / f"{what}-{os.getpid()}.lock" if folder else None
    lock = _held(path) if path else None
    try:
        yield
    finally:
        if path and lock:
            lock.close()
            with contextlib.suppress(OSError):
                path.unlink()


def _held(path: Path) -> IO[bytes] | None:
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(OSError):
        while (lock := files.try_lock(path)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return lock
    return None


def names(folder: Path) -> list[str]:
    """What the programs that use the environment in `folder` are doing: a run's name, or a command of the command
    line."""
    found = []
    for path in sorted((folder / "users").glob("*.lock")):
        with contextlib.suppress(OSError):  # it has just ended
            if files.is_locked(path):
                found.append(path.stem.rpartition("-")[0])
            elif time.time() - path.stat().st_mtime > OLD:
                path.unlink()
    return list(dict.fromkeys(found))
