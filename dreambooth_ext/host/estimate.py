"""How long a run will take: from earlier runs on this machine, else from the guide's table, else unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import RunConfig


def seconds(runs_dir: Path, config: RunConfig, plan: dict[str, Any], card: str = "") -> dict[str, Any]:
    """{"seconds": number | None, "source": text} for a completed config and its plan (`Inspector.inspect`).

    `card`: the device's name, as `Environment.status().device` says it.
    """
    return {"seconds": None, "source": "no run on this machine yet"}
