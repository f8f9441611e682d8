"""Presets: settings under a name. The built-in ones follow the guide; the user's own are files beside the runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import files
from ..errors import UserError
from ..parsing import parse, shown

BUILT_IN = Path(__file__).with_name("presets")
LARGEST = 256 * 1024  # bytes of a preset's file
LONGEST = 100  # letters of a name
MOST = 500  # own presets
ABOUT = "Use letters, digits, spaces, - and _, such as 'My faces'."
# What belongs to one run, and is nothing to use again
NOT_KEPT = ("name", "instance_data_dir", "class_data_dir", "instance_prompt", "class_prompt", "concepts")


@dataclass(frozen=True)
class Preset:
    """Settings under a name; `problem` says why a file holds none."""

    name: str
    title: str
    description: str
    built_in: bool
    settings: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Presets:
    """The built-in presets and those in `folder`, which need not exist. Everything is read when asked for."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def list(self) -> list[Preset]:
        """Built-in ones first, each part in its order; a damaged file is named with its problem."""
        built_in = [_read(path, built_in=True) for path in sorted(BUILT_IN.glob("*.json"))]
        own = [_read(path, built_in=False) for path in self._files()]
        return [*built_in, *sorted(own, key=lambda preset: preset.title.casefold())]

    def get(self, name: str) -> Preset:
        """The preset of that name or title. Raises UserError("preset")."""
        known = self.list()
        for preset in known:
            if name.strip().casefold() in (preset.name.casefold(), preset.title.casefold()):
                if preset.problem:
                    raise UserError("preset", f"'{preset.name}' {preset.problem}", "Delete it, and save it again.")
                return preset
        names = ", ".join(preset.name for preset in known)
        raise UserError("preset", f"there is no preset {shown(name)}.", f"There are: {names}.")

    def save(self, name: str, settings: Mapping[str, Any], description: str = "") -> Preset:
        """Keep settings under a name, over an own preset of that name. Raises UserError."""
        raise NotImplementedError

    def delete(self, name: str) -> None:
        """Raises UserError("preset") for a name that is built in, or is not there."""
        raise NotImplementedError

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.json")) if self.folder and self.folder.is_dir() else []


def _read(path: Path, built_in: bool) -> Preset:
    raise NotImplementedError
