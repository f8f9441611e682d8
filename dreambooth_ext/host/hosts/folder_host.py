"""A folder as host: the tab without a WebUI, publishing into a folder or into a WebUI that is not running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...core.config.parsing import to_path
from ...core.messages.message import Message
from ...core.system.files import expanded
from .model_lists import checkpoints
from .options import FileOptions
from .publishing_targets import WEBUI_FOLDERS, lacks, webui_folder


class FolderHost:
    """Keeps our own files in `folder`; models go below `webui`, in a WebUI's layout, or below `folder` without one."""

    name = "standalone"

    def __init__(
        self,
        folder: Path,
        webui: Path | None = None,
        *,
        runs: Path | None = None,
        passwords: dict[str, str] | None = None,
        restricted: str = "",
    ):
        """`runs`: the runs' folder, overriding the options; `passwords`, `restricted`: see host.Host."""
        self.folder = folder.absolute()
        self.runs, self.passwords, self.restriction = runs, passwords or {}, restricted
        self.webui = webui.absolute() if webui else None
        self.places = {kind: self.folder / place for kind, place in WEBUI_FOLDERS.items()}
        if self.webui:  # raises UserError where it is none
            self.places = {kind: webui_folder(self.webui, kind) for kind in WEBUI_FOLDERS}
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
        return dict(self.places)

    def lacks(self) -> dict[str, Message]:
        return lacks(self.webui) if self.webui else {}

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

    def refresh(self, kind: str, path: Path) -> None:
        """Lists are read from the disk each time."""

    def select(self, path: Path) -> str:
        self._chosen = str(path)
        return path.name

    def needs(self, path: Path) -> None:
        """Nothing is loaded."""

    def forget(self, kind: str, path: Path) -> None:
        """Lists are read from the disk each time."""
