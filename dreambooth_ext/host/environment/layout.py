"""The paths in an environment's folder, and its state according to its marker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...core.errors import Problem
from ...core.messages.message import Message
from ...core.system.files import read_json
from .interpreter import REPOSITORY, torch_stamp
from .lock_file import Recipe, lock_hash
from .pip_runner import interpreter_of, site_of
from .torch_build import AUTOMATIC, BUILDS

FOLDER_VARIABLE = "DREAMBOOTH_EXT_ENVIRONMENT"

# A marker without one of these, as an older version wrote it, counts as none. `torch_build` came later, and may lack.
MARKER_KEYS = {
    "kind",
    "folder",
    "host",
    "python",
    "python_version",
    "real_python",
    "base_python",
    "lock",
    "expected",
    "extras",
    "built",
    "torch",
    "torch_stamp",
    "packages",
    "places",
    "optional",
}


class Layout:
    """One environment's folder; `folder` defaults to `environment` in the repository."""

    def __init__(self, folder: Path | None = None, recipe: Recipe | None = None):
        chosen = folder or os.environ.get(FOLDER_VARIABLE) or REPOSITORY / "environment"
        self.folder = Path(chosen).absolute()
        self.recipe = recipe or Recipe()
        self.tree = self.folder / "venv"
        self.packages = self.folder / "packages"  # of the kind "target"
        self.marker = self.folder / "ready.json"  # written last: without it nothing here counts
        self.constraints = self.folder / "constraints.txt"
        self.log = self.folder / "install.log"
        self.asked = self.folder / "torch_build.txt"  # which build of torch somebody asked for
        self.failure = self.folder / "failure.json"  # why the last set-up failed, until one succeeds

    def record(self) -> dict[str, Any]:
        """The marker's content; {} without a readable marker."""
        try:
            record = read_json(self.marker)
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) and record.keys() >= MARKER_KEYS else {}

    def asked_torch(self) -> str:
        """The build of torch that `env --torch` asked for; "auto" without."""
        try:
            name = self.asked.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return AUTOMATIC
        return name if name in BUILDS else AUTOMATIC

    def has_torch(self, asked: str, record: dict[str, Any]) -> bool:
        """Whether the environment of this marker was made with the build that is asked for."""
        made = record.get("torch_build", {})
        return asked == made.get("asked", AUTOMATIC) or asked == made.get("name")

    def judge(self, record: dict[str, Any]) -> tuple[str, str]:
        """(state, reason) of an environment with that marker."""
        if not record:
            if self.tree.exists() or self.packages.exists():
                return "broken", Message("environment.interrupted")
            return "missing", Message("environment.missing")
        python = Path(record["python"])
        if not python.exists():
            return "broken", Message("environment.no_interpreter", python=python)
        if os.path.realpath(record["folder"]) != os.path.realpath(self.folder):  # a link to it is no other place
            return "outdated", Message("environment.moved", folder=record["folder"])
        if os.path.realpath(python) != record["real_python"] or not Path(record["base_python"]).exists():
            return "outdated", Message("environment.other_python")
        if record["torch_stamp"] != torch_stamp(record["torch"]["folder"]):
            return "outdated", Message("environment.other_torch", folder=record["torch"]["folder"])
        gone = [name for name, place in record["places"].items() if not os.path.exists(place)]
        if gone:  # an overlay shares what the host has in the right version, until the host changes it
            return "outdated", Message("environment.other_packages", names=gone)
        if record["lock"] != lock_hash(self.recipe.lock):
            return "outdated", Message("environment.other_lock")
        return "ready", ""

    def last_failure(self) -> Problem | None:
        """Why the last build failed and what to do; None if it succeeded, or was killed."""
        try:
            return Problem.from_dict({"field": "environment", **read_json(self.failure)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def python(self) -> Path:
        """The environment's interpreter, which need not exist yet."""
        record = self.record()
        return Path(record["python"]) if record else interpreter_of(self.tree)

    def own_site(self, python: tuple[int, int], kind: str) -> Path:
        return self.packages if kind == "target" else site_of(self.tree, python)

    def starter(self, kind: str, python: Path) -> list[str]:
        """The start of the command line of programs inside an environment of that kind."""
        if kind == "target":
            return [str(python), str(Path(__file__).with_name("bootstrap.py")), str(self.packages)]
        return [str(python)]
