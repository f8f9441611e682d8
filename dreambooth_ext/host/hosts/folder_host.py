"""A folder as the host: the tab without a WebUI, publishing into a folder, or into a program that draws."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...core.config.parsing import to_path
from ...core.config.run_config import RunConfig
from ...core.errors import Problem, UserError
from ...core.messages.message import Message
from ...core.system.files import expanded, read_json, write_json
from .model_lists import checkpoints
from .options import FileOptions
from .publishing_targets import PROGRAMS, WEBUI_FOLDERS, Target, neighbours, recognised

CHOICE = "publishing.json"  # where the page's choice is kept: {"folder": ...}


class FolderHost:
    """`folder` keeps our own files; models go into a program's folders, or below `folder`, laid out as a WebUI's."""

    name = "standalone"

    def __init__(
        self,
        folder: Path,
        target: Target | None = None,
        *,
        runs: Path | None = None,
        passwords: dict[str, str] | None = None,
        restricted: str = "",
    ):
        """`target`: where models go, whatever was chosen in the page; `runs`: the runs' folder, whatever the options
        say; `passwords`, `restricted`: see host.Host."""
        self.folder = folder.absolute()
        self.runs, self.passwords, self.restriction = runs, passwords or {}, restricted
        self.target = target or self._chosen_before()
        self.options = FileOptions(self.folder / "options.json")
        self._chosen = ""

    def data_folder(self) -> Path:
        return self.folder

    def runs_folder(self) -> Path:
        if self.runs:
            return self.runs.absolute()
        named = to_path(self.option("runs_folder"))
        return expanded(named).absolute() if named else self.folder / "runs"

    def folders(self) -> dict[str, Path]:
        if self.target:
            return dict(self.target.folders)
        return {kind: self.folder / place for kind, place in WEBUI_FOLDERS.items()}

    def lacks(self) -> dict[str, Message]:
        return dict(self.target.lacks) if self.target else {}

    def refused(self, config: RunConfig, family: str) -> list[Problem]:
        return self.target.refused(config, family) if self.target else []

    # --- where models go

    def publish_into(self, folder: str) -> None:
        """As chosen in the page, for this time and the next: a program's folder, "" for our own. Raises UserError."""
        named = to_path(folder)
        self.target = recognised(expanded(named).absolute(), "folder") if named else None
        write_json(self.folder / CHOICE, {"folder": str(self.target.folder) if self.target else ""})

    def _chosen_before(self) -> Target | None:
        """None where nothing was chosen, or it is not there any more."""
        try:
            named = read_json(self.folder / CHOICE)["folder"]
            return recognised(Path(named), "folder") if named else None
        except (UserError, OSError, ValueError, LookupError, TypeError):
            return None

    @functools.cached_property
    def _neighbours(self) -> list[Target]:
        return list(neighbours(self.folder))

    def publishing(self) -> dict[str, Any]:
        """For the page: {"folder", "program", "known": [{"folder", "program"}, ...]}, our own folder without a name."""
        now = self.target
        known = {str(one.folder): PROGRAMS[one.program] for one in (*([now] if now else []), *self._neighbours)}
        return {
            "folder": str(now.folder) if now else "",
            "program": PROGRAMS[now.program] if now else "",
            "known": [{"folder": folder, "program": program} for folder, program in known.items()],
        }

    def versions(self) -> dict[str, str]:
        return {}

    def bases(self) -> list[dict[str, str]]:
        return checkpoints(self.folders()["checkpoint"])

    def current_base(self) -> str:
        return self._chosen if self._chosen and Path(self._chosen).exists() else ""

    def option(self, name: str) -> Any:
        return self.options.values()[name]

    def restricted(self) -> str:
        return self.restriction

    def api_auth(self) -> dict[str, str]:
        return self.passwords

    def has_login(self) -> bool:
        return False

    @contextmanager
    def handed_over(self, mode: str, device: str) -> Iterator[None]:
        """There is no model to move."""
        yield

    def models_away(self) -> str:
        return ""

    def models_loaded(self) -> int | None:
        return 0

    def is_wanted(self) -> bool:
        return False

    def refresh(self, kind: str, path: Path) -> None:
        """Lists are read from the disk each time."""

    def select(self, path: Path) -> str:
        self._chosen = str(path)
        return path.name

    def interrogators(self) -> dict[str, str]:
        return {}

    def interrogate(self, name: str, content: bytes) -> str:
        raise LookupError(name)  # there are none

    def needs(self, path: Path) -> None:
        """Nothing is loaded."""

    def forget(self, kind: str, path: Path) -> None:
        """Lists are read from the disk each time."""
