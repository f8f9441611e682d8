"""Finds which build of torch fits this machine's graphics card, by asking the driver, without torch."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass

from ...core.messages.message import Message

INDEX = "https://download.pytorch.org/whl/"

# PyTorch 2.13 ships CUDA 13.0 (on PyPI for Linux; Turing and newer) and 12.6 (Maxwell to Hopper) as stable builds
# (pytorch/pytorch RELEASE.md, pull request 187075). CUDA 13 needs driver 580, CUDA 12 needs 525
# (docs.nvidia.com/deploy/cuda-compatibility, minor version compatibility).
DRIVER_CUDA_13, DRIVER_CUDA_12 = 580, 525
TURING, BLACKWELL = 7.5, 10.0


@dataclass(frozen=True)
class Card:
    driver: int  # major version
    capability: float | None  # compute capability of the weakest card; old drivers do not tell
    name: str


def nvidia_card() -> Card | None:
    tool = shutil.which("nvidia-smi")
    for fields in ("driver_version,name,compute_cap", "driver_version,name"):
        try:
            done = subprocess.run(
                [tool or "nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=20,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return read_cards(done.stdout)
    return None


def read_cards(text: str) -> Card | None:
    """Parse nvidia-smi's rows, `580.95.05, NVIDIA GeForce RTX 3060, 8.6`, one for each card."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if re.match(r"\d+\.", line)]
    if not rows:
        return None
    capabilities = [float(row[2]) for row in rows if len(row) > 2 and re.fullmatch(r"\d+\.\d+", row[2])]
    return Card(int(rows[0][0].split(".")[0]), min(capabilities, default=None), rows[0][1])


def torch_index(card: Card | None, own_sources: bool, system: str = platform.system()) -> tuple[str | None, str]:
    """(extra package index for torch, or None for the usual one; a message for the user).

    `own_sources`: the user's pip configuration names indexes or folders; without a card only these are used.
    """
    if system == "Darwin":
        return None, ""
    if card is None:
        # PyPI's torch for Linux brings 4 GB of CUDA libraries, of no use here; the one for Windows has none.
        if system == "Linux" and not own_sources:
            return INDEX + "cpu", Message("environment.cpu_torch_unless_installed")
        return None, "" if own_sources else Message("environment.cpu_torch")
    old_card = card.capability is not None and card.capability < TURING
    if card.driver >= DRIVER_CUDA_13 and not old_card:
        return (None if system == "Linux" else INDEX + "cu130"), Message("environment.cuda_13", card=card.name)
    if card.capability is not None and card.capability >= BLACKWELL:  # CUDA 12.6 does not know these cards
        about = {"card": card.name, "driver": card.driver, "least": DRIVER_CUDA_13}
        return INDEX + "cu130", Message("environment.driver_too_old_13", **about)
    if card.driver < DRIVER_CUDA_12:
        about = {"card": card.name, "driver": card.driver, "least": DRIVER_CUDA_12}
        return INDEX + "cu126", Message("environment.driver_too_old_12", **about)
    return INDEX + "cu126", Message("environment.cuda_12", card=card.name)
