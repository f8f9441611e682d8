"""The interface of hosts, the program around the tab: a WebUI (webui_forks.py) or a folder (folder_host.py)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from ...core.config.run_config import RunConfig
from ...core.errors import Problem
from ...core.messages.message import Message


class Host(Protocol):
    """All methods may be called from any thread. A `kind` is one of publishing_targets.WEBUI_FOLDERS' keys."""

    @property
    def name(self) -> str:
        """For users: "AUTOMATIC1111 v1.10.1", "Forge ...", "standalone"."""

    def data_folder(self) -> Path:
        """Where our own files go by default: runs/, pictures/, presets/."""

    def runs_folder(self) -> Path:
        """Where runs are kept, each in a folder of its own."""

    def folders(self) -> dict[str, Path]:
        """Kind -> the folder where the host looks for such files."""

    def lacks(self) -> dict[str, Message]:
        """Kind of file, or model family ("sd2") -> why this host cannot use it; empty if it can use all."""

    def refused(self, config: RunConfig, family: str) -> list[Problem]:
        """What else of a config's models it could not use, by single settings. family: see base_header."""

    def publishing(self) -> dict[str, Any]:
        """Where models go, and where they could, as the page shows it; empty where that is the host's own affair."""

    def publish_into(self, folder: str) -> None:
        """Where models go from now on: a program's folder, "" for our own. Raises UserError."""

    def versions(self) -> dict[str, str]:
        """The "sd version" in a model's description -> this host's own name for it, if it has another."""

    def bases(self) -> list[dict[str, str]]:
        """The checkpoints that the host lists, and new ones in its folder, each with "title" and "path"."""

    def current_base(self) -> str:
        """The path of the selected checkpoint; "" if there is none."""

    def option(self, name: str) -> Any:
        """The value of one of options.OPTIONS, by its name."""

    def restricted(self) -> str:
        """Why paths of this machine may not be used over the network, as a sentence; "" if they may."""

    def api_auth(self) -> dict[str, str]:
        """User -> password that the API asks for; empty if it asks for none."""

    def has_login(self) -> bool:
        """Whether the host's page asks for a login."""

    def handed_over(self, mode: str, device: str) -> AbstractContextManager[None]:
        """Take the host's models off the device inside the block, and bring them back afterwards in every case.

        device: as jobs/devices.py names it; nothing moves if the host uses another one. Several threads may be inside
        at once: the first one's mode counts, and the models return when the last one has left. mode: what happens to
        pictures requested meanwhile: "refuse" (with a message), "wait" (drawn afterwards) or "share" (drawn at once;
        the models stay where they are). Waits for the picture that is being drawn.
        """

    def models_away(self) -> str:
        """The mode in which the models are off the device now, while drawing is refused or waits; "" if they are
        not."""

    def models_loaded(self) -> int | None:
        """How many models the host was seen to load until now; None while it cannot refresh its page's lists of models,
        because one is being loaded."""

    def is_wanted(self) -> bool:
        """Whether somebody waits for a picture because the models are off the device."""

    def refresh(self, kind: str, path: Path) -> None:
        """Refresh the host's lists and caches after `path` was published, perhaps over an older file."""

    def select(self, path: Path) -> str:
        """Select that checkpoint in the host; returns its title there. Raises UserError("select") if it does not load.

        Inside `handed_over` the choice is recorded at once and the checkpoint loaded afterwards.
        """

    def interrogators(self) -> dict[str, str]:
        """The host's own taggers by name, each with what it says: "tags" or "sentences"."""

    def interrogate(self, name: str, content: bytes) -> str:
        """What one of them says of a picture (JPEG). Waits until nothing is being drawn."""

    def needs(self, path: Path) -> Problem | None:
        """Why that model cannot be removed now; None if it can."""

    def forget(self, kind: str, path: Path) -> None:
        """Refresh the host's lists after `path` was removed."""
