"""Embedding files (textual inversion): read all formats that the WebUI reads, and write two of them.

One text encoder: `.safetensors` {"emb_params": (n, width)}; `.pt` {"string_to_param": {"*": (n, width)}, ...}, with the
step and the base model; diffusers' {"<word>": (n, width) or (width,)}; a picture (PNG) that contains the `.pt`'s
content as text. SDXL, in each of these: {"clip_l": (n, 768), "clip_g": (n, 1280)}. The word is the file's name without
suffix, as in the WebUI; a picture may contain another.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...core.config.parsing import shown
from ...core.data.bundled_words import BUNDLE
from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.system.files import replacing, require_ordinary, sha256_of
from ..conditioning.learned_tokens import MOST_VECTORS, Embedding
from ..models import detection
from ..models.base_model import LatentBase
from ..pictures.picture_file import DAMAGE
from ..tensors.tensor_file import container, open_tensors, save_tensors
from ..tensors.torch_pickle import load_pickle, save_pickle
from .verified_write import (
    PRECISIONS,
    Exported,
    does_not_fit,
    not_finite,
    reads_differently,
    write_sidecars,
    write_verified,
)

PNG_KEY = "sd-ti-embedding"
SINGLE, DOUBLE = ("emb_params",), ("clip_l", "clip_g")  # by the number of text encoders
OUTPUT = "_out"  # suffix of OneTrainer's vectors that are inserted after a text encoder
MOST_TENSORS = 64  # in an embedding file; a model has a thousand
STEPS_KEY = "ss_steps"  # in the metadata of training tools
PNG_MAGIC = b"\x89PNG\r\n"
MOST_PIXELS = 2**24  # of a picture with an embedding; the WebUI's have half a million
LONGEST_TEXT = 8 * 2**20  # characters; 75 vectors of SDXL have 4 million
FAMILY_OF_WIDTH = {768: "SD 1", 1024: "SD 2", 2048: "SDXL"}  # by the total width of the vectors


@dataclass
class Stored:
    """The content of an embedding file. steps: how long it has been trained, 0 if unknown."""

    embedding: Embedding
    steps: int = 0


def read(path: Path, field: str, sought: str = "") -> Stored:
    """Read the embedding in a file, in float32; of several bundled in a LoRA, the word `sought`.

    Raises UserError if there is none, or if it is damaged.
    """
    word, steps = path.stem, "0"
    if is_picture(path):
        content = from_picture(path, field)
        word = content["name"] if isinstance(content.get("name"), str) else word
    elif container(path, field) == "pickle":
        content = load_pickle(path, field=field)
    else:
        file = open_tensors(path, field=field)
        inside = [key for key in file if key.startswith(BUNDLE)]
        if not inside and len(file) > MOST_TENSORS:
            raise _stranger(path, field, file)
        content = {key: file[key].clone() for key in inside or file}
        steps = file.metadata.get(STEPS_KEY, "0")
        file.close()
    if not isinstance(content, Mapping):
        raise _stranger(path, field)
    if words := bundled(content):
        word, content = _chosen(words, path, field, sought)
    vectors = _vectors(path, content, field)
    _check(path, vectors, field)
    return Stored(Embedding(word, vectors), _count(content.get("step") or steps))


def _vectors(path: Path, content: Mapping[str, Any], field: str) -> list[Tensor]:
    """Return the vectors in a file's content, one tensor per text encoder."""
    if "string_to_param" in content:
        held = content["string_to_param"]
        content = getattr(held, "_parameters", held)
        content = content if isinstance(content, Mapping) else {}
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    names = DOUBLE if set(DOUBLE) <= set(tensors) else list(tensors)
    if more := [key for key in tensors if key not in names or (len(tensors) > 1 and str(key).endswith(OUTPUT))]:
        raise UserError("embedding.extra_vectors", field, file=path.name, name=shown(str(more[0])))
    if (len(names) != 1 and names != DOUBLE) or not all(tensors[key].is_floating_point() for key in names):
        raise _stranger(path, field, content)
    return [_rows(tensors[key]) for key in names]


def _rows(tensor: Tensor) -> Tensor:
    rows = tensor.detach().to(torch.float32, copy=True)
    return rows[None] if rows.dim() == 1 else rows


def _check(path: Path, vectors: list[Tensor], field: str) -> None:
    if any(tensor.dim() != 2 or len(tensor) != len(vectors[0]) or not tensor.numel() for tensor in vectors):
        raise _stranger(path, field)
    if len(vectors[0]) > MOST_VECTORS:
        known = {"file": path.name, "count": len(vectors[0]), "most": MOST_VECTORS}
        raise UserError("embedding.too_many_vectors", field, **known)
    if not all(tensor.isfinite().all() for tensor in vectors):
        raise UserError("embedding.not_finite", field, file=path.name)


def _stranger(path: Path, field: str, content: Any = None) -> UserError:
    what = detection.kind_of(content)
    if what and what.code != "kind.embedding":
        return UserError("embedding.other_kind", field, file=path.name, kind=what)
    return UserError("embedding.not_one", field, file=path.name)


def _count(value: Any) -> int:
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def is_picture(path: Path) -> bool:
    try:
        require_ordinary(path)
        with path.open("rb") as file:
            return file.read(len(PNG_MAGIC)) == PNG_MAGIC
    except OSError:  # `container` says why
        return False


