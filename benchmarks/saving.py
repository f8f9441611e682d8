"""How long a model and a training state of full size take to be saved: `python -m benchmarks.saving [sd1] [sdxl]`.

Prints a table. Beside each time stands that of the same bytes written and flushed without any care, which is what the
disk allows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dreambooth_ext.core.system import files
from dreambooth_ext.engine.formats.checkpoint_file import export_checkpoint
from dreambooth_ext.engine.formats.metadata import modelspec
from dreambooth_ext.engine.models.base_model import LatentBase, open_base
from dreambooth_ext.engine.training import training_state

from . import bases

STEP = 1e-3  # by which trained weights differ from the base's
BLOCK = 16 * 2**20  # bytes
ROUNDS = 3


def trained(base: LatentBase, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    """The UNet as a run that trains all of it holds it."""
    unet = base.unet(dtype).requires_grad_(False)
    return {"unet": {name: tensor.add_(STEP) for name, tensor in unet.state_dict().items()}}


def states(parts: dict[str, dict[str, Tensor]]) -> dict[str, object]:
    """AdamW's moments in 8 bits."""
    learned = [tensor for part in parts.values() for tensor in part.values()]
    return {
        "moments": [(torch.zeros_like(t, dtype=torch.uint8), torch.zeros_like(t, dtype=torch.uint8)) for t in learned]
    }


def raw(path: Path, size: int) -> None:
    """Write and flush so many bytes."""
    block = os.urandom(BLOCK)
    with path.open("wb") as file:
        for _ in range(size // BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def best(action: Callable[[], object], leftover: Path) -> float:
    """Seconds of the fastest of several rounds. leftover: what each makes; it is deleted."""
    times = []
    for _ in range(ROUNDS):
        os.sync()
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
        remove(leftover)
    return min(times)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def measure(name: str, folder: Path) -> None:
    path = folder / f"{name}.safetensors"
    base = open_base(path if path.exists() else bases.make(name, folder))
    parts = trained(base, torch.float32)
    about = modelspec(base, title=name, resolution=512)
    model, rough, saved = folder / "model.safetensors", folder / "raw", folder / "states"

    def export() -> None:
        export_checkpoint(base, parts, model, precision="fp16", metadata=about)

    def state() -> None:
        training_state.save(saved, 1, parts, made, limit=None)

    export()
    size = files.size(model)
    row(name, "model", size, best(export, model), best(lambda: raw(rough, size), rough))
    made = states(parts)
    saved.mkdir(exist_ok=True)
    state()
    size = files.size(saved)
    row(name, "training state", size, best(state, saved / "1"), best(lambda: raw(rough, size), rough))


def row(name: str, kind: str, size: int, seconds: float, least: float) -> None:
    print(f"| {name} | {kind} | {size / 1e9:.2f} GB | {seconds:.1f} s | {least:.1f} s |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bases", nargs="*", default=["sd1", "sdxl"])
    parser.add_argument("--folder", type=Path, help="for what is written; a base that lies there is taken as it is")
    arguments = parser.parse_args()
    print("| base | what | size | saved in | the same bytes, written and flushed |\n| --- | --- | --- | --- | --- |")
    for name in arguments.bases:
        with tempfile.TemporaryDirectory(prefix="dreambooth-saving-") as folder:
            measure(name, arguments.folder or Path(folder))


if __name__ == "__main__":
    main()
