"""Writing that survives a kill at any instant: everything goes to a temporary name, to the disk, then to its real name."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"  # prefix of unfinished files and folders; anything so named may be deleted at start-up


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, else it is removed.

    The name keeps its suffix because some writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        flush_to_disk(temporary)
        replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Flush a file, or every file below a folder, through the operating system's cache."""
    for file in [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    if os.name != "nt":  # Windows cannot open folders, and its rename is journalled
        for folder in {path.parent, path} if path.is_dir() else {path.parent}:
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def replace(source: Path, target: Path, patience: float = 5.0) -> None:
    """`os.replace` that waits a moment for a virus scanner or viewer to let go of the target (Windows)."""
    deadline = time.monotonic() + patience
    while True:
        try:
            if target.is_dir() and source.is_dir():
                shutil.rmtree(target)
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed process left under temporary names directly in `folder`."""
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Free space on the disk that holds `path`, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def human_size(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{size:.0f} {unit}" if unit in ("B", "KB") else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")
