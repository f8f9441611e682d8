"""Replaces several files of a folder together, so that a kill at any instant leaves all old ones or all new ones.

Everything new is first written into a folder of its own, `.tmp-dreambooth_ext-...` beside its place, under names that
no listing takes for a model. Its `plan.json`, written last, makes it complete; from then on it is carried out, by the
next program if necessary. While the sidecars change, the old model is set aside, and the new one gets its name last: a
model is never beside another one's sidecars.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ...core.errors import UserError
from ...core.system import files

PREFIX = f"{files.TEMPORARY}dreambooth_ext-"
ALONE = f"{files.TEMPORARY}dreambooth_ext.lock"
PART = ".part"  # ends every file's name in there: listings of models go by suffix
PLAN, LOCK = "plan.json", "lock"  # who works at it holds the lock


PLAIN = (".json", ".preview.png")  # sidecars that change nothing of what a model draws
OLD = "old "  # begins the name of what was set aside
FORMER = re.compile(r"\.tmp-[0-9]+-.+(\.part|-clip|\.json)")  # how versions before 0.2 called theirs
PATIENCE = 120.0  # seconds in which nothing comes of what another program publishes, until it counts as paused
AGE = 86400.0  # seconds after which nobody writes to one of those any more


class Staging:
    """A context manager that collects new files; `commit` puts them in place. `model`: the name of the file that comes
    last."""

    def __init__(self, folder: Path, model: str):
        self.folder, self.model = folder, model
        self.names: list[str] = []  # to be put there
        self.dropped: list[str] = []

    def __enter__(self) -> Staging:
        while True:
            self.place = self.folder / f"{PREFIX}{uuid.uuid4().hex[:12]}"
            self.place.mkdir()
            lock = files.try_lock(self.place / LOCK)
            if lock:
                self._lock = lock
                return self  # else somebody has just swept it

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error and any(self.place.glob(f"{OLD}*")):
            self._lock.close()  # begun: whoever comes next carries it through
        else:
            remove(self.place, self._lock)

    def put(self, name: str, write: Callable[[Path], Any]) -> None:
        """Stage a file or folder: `write` creates it at the path that it is given."""
        write(self.place / (name + PART))
        self.names.append(name)

    def put_bytes(self, name: str, content: bytes) -> None:
        """Stage a file with this content, unless it is already there."""
        target = self.folder / name
        if not target.is_file() or target.read_bytes() != content:
            self.put(name, lambda path: path.write_bytes(content))

    def drop(self, name: str) -> None:
        if (self.folder / name).exists():
            self.dropped.append(name)

    def changes_the_model(self) -> bool:
        """Whether files change from which the model is built, other than the model itself."""
        return _changes_the_model([*self.names, *self.dropped], self.model)

    def commit(self) -> None:
        if not self.names and not self.dropped:
            return
        for name in self.names:
            files.flush_to_disk(self.place / (name + PART))
        plan = {"model": self.model, "put": self.names, "drop": self.dropped}
        files.write_json(self.place / PLAN, plan)
        carry_through(self.place, plan)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let only one program at a time publish into a folder: two with models of the same name would mix them up.

    The lock's file is deleted by its last holder. Raises OSError if the holder hangs; copying a checkpoint may take
    long.
    """
    path = folder / ALONE
    seen, since, ahead = None, time.monotonic(), 0.0
    while (lock := files.try_lock(path)) is None or not _is_there(lock, path):
        if lock:
            lock.close()
        elif time.monotonic() > ahead:
            ahead = time.monotonic() + 1
            if seen != (now := _staged(folder)):
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                raise files.Held(path)
        time.sleep(0.02)
    try:
        yield
    finally:
        if os.name == "nt":  # it deletes nothing that is open, here or by somebody who waits
            lock.close()
        with contextlib.suppress(OSError):
            path.unlink()
        lock.close()


def _staged(folder: Path) -> list[tuple[str, int]]:
    """Names and sizes of what programs are staging there, to see whether they progress."""
    found = []
    for path in folder.glob(f"{PREFIX}*/**/*"):
        with contextlib.suppress(OSError):  # renamed meanwhile
            found.append((str(path), path.stat().st_size))
    return sorted(found)


def _is_there(lock: IO[bytes], path: Path) -> bool:
    """Whether a lock's file still has its name: its former holder may have deleted it."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _changes_the_model(names: list[str], model: str) -> bool:
    return any(name != model and not name.endswith(PLAIN) for name in names)


def carry_through(place: Path, plan: dict[str, Any]) -> None:
    """Carry out the rest of a plan that may have been begun. Dropped folders go once the new model is there."""
    folder, model = place.parent, plan["model"]
    sidecars = [name for name in plan["put"] if name != model]
    if (place / (model + PART)).exists() and _changes_the_model([*sidecars, *plan["drop"]], model):
        set_aside(place, model)
    for name in plan["drop"]:
        if not (folder / name).is_dir():
            set_aside(place, name)
    for name in [*sidecars, model]:
        coming = place / (name + PART)
        if coming.exists():
            if coming.is_dir():
                set_aside(place, name)
            files.replace(coming, folder / name)
    for name in plan["drop"]:
        set_aside(place, name)
    files.flush_folder(folder)


def set_aside(place: Path, name: str) -> None:
    if (place.parent / name).exists():
        files.replace(place.parent / name, place / f"{OLD}{name}{PART}")


def sweep(folder: Path, check: Callable[[Path], Any]) -> None:
    """Finish, or remove, what killed programs of ours left in a folder; those still running are left alone.

    check: raises UserError for the path of a model that is not ours to replace.
    """
    for place in folder.glob(f"{PREFIX}*"):
        lock = files.try_lock(place / LOCK)
        if lock is None:
            continue
        plan = read_plan(place)
        with contextlib.suppress(UserError):
            if plan:
                check(folder / plan["model"])
                carry_through(place, plan)
        remove(place, lock)
    for path in folder.glob(f"{files.TEMPORARY}*"):
        if FORMER.fullmatch(path.name) and time.time() - path.stat().st_mtime > AGE:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def read_plan(place: Path) -> dict[str, Any] | None:
    """The plan, or None if it is incomplete or not ours: its names become paths."""
    try:
        plan = files.read_json(place / PLAN)
        names = [plan["model"], *plan["put"], *plan["drop"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    plain = all(isinstance(name, str) and name == Path(name).name and not name.startswith(".") for name in names)
    return plan if plain else None


def remove(place: Path, lock: IO[bytes]) -> None:
    """Delete a staging folder while holding its lock, so that nobody starts in it; Windows cannot delete open files."""
    if os.name == "nt":
        lock.close()
    shutil.rmtree(place, ignore_errors=True)
    lock.close()
