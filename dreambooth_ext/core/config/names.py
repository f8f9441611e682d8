"""Which names are allowed for files, words and repositories, and which folders are unconditional models."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import Problem
from ..system.files import expanded, read_json
from .parsing import shown

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows' devices
TOKEN = re.compile(r"<?[A-Za-z0-9][A-Za-z0-9_.-]*>?")  # of textual inversion; "<cat-toy>" is diffusers' way
HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9](?!.*(--|\.\.))[\w.-]*(?<![.-])", re.ASCII)
LONGEST_NAME = 100
MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
PIPELINES = ("DDPMPipeline", "DDIMPipeline")  # of unconditional models; they differ in how they draw


def name_problems(name: str) -> list[Problem]:
    if not name:
        return [Problem("settings.name_missing", "name")]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name.endswith("."):
        return [Problem("settings.name_letters", "name", name=shown(name))]
    if name.lower().endswith(MODEL_SUFFIXES):
        return [Problem("settings.name_ending", "name", name=name)]
    if len(name) > LONGEST_NAME:
        return [Problem("settings.name_long", "name", count=len(name), most=LONGEST_NAME)]
    if RESERVED.fullmatch(name):
        return [Problem("settings.name_reserved", "name", name=name)]
    return []


def exists(path: str) -> bool:
    try:
        return expanded(path).exists()
    except (OSError, ValueError):  # too long, a zero byte
        return False


def is_pipeline(model: str | Path) -> bool:
    """Whether the path is the folder of an unconditional model, which draws without a prompt."""
    try:
        index = read_json(Path(model) / "model_index.json")
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("_class_name") in PIPELINES
