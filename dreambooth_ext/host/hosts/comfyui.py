"""ComfyUI as a place to publish to: its folders, by its files and without starting it, and what it cannot use.

Its loaders' rules, as of 2026: checkpoints are told by their tensors (`v_pred`, `ztsnr`), LoRA files by kohya's names,
embeddings by their endings; a .yaml beside a checkpoint is not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...core.config.parsing import to_path
from ...core.config.run_config import RunConfig
from ...core.errors import Problem
from ...core.system.files import read_text

NAMES = {  # of the folders in `models`, and of the keys in its file of further folders
    "checkpoint": "checkpoints",
    "lora": "loras",
    "textual_inversion": "embeddings",
    "hypernetwork": "hypernetworks",
}
FURTHER = "extra_model_paths.yaml"
LARGEST = 2**20  # bytes of that file
# What its node for hypernetworks knows; others it leaves out, with a line in its log.
ACTIVATIONS = ("linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid", "softsign", "mish")
LINE = re.compile(r"(?P<indent> *)(?P<key>[^\s:#][^:#]*?)\s*:(?:\s+(?P<value>.*?))?\s*")
TRUE = ("true", "yes", "on")


def root_of(folder: Path) -> Path | None:
    """Where its `models` are, in the folder that was named or in the portable package's inner one; None without."""
    for place in (folder, folder / "ComfyUI"):
        is_program = (place / "folder_paths.py").is_file() and (place / "comfy").is_dir()
        is_data = all((place / "models" / NAMES[kind]).is_dir() for kind in ("checkpoint", "lora"))
        if is_program or is_data:
            return place
    return None


def folders(root: Path) -> dict[str, Path]:
    """Kind -> the folder that it looks through first: its own, or one of `extra_model_paths.yaml` that is default."""
    found = {kind: root / "models" / name for kind, name in NAMES.items()}
    try:
        text = read_text(root / FURTHER, LARGEST)
    except (OSError, ValueError):
        return found
    kinds = {name: kind for kind, name in NAMES.items()}
    for section in sections(text):
        if (section.get("is_default") or [""])[-1].lower() not in TRUE:
            continue
        base = os.path.expandvars(os.path.expanduser((section.get("base_path") or [""])[-1]))
        for name, paths in section.items():
            if name in kinds and paths:  # each goes before the one before it
                found[kinds[name]] = Path(os.path.normpath(root / base / paths[-1]))
    return found


def sections(text: str) -> Iterator[dict[str, list[str]]]:
    """The parts of such a file: key -> its lines. As much of YAML as it uses: `key: value`, and `key: |` with lines
    below it."""
    section: dict[str, list[str]] | None = None
    block: list[str] | None = None  # the lines below `key: |`
    depth = 0
    for line in text.splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line).rstrip()
        if not bare:
            continue
        indent = len(bare) - len(bare.lstrip())
        if block is not None and indent > depth:
            block.append(to_path(bare))
            continue
        block = None
        known = LINE.fullmatch(bare)
        if known is None:
            continue
        if not indent:
            if section:
                yield section
            section = {}
        elif section is not None:
            value, section[known["key"]] = known["value"] or "", []
            if value[:1] in ("|", ">"):
                block, depth = section[known["key"]], indent
            elif value:
                section[known["key"]].append(to_path(value))
    if section:
        yield section


def refused(config: RunConfig, program: str) -> list[Problem]:
    """What of a config's models it could not use, or would use otherwise than they were trained."""
    found = []
    if config.method == "hypernetwork" and config.activation not in ACTIVATIONS:
        known = list(ACTIVATIONS)
        found.append(Problem("hosts.no_activation", "activation", host=program, value=config.activation, choices=known))
    if config.method == "hypernetwork" and any(config.dropout):
        found.append(Problem("hosts.draws_with_dropout", "dropout", host=program))
    if config.method == "lora" and config.placeholder_token and config.bundle_embedding:
        found.append(Problem("hosts.no_words_in_lora", "bundle_embedding", host=program))
    return found
