"""Training states on disk: written whole or not at all, the old ones deleted only after the new one is safe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__, files
from ..errors import UserError
from .tensorfile import open_tensors, save_tensors

MANIFEST = "checkpoint.json"
TRAINER = "trainer.pt"  # optimizer, EMA and scaler states


@dataclass(frozen=True)
class Checkpoint:
    """One training state. Weights are mapped from disk, component by component."""

    path: Path

    @property
    def step(self) -> int:
        return int(self.path.name)

    def weights(self) -> dict[str, Mapping[str, Tensor]]:
        return {path.stem: open_tensors(path) for path in sorted(self.path.glob("*.safetensors"))}

    def trainer(self) -> dict[str, Any]:
        return torch.load(self.path / TRAINER, map_location="cpu", weights_only=True)

    def is_whole(self) -> bool:
        """Whether every file that the manifest names is there with its size. The manifest is written last."""
        try:
            sizes = files.read_json(self.path / MANIFEST)["files"]
            return all((self.path / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError, KeyError, TypeError):
            return False


def save(
    folder: Path, step: int, weights: Mapping[str, Mapping[str, Tensor]], trainer: dict[str, Any], limit: int | None
) -> Checkpoint:
    """Write the state after `step` steps into `folder`/<step>, then keep only the newest `limit`.

    Raises UserError for weights that are not finite: a state that cannot be trained on must not replace a good one.
    """
    checkpoint = Checkpoint(folder / str(step))
    if checkpoint.is_whole():
        return checkpoint
    for component, tensors in weights.items():
        broken = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
        if broken:
            raise UserError("learning_rate", f"{component} has become infinite ({broken}).", "Lower the rate.")
    with files.replacing(checkpoint.path) as temporary:
        temporary.mkdir()
        for component, tensors in weights.items():
            save_tensors(tensors, temporary / f"{component}.safetensors")
        with (temporary / TRAINER).open("wb") as stream:  # given a path, torch hides why the disk refuses
            torch.save(trainer, stream)
        sizes = {path.name: path.stat().st_size for path in temporary.iterdir()}
        files.write_json(temporary / MANIFEST, {"step": step, "version": __version__, "files": sizes})
    retain(folder, limit)
    return checkpoint


def found(folder: Path) -> list[Checkpoint]:
    """The whole training states, oldest first."""
    paths = [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    return sorted((c for c in map(Checkpoint, paths) if c.is_whole()), key=lambda c: c.step)


def latest(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole training state; newer ones that are damaged are named."""
    files.remove_unfinished(folder)
    whole = found(folder)
    newest = whole[-1].step if whole else -1
    for path in folder.iterdir() if folder.is_dir() else []:
        if path.name.isdigit() and int(path.name) > newest:
            warn(f"The training state {path} is damaged and is left out.")
    return whole[-1] if whole else None


def retain(folder: Path, limit: int | None) -> None:
    """Delete all but the newest `limit`. One that is open elsewhere (Windows) stays until the next save."""
    for checkpoint in found(folder)[: -limit if limit else 0]:
        with contextlib.suppress(PermissionError):
            files.remove(checkpoint.path)
