"""Write model files in one pass, verify them by reading them back before they get their name, and add sidecar files."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.errors import UserError
from ...core.system.files import free_bytes, human_size, replacing, sha256_of, write_json, write_text
from ..tensors.lazy_tensor import LazyTensor, is_finite, raw_bytes
from ..tensors.summed_file import summed
from ..tensors.tensor_file import PICKLE_SUFFIXES, header_of, open_tensors, save_tensors, write_values
from .metadata import HASH_TO_COME

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
HEADROOM = 64 * 2**20  # bytes left free beside the file
BLOCK = 2**24  # bytes read at once
PREVIEW_SIDE = 512  # pixels at most; the WebUI shows cards of about 200


class NothingLearned(UserError):
    """At the requested precision, the trained model equals its base."""


class DoesNotFit(UserError):
    """The requested precision cannot hold a tensor, or it was not finite before."""


@dataclass(frozen=True)
class Exported:
    path: Path
    sha256: str  # of the file; the WebUI shows its first ten digits
    sidecars: list[Path]
    others: tuple[Exported, ...] = ()  # models of the same save, beside it
    kind: str = ""  # if other than the run's


def not_finite(key: str) -> UserError:
    return UserError("training.model_not_finite", "learning_rate", tensor=key)


def nothing_learned(precision: str) -> NothingLearned:
    if precision == "fp32":
        return NothingLearned("training.nothing_learned_in_fp32", "learning_rate")
    return NothingLearned("training.nothing_learned", "learning_rate", precision=precision)


def write_verified(
    state: Mapping[str, Tensor | LazyTensor], path: Path, metadata: Mapping[str, str], precision: str
) -> str:
    """Write a file of tensors, read it back once, and return its SHA-256 in hex. path: a temporary one.

    In the header of a .safetensors file, the hash of all values (modelspec: the file without its header) takes the
    place of `HASH_TO_COME`. Raises UserError if the disk is too full, for values that the precision cannot hold, and
    for those that the disk has altered.
    """
    require_space(path, sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in state.values()), precision)
    checked = {key: _checked(key, tensor, precision) for key, tensor in state.items()}
    if path.suffix in PICKLE_SUFFIXES:
        save_tensors(checked, path)
        require_same(checked, path)
        return sha256_of(path)
    header, values = header_of(checked, metadata), hashlib.sha256()
    with path.open("wb") as file, ThreadPoolExecutor(1) as threads:
        file.write(header)
        with summed(file, values) as target:
            write_values(checked, target)
        header = header.replace(HASH_TO_COME.encode(), f"0x{values.hexdigest()}".encode(), 1)
        file.seek(0)
        file.write(header)
        file.flush()
        flushed = threads.submit(os.fsync, file.fileno())  # the disk and the processor work at once
        digest = read_back(path, header, values.digest())
        flushed.result()
    return digest


def _checked(key: str, meant: Tensor | LazyTensor, precision: str) -> LazyTensor:
    """Return the tensor as one that is checked when it is loaded to be written."""

    def load() -> Tensor:
        tensor = meant.load() if isinstance(meant, LazyTensor) else meant
        assert tensor.shape == tuple(meant.shape) and tensor.dtype == meant.dtype, key
        if not is_finite(tensor):
            raise does_not_fit(key, precision)
        return tensor

    return LazyTensor(tuple(meant.shape), meant.dtype, load)


def read_back(path: Path, header: bytes, values: bytes) -> str:
    """Return the SHA-256 of a .safetensors file, in hex, after it has been compared with what was written: its header,
    and the SHA-256 of its values."""
    whole, found = hashlib.sha256(header), hashlib.sha256()
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(2) as threads:
        if file.read(len(header)) != header:
            raise reads_differently()
        block, next_block = memoryview(bytearray(BLOCK)), memoryview(bytearray(BLOCK))
        size = file.readinto(block)
        while size:
            summing = [threads.submit(digest.update, block[:size]) for digest in (whole, found)]
            size = file.readinto(next_block)
            for done in summing:
                done.result()
            block, next_block = next_block, block
    if found.digest() != values:
        raise reads_differently()
    return whole.hexdigest()


def require_space(path: Path, size: int, precision: str) -> None:
    """Raise UserError if the disk has no room for so many bytes."""
    free = free_bytes(path)
    if free < size + HEADROOM:
        code = "training.no_space_in_fp32" if precision == "fp32" else "training.no_space"
        known = {"need": human_size(size), "folder": path.parent, "free": human_size(free)}
        raise UserError(code, "save_precision", **known)


def require_same(state: Mapping[str, LazyTensor], path: Path) -> None:
    """Read a file back. Raises UserError unless its tensors are `state`'s."""
    written = open_tensors(path, field="save_format")
    if set(written) != set(state) or not all(same_bits(written[key], state[key].load()) for key in state):
        raise reads_differently()
    written.close()


def does_not_fit(key: str, precision: str) -> DoesNotFit:
    code = "training.overflow_in_fp16" if precision == "fp16" else "training.tensor_not_finite"
    return DoesNotFit(code, "save_precision", tensor=key)


def reads_differently() -> UserError:
    return UserError("training.reads_differently", "save_format")


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether types, shapes and values are equal to the bit."""
    same_kind = one.dtype == other.dtype and one.shape == other.shape
    return same_kind and np.array_equal(raw_bytes(one), raw_bytes(other))


def write_sidecars(
    path: Path, yaml: str | None, family: str, activation_text: str, preview: Image.Image | None
) -> list[Path]:
    """Write the files beside a model that the WebUI reads. A yaml that is not needed is deleted, since the WebUI would
    use it."""
    configuration, about, picture = (path.with_name(path.stem + x) for x in (".yaml", ".json", ".preview.png"))
    written = [about]
    if yaml is None:
        configuration.unlink(missing_ok=True)
    else:
        write_text(configuration, yaml)
        written.append(configuration)
    words = f"Write '{activation_text}' in the prompt." if activation_text else ""
    facts = {"description": words, "sd version": family.upper(), "activation text": activation_text, "notes": words}
    write_json(about, facts)
    if preview is not None:
        small = preview.convert("RGB")
        small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        with replacing(picture) as temporary:
            small.save(temporary)
        written.append(picture)
    return written