def from_picture(path: Path, field: str) -> dict[str, Any]:
    """Return the embedding data in a PNG's text. Raises UserError if there is none."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError("it is too large")
            picture.load()
            text = picture.text.get(PNG_KEY)
        if text is None:
            raise UserError("embedding.not_in_picture", field, file=path.name)
        if len(text) > LONGEST_TEXT:
            raise ValueError("its text is too long")
        content = json.loads(base64.b64decode(text), object_hook=_tensor)
    except (*DAMAGE, AttributeError, RuntimeError, Image.DecompressionBombError, binascii.Error) as error:
        raise UserError("embedding.picture_damaged", field, file=path.name) from error
    return content if isinstance(content, dict) else {}


def _tensor(values: dict[str, Any]) -> Any:
    return torch.tensor(values["TORCHTENSOR"], dtype=torch.float32) if "TORCHTENSOR" in values else values


def bundle(words: Sequence[Embedding], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the words' tensors for bundling them in a LoRA's file, as the WebUI's Lora extension reads them."""
    found: dict[str, Tensor] = {}
    for word in words:
        tensors = state(word.vectors, dtype)
        names = {key: key if len(tensors) == 2 else "string_to_param.*" for key in tensors}
        found |= {f"{BUNDLE}{word.word}.{names[key]}": tensor for key, tensor in tensors.items()}
    return found


def bundled(tensors: Mapping[Any, Any]) -> dict[str, dict[str, Tensor]]:
    """Return the words bundled in a LoRA's file, each with its tensors."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        word, _, part = str(key).removeprefix(BUNDLE).partition(".")
        if str(key).startswith(BUNDLE):
            found.setdefault(word, {})[part] = tensor
    return found


def _chosen(inside: dict[str, dict[str, Tensor]], path: Path, field: str, sought: str) -> tuple[str, dict[str, Tensor]]:
    """Return the word `sought`, ignoring case, or the only one."""
    found = [pair for pair in inside.items() if pair[0].lower() == sought.lower()]
    if len(inside) > 1 and not found:
        raise UserError("embedding.several_words", field, file=path.name, words=[shown(word) for word in inside])
    return found[0] if found else next(iter(inside.items()))


def read_bundle(path: Path, field: str) -> list[Embedding]:
    """Read the words bundled in a LoRA's file. Raises UserError if they are damaged."""
    file = open_tensors(path, field=field)
    content = {key: file[key].clone() for key in file if key.startswith(BUNDLE)}
    file.close()
    found = []
    for word, tensors in bundled(content).items():
        vectors = _vectors(path, tensors, field)
        _check(path, vectors, field)
        found.append(Embedding(word, vectors))
    return found


def picture_text(content: Mapping[str, Any]) -> str:
    """Encode `pickled` as the text PNG_KEY of a PNG, from which the WebUI reads it."""

    def plain(value: Any) -> Any:
        return {"TORCHTENSOR": value.detach().to("cpu", torch.float32).tolist()}

    return base64.b64encode(json.dumps(content, default=plain).encode()).decode("ascii")


def state(vectors: Sequence[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the tensors of a file, on the CPU."""
    names = SINGLE if len(vectors) == 1 else DOUBLE
    return {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in zip(names, vectors, strict=True)}


def pickled(tensors: Mapping[str, Tensor], name: str, steps: int, model: str, model_hash: str | None) -> dict[str, Any]:
    """Return the content of a `.pt` with `state`'s tensors. SDXL's has nothing else."""
    if set(tensors) == set(DOUBLE):
        return dict(tensors)
    return {
        "string_to_token": {"*": 265},  # as in the WebUI; not used
        "string_to_param": {"*": tensors["emb_params"]},
        "name": name,
        "step": steps,
        "sd_checkpoint": model_hash,
        "sd_checkpoint_name": model,
    }


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], content: Mapping[str, Any]) -> None:
    """Write `state`'s tensors with metadata as `.safetensors`, or `pickled`'s content as `.pt`, by the path's
    suffix."""
    if path.suffix == ".safetensors":
        save_tensors(tensors, path, metadata)
    else:
        save_pickle(content, path)


def check_widths(stored: Stored, path: Path, wanted: Sequence[int], field: str) -> None:
    """Raise UserError unless the vectors have the widths of a model's text encoders."""
    found = [tensor.shape[-1] for tensor in stored.embedding.vectors]
    if found != list(wanted):
        made, here = (FAMILY_OF_WIDTH.get(sum(w)) or Message("embedding.width", width=sum(w)) for w in (found, wanted))
        raise UserError("embedding.other_family", field, file=path.name, made=made, base=here)


def export_embedding(
    base: LatentBase,
    vectors: Sequence[Tensor],
    path: Path,
    *,
    precision: str,
    metadata: Mapping[str, str],
    steps: int,
    activation_text: str = "",
    preview: Image.Image | None = None,
    zero_terminal_snr: bool = False,
) -> Exported:
    """Write an embedding (.safetensors or .pt) and its sidecars. Its word is the file's name.

    vectors: (n, width) for each text encoder. steps: how many it has been trained. activation_text, zero_terminal_snr:
    ignored, since such a file cannot store them. Raises UserError as `export_network` does.
    """
    tensors = state(vectors, PRECISIONS[precision])
    for key, tensor in state(vectors, torch.float32).items():
        if not tensor.isfinite().all():
            raise not_finite(key)
        if not tensors[key].isfinite().all():
            raise does_not_fit(key, precision)
    about = {**metadata, "modelspec.title": path.stem, "modelspec.trigger_phrase": path.stem}
    with replacing(path) as temporary:
        if path.suffix == ".safetensors":
            digest = write_verified(tensors, temporary, about, precision)
        else:
            save_pickle(pickled(tensors, path.stem, steps, base.path.stem, base.short_hash()), temporary)
            written = read(temporary, "save_format").embedding.vectors
            if not all(map(torch.equal, written, (tensor.float() for tensor in tensors.values()))):
                raise reads_differently()
            digest = sha256_of(temporary)
        sidecars = write_sidecars(path, None, base.family.name, path.stem, preview)
    return Exported(path, digest, sidecars)
