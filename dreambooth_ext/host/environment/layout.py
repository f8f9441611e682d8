"""What lies where in the folder of an environment, and what its marker says of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...core.system.files import read_json
from .interpreter import REPOSITORY, torch_stamp
from .lock_file import Recipe, lock_hash
from .pip_runner import interpreter_of, site_of

FOLDER_VARIABLE = "DREAMBOOTH_EXT_ENVIRONMENT"
REPAIR = "Repair it with: python -m dreambooth_ext env --repair"

# A marker without one of these, as an older version wrote it, counts as none.
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
        self.failure = self.folder / "failure.json"  # why the last set-up failed, until one succeeds

    def record(self) -> dict[str, Any]:
        """The marker's content; empty without a readable one."""
        try:
            record = read_json(self.marker)
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) and record.keys() >= MARKER_KEYS else {}

    def judge(self, record: dict[str, Any]) -> tuple[str, str]:
        """(state, reason) of an environment with that marker."""
        if not record:
            if self.tree.exists() or self.packages.exists():
                return "broken", "An earlier set-up was interrupted."
            return "missing", "The trainer's environment has not been made yet."
        python = Path(record["python"])
        if not python.exists():
            return "broken", f"Its interpreter {python} is gone."
        if os.path.realpath(record["folder"]) != os.path.realpath(self.folder):  # a link to it is no other place
            return "outdated", f"It was made in {record['folder']} and cannot be moved."
        if os.path.realpath(python) != record["real_python"] or not Path(record["base_python"]).exists():
            return "outdated", "The Python that it was made with has been replaced."
        if record["torch_stamp"] != torch_stamp(record["torch"]["folder"]):
            return "outdated", f"The torch in {record['torch']['folder']} has changed or is gone."
        gone = [name for name, place in record["places"].items() if not os.path.exists(place)]
        if gone:  # an overlay shares what the host has in the right version, until the host changes it
            return "outdated", f"These packages have changed or are gone: {', '.join(gone)}."
        if record["lock"] != lock_hash(self.recipe.lock):
            return "outdated", "The list of its packages has changed."
        return "ready", ""

    def last_failure(self) -> str:
        """What the last set-up died of and what to do; empty where it succeeded, or was killed."""
        try:
            return read_json(self.failure)["message"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def python(self) -> Path:
        """Its interpreter, which need not exist yet."""
        record = self.record()
        return Path(record["python"]) if record else interpreter_of(self.tree)

    def own_site(self, python: tuple[int, int], kind: str) -> Path:
        return self.packages if kind == "target" else site_of(self.tree, python)

    def starter(self, kind: str, python: Path) -> list[str]:
        """How programs inside are started, for an environment of that kind."""
        if kind == "target":
            return [str(python), str(Path(__file__).with_name("bootstrap.py")), str(self.packages)]
        return [str(python)]
