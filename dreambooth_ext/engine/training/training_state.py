"""Save, check and load training states: each is written whole or not at all, and old ones are deleted only
afterwards."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import Problem, UserError
from ...core.messages.message import reason_of
from ...core.system import files
from ...core.version import __version__
from ..models.architecture import part_title
from ..runtime import memory
from ..tensors.lazy_tensor import is_finite
from ..tensors.summed_file import Crc32, SummedFile, summed
from ..tensors.tensor_file import open_tensors, write_tensors
from ..tensors.torch_pickle import DAMAGED, read_pickle

Weights = Mapping[str, Mapping[str, Tensor]]  # by component and name

MANIFEST = "checkpoint.json"
SET_ASIDE = "damaged.json"  # the manifest's name after a file failed its checksum
TRAINER = "trainer.pt"  # optimizer, EMA and scaler states
ROOM = 1.25  # times the state's size has to be free for a copy of it
BLOCK = 8 * 2**20  # bytes read at once


def sum_of(path: Path) -> int:
    """Return the CRC-32 of a file."""
    found = Crc32()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.sum


@dataclass(frozen=True)
class Checkpoint:
    """One training state on disk. Its weights are memory-mapped, one file per component."""

    path: Path

    @property
    def step(self) -> int:
        return int(self.path.name)

    def weights(self) -> dict[str, Mapping[str, Tensor]]:
        return {path.stem: open_tensors(path) for path in sorted(self.path.glob("*.safetensors"))}

    def trainer(self, mapped: bool = False) -> dict[str, Any]:
        """Read the optimizer, EMA and gradient scaler states. Raises UserError if the file cannot be read. mapped:
        tensors stay in the file until they are used, of which a process that takes parts reads no more."""
        try:
            return read_pickle(self.path / TRAINER, mapped=mapped)  # Windows deletes no mapped file
        except (*DAMAGED, OSError) as error:
            known = {"file": self.path / TRAINER, "error": reason_of(error)}
            raise UserError("training.state_damaged", "run", **known) from error

    def is_whole(self) -> bool:
        """Whether every file in the manifest exists with its recorded size. The manifest is written last."""
        try:
            sizes = files.read_json(self.path / MANIFEST)["files"]
            return all((self.path / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def is_sound(self) -> bool:
        """Whether every file matches its recorded checksum. States of old versions have no checksums and pass."""
        try:
            sums = files.read_json(self.path / MANIFEST).get("crc32", {})
            return all(sum_of(self.path / name) == expected for name, expected in sums.items())
        except (OSError, ValueError, AttributeError):
            return False

    def set_aside(self) -> None:
        """Mark the state as damaged: it is no longer found or counted, and the next save of its step replaces it."""
        files.replace(self.path / MANIFEST, self.path / SET_ASIDE)


class StateWriter:
    """Writes training states one after another; while training goes on, if it is asked to and memory has room for a
    copy of the state."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, "training state")
        self._coming: Future[Checkpoint] | None = None

    def begin(
        self,
        folder: Path,
        step: int,
        weights: Weights,
        trainer: dict[str, Any],
        limit: int | None,
        meanwhile: bool,
        are_copies: bool = False,
    ) -> None:
        """Begin to `save`. Raises at once what that raises unless it is done `meanwhile`. are_copies: training changes
        none of these tensors."""
        assert self._coming is None, "the last state has been waited for"
        require_finite(weights)
        meanwhile = meanwhile and (are_copies or ROOM * size_of((weights, trainer)) < memory.spare())
        if meanwhile:
            if not are_copies:
                weights, trainer = copied((weights, trainer))
            self._coming = self._threads.submit(save, folder, step, weights, trainer, limit)
        else:
            self._coming = Future()
            self._coming.set_result(save(folder, step, weights, trainer, limit))

    def written(self, wait: bool) -> Checkpoint | None:
        """Return the state that has been written since the last call; with `wait`, also one that is being written.
        Raises what writing it raised."""
        if self._coming is None or not (wait or self._coming.done()):
            return None
        coming, self._coming = self._coming, None
        return coming.result()

    def close(self) -> None:
        self._threads.shutdown()


