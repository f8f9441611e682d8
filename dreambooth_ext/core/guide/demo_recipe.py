"""The bundled recipe, base and pictures: a training that works at once, to try the program with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..system.files import read_json

FOLDER = Path(__file__).resolve().parents[2] / "demo"
BASE = FOLDER / "base" / "demo-base.safetensors"
PICTURES = FOLDER / "pictures"
RECIPE = FOLDER / "subject.json"


def settings() -> dict[str, Any]:
    """A run's settings, by name."""
    return read_json(RECIPE) | {"base_model": str(BASE), "instance_data_dir": str(PICTURES)}
