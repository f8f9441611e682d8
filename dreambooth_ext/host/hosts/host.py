"""What the host side asks of the program around it: a WebUI (webui_forks.py) or a folder (folder_host.py)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from ...core.errors import Problem
from ...core.messages.message import Message


class Host(Protocol):
    """All of it may be called from any thread. A `kind` is one of publishing_targets.WEBUI_FOLDERS' keys."""

    @property
    def name(self) -> str:
        """For the user: "AUTOMATIC1111 v1.10.1", "Forge ...", "standalone"."""

    def data_folder(self) -> Path:
        """Where our own files go by default: runs/, pictures/, presets/."""

    def runs_folder(self) -> Path:
        """Where runs are kept: a folder for each of them."""

    def folders(self) -> dict[str, Path]:
        """Kind -> the folder where the host looks for such files."""

    def lacks(self) -> dict[str, Message]:
        """Kind of file, or family of models ("sd2") -> why this host cannot use it; empty when it can use all."""

    def versions(self) -> dict[str, str]:
        """The "sd version" of a model's description -> this host's own word for it, where it has another."""

    def bases(self) -> list[dict[str, str]]:
        """The checkpoints that the host lists, and new ones in its folder, each with its "title" and "path"."""

    def current_base(self) -> str:
        """The path of the chosen checkpoint, "" without one."""

    def option(self, name: str) -> Any:
        """One of options.OPTIONS by its name."""

    def restricted(self) -> str:
        """Why paths of this machine cannot be used over the network, as a sentence; "" when they can."""

    def api_auth(self) -> dict[str, str]:
        """User -> password that the API asks for; empty when it asks for none."""

    def has_login(self) -> bool:
        """Whether the host's page asks for a login."""

    def handed_over(self, mode: str, device: str) -> AbstractContextManager[None]:
        """The host's models are off the device inside, and back afterwards in every case.

        device: as jobs/devices.py names it; nothing moves where the host uses another one. Several threads may be
        inside at once: the first one's mode counts, and the models are back when the last has left.
        mode: what happens to pictures asked for meanwhile: "refuse" (with a message), "wait" (drawn afterwards) or
        "share" (drawn at once; the models stay where they are). Waits for the picture that is being drawn.
        """

    def models_away(self) -> str:
        """The mode by which they are off the device now, and drawing is refused or waits; "" when they are there."""

    def refresh(self, kind: str, path: Path) -> None:
        """`path` has just been published, perhaps over an older file: the host's lists and caches are refreshed."""

    def select(self, path: Path) -> str:
        """Make that checkpoint the host's; returns its title there. Raises UserError("select") if it does not load.

        Inside `handed_over` the choice is noted at once and the checkpoint loaded afterwards.
        """

    def needs(self, path: Path) -> Problem | None:
        """Why that model cannot be removed now; None if it can."""

    def forget(self, kind: str, path: Path) -> None:
        """`path` has just been removed: lists that still have it are refreshed."""
