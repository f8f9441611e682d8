"""Write model files in one pass, verify them by reading them back before they get their name, and add sidecar files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...core.errors import UserError
from ...core.system.files import free_bytes, human_size, replacing, write_json, write_text
from ..tensors.lazy_tensor import LazyTensor, is_finite
from ..tensors.tensor_file import PICKLE_SUFFIXES, open_tensors, safetensors_header, save_tensors
from .metadata import HASH_TO_COME

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
HEADROOM = 64 * 2**20  # bytes left free beside the file
PREVIEW_SIDE = 512  # pixels at most; the WebUI shows cards of about 200


class NothingLearned(UserError):
    """At the requested precision, the trained model equals its base."""


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
) -> None:
    """Write a file of tensors and compare each with what it should be. path: a temporary one."""
    size = sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in state.values())
    require_space(path, size, precision)
    save_tensors(state, path, metadata)
    verify(state, path, precision)
    if path.suffix not in PICKLE_SUFFIXES:
        patch_hash(path)


def require_space(path: Path, size: int, precision: str) -> None:
    """Raise UserError if the disk has no room for so many bytes."""
    free = free_bytes(path)
    if free < size + HEADROOM:
        code = "training.no_space_in_fp32" if precision == "fp32" else "training.no_space"
        known = {"need": human_size(size), "folder": path.parent, "free": human_size(free)}
        raise UserError(code, "save_precision", **known)


def verify(state: Mapping[str, Tensor | LazyTensor], path: Path, precision: str) -> None:
    """Read a file back. Raises UserError for values that the precision cannot hold or that the disk has altered."""
    written = open_tensors(path, field="save_format")
    if set(written) != set(state):
        raise reads_differently()
    for key, meant in state.items():
        found, expected = written[key], meant.load() if isinstance(meant, LazyTensor) else meant
        if found.dtype != expected.dtype or not same_bits(found, expected):
            raise reads_differently()
        if not is_finite(found):
            raise does_not_fit(key, precision)
    written.close()


def does_not_fit(key: str, precision: str) -> UserError:
    code = "training.overflow_in_fp16" if precision == "fp16" else "training.tensor_not_finite"
    return UserError(code, "save_precision", tensor=key)


def reads_differently() -> UserError:
    return UserError("training.reads_differently", "save_format")


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether shapes and values are equal; NaN equals NaN, so that it is not mistaken for a failing disk."""
    if one.shape != other.shape:
        return False
    return torch.equal(one, other) or (
        torch.equal(one.isnan(), other.isnan()) and one.nan_to_num().equal(other.nan_to_num())
    )


def patch_hash(path: Path) -> None:
    """Write the hash of all values (modelspec: the file without its header) into its placeholder in the header, if
    there is one."""
    _, start = safetensors_header(path, "save_format")
    with path.open("rb+") as file:
        place = file.read(start).find(HASH_TO_COME.encode())
        if place >= 0:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
            file.seek(place)
            file.write(f"0x{digest.hexdigest()}".encode())


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
