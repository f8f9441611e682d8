"""Files of named tensors, .safetensors and .ckpt: read tensor by tensor, written in one pass."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import human_size, parse_json, replacing
from .lazy_tensor import LazyTensor, raw_bytes
from .summed_file import made_ahead
from .torch_pickle import load_pickle, require_model_file, save_pickle

SAFETENSORS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")
MAPPED_AT_MOST = 512 * 2**20  # bytes; touched pages count as this process's memory until the mapping is closed
OF_LORA = ("network_weights", "lora")  # fields that ask for a LoRA; others ask for a model
LARGEST_HEADER = 16 * 2**20  # bytes of a header; usually some 100 KB, plus the captions of a large data set
MOST_TENSORS = 20_000  # SDXL with averaged weights has 4200, a LoKr of all its layers 10 000


class TensorFile(Mapping[str, Tensor]):
    """A file's tensors by name. Shapes and dtypes are known at once; values are memory-mapped on access.

    A returned tensor shares the mapping, so copy what is to be kept. `close` closes the file; the next access reopens
    it. `metadata` is that of safetensors, {} for pickles.
    """

    def __init__(self, path: Path, field: str = "base_model"):
        self.path, self.field = path, field
        self.metadata: dict[str, str] = {}
        self._open: Any = None
        self._mapped = 0  # bytes accessed since the file was opened
        self.pickled = container(path, field) == "pickle"
        if self.pickled:
            self.entries = {key: (tuple(t.shape), t.dtype) for key, t in self._tensors().items()}
        else:
            self.entries = self._read_header()

    def _read_header(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        header, start = safetensors_header(self.path, self.field)
        metadata = header.pop("__metadata__", None)
        self.metadata = {key: str(v) for key, v in metadata.items()} if isinstance(metadata, dict) else {}
        if not all(map(is_entry, header.values())):
            raise UserError("model_file.header_invalid", self.field, file=self.path.name)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0) + start
        size = self.path.stat().st_size
        if size < end:
            known = {"file": self.path.name, "size": human_size(size), "expected": human_size(end)}
            raise UserError("model_file.cut_short", self.field, **known)
        unknown = {entry["dtype"] for entry in header.values()} - set(SAFETENSORS)
        if unknown:
            raise UserError("model_file.unknown_types", self.field, file=self.path.name, types=sorted(unknown))
        return {key: (tuple(e["shape"]), SAFETENSORS[e["dtype"]]) for key, e in header.items()}

    def _tensors(self) -> Any:
        if self._open is None:
            if self.pickled:
                self._open = pickled_tensors(self.path, self.field)
            else:
                try:
                    self._open = safe_open(str(self.path), framework="pt")
                except (SafetensorError, OSError) as error:
                    known = {"file": self.path.name, "error": reason_of(error)}
                    raise UserError("model_file.damaged", self.field, **known) from error
        return self._open

    def __getitem__(self, key: str) -> Tensor:
        shape, dtype = self.entries[key]
        self._mapped += torch.Size(shape).numel() * dtype.itemsize
        if self._mapped > MAPPED_AT_MOST:
            self.close()
        return self._tensors()[key] if self.pickled else self._tensors().get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def lazy(self, key: str) -> LazyTensor:
        shape, dtype = self.entries[key]
        return LazyTensor(shape, dtype, lambda: self[key])

    def close(self) -> None:
        self._open, self._mapped = None, 0


def open_tensors(path: Path, *, field: str = "base_model") -> TensorFile:
    """Open a .safetensors or .ckpt file by its content, whatever its name.

    Raises UserError if it is missing, empty, truncated, a web page, or anything else but tensors.
    """
    return TensorFile(Path(path), field)


def container(path: Path, field: str) -> str:
    """Return "safetensors" or "pickle", by the file's first bytes."""
    if not path.exists():
        raise UserError("model_file.missing", field, path=path)
    if path.is_dir():
        raise UserError("model_file.is_folder", field, path=path)
    require_model_file(path, field)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    if size == 0:
        raise UserError("model_file.empty", field, file=path.name)
    if head[:2] == b"PK":
        if not zipfile.is_zipfile(path):
            raise UserError("model_file.archive_cut_short", field, file=path.name)
        return "pickle"
    if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**32:
        return "safetensors"
    if head[:1] == b"\x80":  # PROTO, the first opcode of every pickle that PyTorch wrote
        return "pickle"
    raise not_tensors(path, head, field)