def copied(thing: Any, known: dict[int, tuple[Tensor, Tensor]] | None = None) -> Any:
    """Return nested dicts, lists and tuples with copies of their tensors in the computer's memory. A tensor that
    occurs several times is copied once."""
    known = {} if known is None else known  # by id, with the tensor itself: else a later one may get its id
    if isinstance(thing, Tensor):
        if id(thing) not in known:
            known[id(thing)] = thing, thing.detach().to("cpu", copy=True)
        return known[id(thing)][1]
    if isinstance(thing, Mapping):
        return {key: copied(value, known) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return type(thing)(copied(value, known) for value in thing)
    return thing


def size_of(thing: Any) -> int:
    """Return the bytes of all tensors in nested dicts, lists and tuples."""
    if isinstance(thing, Tensor):
        return thing.numel() * thing.dtype.itemsize
    values = thing.values() if isinstance(thing, Mapping) else thing if isinstance(thing, list | tuple) else ()
    return sum(map(size_of, values))


def require_finite(weights: Weights) -> None:
    """Raise UserError if a weight is not finite, because such a state must not replace a good one."""
    for component, tensors in weights.items():
        broken = next((name for name, tensor in tensors.items() if not is_finite(tensor)), None)
        if broken:
            known = {"part": part_title(component), "tensor": broken}
            raise UserError("training.weights_not_finite", "learning_rate", **known)


def save(folder: Path, step: int, weights: Weights, trainer: dict[str, Any], limit: int | None) -> Checkpoint:
    """Write the training state after `step` steps to `folder`/<step>, then delete all but the newest `limit` (None:
    keep all)."""
    checkpoint, sums = Checkpoint(folder / str(step)), {}
    with files.replacing(checkpoint.path, parents=False) as temporary:
        temporary.mkdir()
        for component, tensors in weights.items():
            name = f"{component}.safetensors"
            sums[name] = _written(temporary / name, functools.partial(write_tensors, tensors))
        # Given a path, torch hides the reason for a failed write.
        sums[TRAINER] = _written(temporary / TRAINER, functools.partial(torch.save, trainer))
        sizes = {name: (temporary / name).stat().st_size for name in sums}
        about = {"step": step, "version": __version__, "files": sizes, "crc32": sums}
        files.write_json(temporary / MANIFEST, about)
    retain(folder, limit)
    return checkpoint


def _written(path: Path, write: Callable[[SummedFile], None]) -> int:
    """Write a file, and return its CRC-32."""
    digest = Crc32()
    with path.open("wb") as file, summed(file, digest) as target:
        write(target)
    return digest.sum


def is_of_use(weights: Mapping[str, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer) -> bool:
    """Whether the state of a failing run is worth resuming from: weights and optimizer state are finite, and no weight
    exceeds fp16's largest number, which only a too high learning rate causes."""
    learned = [tensor for part in weights.values() for tensor in part.values()]
    known = [value for values in optimizer.state.values() for value in values.values() if torch.is_tensor(value)]
    limit = torch.finfo(torch.float16).max
    return all(_largest(tensor) <= limit for tensor in learned) and all(_largest(t) < math.inf for t in known)


def _largest(tensor: Tensor) -> float:
    """Return the largest absolute value, NaN if there is one. Makes no copy, since memory may be short."""
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    return torch.linalg.vector_norm(tensor.detach(), ord=math.inf).item()


def found(folder: Path) -> list[Checkpoint]:
    """Return the complete training states, oldest first."""
    paths = [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    return sorted((c for c in map(Checkpoint, paths) if c.is_whole()), key=lambda c: c.step)


def latest(folder: Path, warn: Callable[[Problem], None]) -> Checkpoint | None:
    """Return the newest training state that is complete and undamaged, and warn of each newer one that was skipped."""
    files.remove_unfinished(folder)
    newest = None
    for checkpoint in reversed(found(folder)):
        if checkpoint.is_sound():
            newest = checkpoint
            break
        checkpoint.set_aside()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.isdigit() and int(path.name) > (newest.step if newest else -1):
            if newest:
                warn(Problem("training.state_skipped", path=path, step=newest.step))
            else:
                warn(Problem("training.state_skipped_from_start", path=path))
    return newest


def retain(folder: Path, limit: int | None) -> None:
    """Delete all but the newest `limit` training states. One that is open elsewhere (Windows) stays until the next
    save."""
    for checkpoint in found(folder)[: -limit if limit else 0]:
        with contextlib.suppress(PermissionError):
            files.remove(checkpoint.path)
