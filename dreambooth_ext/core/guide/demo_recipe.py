"""The bundled recipe, base and pictures: a training that works at once, to try the program with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..system.files import read_json

FOLDER = Path(__file__).resolve().parents[2] / "demo"
BASE = FOLDER / "base" / "demo-base.safetensors"
PICTURES = FOLDER / "pictures"
RECIPE = FOLDER / "subject.json"
PROMPTS = (  # in the words of the base, which knows no others
    "a big zkz figure on a blue background",
    "a big zkz figure on the grass",
    "a big zkz figure on a brick wall",
    "a big red circle on a blue background",
    "a big green star on a white background",
    "a big purple heart on the sand",
)


def settings() -> dict[str, Any]:
    """A run's settings, by name."""
    paths = {"base_model": str(BASE), "instance_data_dir": str(PICTURES)}
    return read_json(RECIPE) | paths | {"validation_prompts": list(PROMPTS)}
