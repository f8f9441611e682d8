"""Installing with uv, where it is there: in a tenth of pip's time, and into environments that have no pip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import UserError
from ...core.messages.message import Message
from .interpreter import REPOSITORY
from .pip_runner import Cancelled, Installer, Pip, Window

PROGRAM = "uv.exe" if os.name == "nt" else "uv"
OFF = "off"  # of the variable: pip is used
VARIABLE = "DREAMBOOTH_EXT_UV"


def find_uv(host_python: Path) -> Path | None:
    """uv, as people have it: named, on the PATH, in the host's environment, from its installer, of Stability Matrix."""
    named = os.environ.get(VARIABLE, "")
    if named == OFF:
        return None
    places = [
        Path(named or PROGRAM),
        Path(os.environ.get("UV") or PROGRAM),  # set by `uv run` for what it starts
        Path(shutil.which("uv") or PROGRAM),
        host_python.parent / PROGRAM,
        Path.home() / ".local" / "bin" / PROGRAM,
        Path.home() / ".cargo" / "bin" / PROGRAM,
        *(folder / "Assets" / "uv" / PROGRAM for folder in (*host_python.parents[:6], *REPOSITORY.parents[:5])),
    ]
    return next((place for place in places if place.is_absolute() and place.is_file()), None)


def uv_sources() -> bool:
    """Whether the user's settings of uv name packages' sources of its own."""
    named = ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS")
    return any(os.environ.get(name) for name in named)


@dataclass(frozen=True)
class Uv(Installer):
    """`pip`: makes what to fall back on where uv fails."""

    program: Path
    python: Path
    pip: Callable[[], Pip]

    def install(
        self, what: Iterable[str], stage: str, window: Window, *, dependencies: bool = False, index: str | None = None
    ) -> None:
        packages = list(what)
        if not packages:
            return
        options = ["--python", str(self.python), "--no-python-downloads"]
        if index:  # otherwise uv takes each package from the first index that has any version of it
            options += ["--index-strategy", "unsafe-best-match"]
        options += self.options(dependencies, index)
        command = [str(self.program), "pip", "install", *options, *packages]
        try:
            self.runner.run(command, stage, window, steps=len(packages))
        except Cancelled:
            raise
        except UserError as error:
            if error.problem.code in ("environment.disk_full", "environment.no_build"):
                raise
            self.runner.progress(None, Message("environment.uv_failed", reason=error.problem.message))
            try:
                pip = self.pip()
            except Cancelled:
                raise
            except UserError:  # no pip either
                raise error from None
            pip.install(packages, stage, window, dependencies=dependencies, index=index)
