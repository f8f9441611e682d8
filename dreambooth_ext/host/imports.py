"""Other trainers' configurations as our settings: kohya's (TOML, or its GUI's JSON) and sd_dreambooth_extension's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import UserError

LARGEST = 1024 * 1024  # letters


@dataclass
class Imported:
    """`settings` are ours, as values for `parse`; `ignored` names what was not taken over, and why."""

    source: str  # "kohya sd-scripts", "kohya_ss", "sd_dreambooth_extension", "dreambooth_ext"
    settings: dict[str, Any] = field(default_factory=dict)
    ignored: list[dict[str, str]] = field(default_factory=list)  # {"name", "reason"}

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read(text: str) -> Imported:
    """What a configuration's text says in our settings. Raises UserError("text") where nothing can be read."""
    raise UserError("text", "importing is not there yet.", "Set the values by hand.")