def not_tensors(path: Path, head: bytes, field: str) -> UserError:
    """Return an error that says what a file without tensors is instead."""
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return UserError("model_file.web_page", field, file=path.name)
    if start.startswith(b"version https://git-lfs"):
        return UserError("model_file.lfs_pointer", field, file=path.name)
    if head.startswith(b"GGUF"):
        return UserError("model_file.gguf", field, file=path.name)
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return UserError("model_file.text_file", field, file=path.name)
    return UserError("model_file.unknown_format", field, file=path.name)


def safetensors_header(path: Path, field: str) -> tuple[dict[str, Any], int]:
    """Return the header, and the offset in the file at which the values begin."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if 8 + length > size:
            raise UserError("model_file.header_cut_short", field, file=path.name)
        if length > LARGEST_HEADER:
            raise UserError("model_file.header_too_large", field, file=path.name)
        text = file.read(length)
        require_few(text.count(b'"data_offsets"'), path, field)  # a quick check; JSON allows other spellings, too
        try:
            content = parse_json(text)
        except ValueError as error:
            raise UserError("model_file.header_unreadable", field, file=path.name) from error
        require_few(len(content), path, field)
        return content, 8 + length


def require_few(tensors: int, path: Path, field: str) -> None:
    """Raise UserError if a file has more tensors than any model: recognising it would take minutes."""
    if tensors > MOST_TENSORS:
        raise UserError("model_file.too_many_tensors", field, file=path.name)


def is_entry(entry: Any) -> bool:
    """Whether a tensor's entry in the header is valid."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    numbers = (entry.get("shape"), entry.get("data_offsets"))
    return len(numbers[1] or ()) == 2 and all(
        isinstance(part, list) and all(type(n) is int and n >= 0 for n in part) for part in numbers
    )


def pickled_tensors(path: Path, field: str) -> dict[str, Tensor]:
    content = load_pickle(path, field=field)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        known = {"file": path.name, "type": type(content).__name__, "wanted": wanted(field)}
        raise UserError("model_file.no_named_tensors", field, **known)
    found = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not found:
        raise what_pickle_is(path, content, field)
    require_few(len(found), path, field)
    return found


def what_pickle_is(path: Path, content: Mapping[Any, Any], field: str) -> UserError:
    code = "weights.not_a_lora" if field in OF_LORA else "model_file.not_a_checkpoint"
    if "string_to_param" in content:
        return UserError(code, field, file=path.name, kind=Message("kind.embedding"))
    if "layer_structure" in content or any(isinstance(key, int) for key in content):
        return UserError(code, field, file=path.name, kind=Message("kind.hypernetwork"))
    return UserError("model_file.no_tensors", field, file=path.name, wanted=wanted(field))


def wanted(field: str) -> Message:
    """Return what kind of file `field` asks for."""
    return Message("kind.lora") if field in OF_LORA else Message("kind.checkpoint")


def save_tensors(
    state: Mapping[str, Tensor | LazyTensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors: `.safetensors` with metadata, any other suffix as a pickle {"state_dict": ...}.

    Lazy tensors are loaded one at a time. The file appears under its name only when it is complete.
    """
    if path.suffix.lower() in PICKLE_SUFFIXES:
        save_pickle({"state_dict": dict(state)}, path)
        return
    with replacing(path) as temporary, temporary.open("wb") as file:
        write_tensors(state, file, metadata)


class Writable(Protocol):
    """Accepts bytes sequentially: an open file, or one that also computes a checksum."""

    def write(self, data: Any, /) -> int: ...


def write_tensors(
    state: Mapping[str, Tensor | LazyTensor], file: Writable, metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors to an open file in the safetensors format."""
    file.write(header_of(state, metadata))
    write_values(state, file)


def header_of(state: Mapping[str, Tensor | LazyTensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the beginning of a safetensors file, before the values."""
    names = {dtype: name for name, dtype in SAFETENSORS.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for key in _in_order(state):
        tensor = state[key]
        end = offset + torch.Size(tensor.shape).numel() * tensor.dtype.itemsize
        header[key] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_values(state: Mapping[str, Tensor | LazyTensor], file: Writable) -> None:
    """Write the values in the order of `header_of`. While one tensor is written, the next one is loaded."""
    for values in made_ahead(lambda key: raw_bytes(state[key]), _in_order(state)):
        file.write(values)


def _in_order(state: Mapping[str, Tensor | LazyTensor]) -> list[str]:
    return sorted(state, key=lambda key: (-state[key].dtype.itemsize, key))  # with wide dtypes first, all are aligned
