"""PyTorch's pickle files (.ckpt, .pt): read without running anything that is in them, written as the WebUI accepts."""

from __future__ import annotations

import _codecs
import builtins
import collections
import pickle
import struct
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy
import torch

from ..errors import UserError
from ..files import replacing
from .tensors import LazyTensor, raw_bytes

# Frameworks whose bookkeeping (callbacks, configurations) sits beside the weights in training checkpoints.
BOOKKEEPING = ("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "omegaconf", "pathlib")
PLAIN = {"set", "frozenset", "dict", "list", "tuple", "int", "float", "bool", "complex", "bytes", "bytearray", "str"}
NUMPY_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
STORAGES = {
    torch.float64: torch.DoubleStorage,
    torch.float32: torch.FloatStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.int64: torch.LongStorage,
    torch.int32: torch.IntStorage,
    torch.uint8: torch.ByteStorage,
}  # those that the WebUI's scanner allows
DAMAGED = (  # what unpickling a cut or altered file ends in
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    struct.error,
)
ALIGNMENT = 64  # bytes, of each tensor in the file, as torch has it, so that it can be used where it is mapped


class Inert:
    """Stands in for a bookkeeping object: takes whatever the pickle does to it, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


def encode(text: str, encoding: str = "latin1") -> bytes:
    """What pickles of bytes and numpy scalars call; only with the encoding that they need."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"_codecs.encode with {encoding!r}")
    return _codecs.encode(text, encoding)


class Forbidden(pickle.UnpicklingError):
    """The pickle names something that a model file has no need of."""


def allowed(module: str, name: str) -> Any:
    """The object a pickle may have under this name, or Forbidden."""
    module = "builtins" if module == "__builtin__" else module  # Python 2's name, which torch's pickles use
    if module == "collections" and name in ("OrderedDict", "defaultdict", "Counter"):
        return getattr(collections, name)
    if module == "torch._utils" and name in (
        "_rebuild_tensor",
        "_rebuild_tensor_v2",
        "_rebuild_parameter",
        "_rebuild_device_tensor_from_numpy",
    ):
        return getattr(torch._utils, name)
    if module in ("torch", "torch.storage") and name.endswith("Storage") and isinstance(getattr(torch, name, 0), type):
        return getattr(torch, name)
    if module == "torch" and (name in ("Size", "device") or isinstance(getattr(torch, name, None), torch.dtype)):
        return getattr(torch, name)
    if (module, name) == ("torch.nn.parameter", "Parameter"):
        return torch.nn.Parameter
    if (module, name) == ("torch.nn.modules.container", "ParameterDict"):
        return torch.nn.ParameterDict
    if module in NUMPY_ARRAYS and name in ("scalar", "_reconstruct"):
        # numpy 2 moved the module; the old name warns there
        return getattr(numpy._core.multiarray if hasattr(numpy, "_core") else numpy.core.multiarray, name)
    if module == "numpy" and name in ("dtype", "ndarray"):
        return getattr(numpy, name)
    if (module, name) == ("_codecs", "encode"):
        return encode
    if module == "builtins" and name in PLAIN:
        return getattr(builtins, name)
    if module.split(".")[0] in BOOKKEEPING or (module, name) == ("typing", "Any"):
        return Inert
    raise Forbidden(f"{module}.{name}")


class SafeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return allowed(module, name)


# What torch.load takes as `pickle_module`; it subclasses the unpickler and keeps our find_class.
SAFE_PICKLE = types.SimpleNamespace(
    __name__="safe_pickle",
    Unpickler=SafeUnpickler,
    UnpicklingError=pickle.UnpicklingError,
    load=lambda file, **options: SafeUnpickler(file, **options).load(),
)


def load_pickle(path: Path, *, field: str = "base_model") -> Any:
    """Unpickle, with tensors memory-mapped: they share the file, and are read when they are used.

    Raises UserError where the file is damaged, or names anything but tensors and plain values.
    """
    try:
        if zipfile.is_zipfile(path):
            return torch.load(str(path), map_location="cpu", mmap=True, weights_only=False, pickle_module=SAFE_PICKLE)
        return load_legacy(path)
    except Forbidden as error:
        raise UserError(
            field,
            f"{path.name} wants to run {error}, which no model needs; the file may be malicious and was not loaded.",
            "Use the .safetensors version of this model, or another source.",
        ) from error
    except DAMAGED as error:
        raise UserError(
            field, f"{path.name} is damaged or not a PyTorch file ({short(error)}).", "Download or copy it again."
        ) from error


class LegacyUnpickler(SafeUnpickler):
    """Of PyTorch's layout before 1.6: five pickles, then each storage as a count and its numbers.

    places: {key: where its numbers begin}, {} on the first pass, which only learns where that is.
    """

    def __init__(self, file: Any, path: Path, places: dict[str, int]):
        super().__init__(file)
        self.places = places
        size = path.stat().st_size
        self.mapped = torch.UntypedStorage.from_file(str(path), False, size) if places else None
        self.types: dict[str, torch.dtype] = {}

    def persistent_load(self, identifier: Any) -> torch.TypedStorage:
        if identifier[0] == "module":  # a module's class with its source; embeddings of 2022 hold a ParameterDict
            return identifier[1]
        kind, storage, key, _, count, view = identifier
        if kind != "storage":
            raise pickle.UnpicklingError(f"unknown reference {kind!r}")
        dtype = self.types[key] = getattr(storage, "_dtype", torch.uint8)
        size = count * dtype.itemsize
        if self.mapped is None:
            numbers = torch.UntypedStorage(size, device="meta")
        else:
            begin = self.places[key] + (view[1] * dtype.itemsize if view else 0)
            size = view[2] * dtype.itemsize if view else size
            if begin + size > self.mapped.nbytes():
                raise EOFError("the file is cut short")
            numbers = self.mapped[begin : begin + size]
        return torch.TypedStorage(wrap_storage=numbers, dtype=dtype, _internal=True)


def load_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        if SafeUnpickler(file).load() != torch.serialization.MAGIC_NUMBER:
            raise pickle.UnpicklingError("no PyTorch file")
        for _ in ("protocol", "machine"):
            SafeUnpickler(file).load()
        start = file.tell()
        first = LegacyUnpickler(file, path, {})
        content = first.load()
        places = {}
        for key in SafeUnpickler(file).load():
            count = struct.unpack("<q", file.read(8))[0]
            places[key] = file.tell()
            file.seek(count * first.types[key].itemsize, 1)
        if not places:
            return content
        file.seek(start)
        return LegacyUnpickler(file, path, places).load()


def short(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]


class StorageName:
    """A tensor's numbers as the pickle refers to them."""

    def __init__(self, dtype: torch.dtype, key: int, count: int):
        self.identifier = ("storage", STORAGES[dtype], str(key), "cpu", count)


class TensorPickler(pickle.Pickler):
    """Pickles tensors and `LazyTensor`s by reference, and lists them for writing after the pickle."""

    def __init__(self, file: Any):
        super().__init__(file, protocol=2)
        self.tensors: list[torch.Tensor | LazyTensor] = []

    def persistent_id(self, thing: Any) -> Any:
        return thing.identifier if isinstance(thing, StorageName) else None

    def reducer_override(self, thing: Any) -> Any:
        if not isinstance(thing, (torch.Tensor, LazyTensor)):
            return NotImplemented
        shape = tuple(thing.shape)
        strides = torch.empty(shape, device="meta").stride()
        storage = StorageName(thing.dtype, len(self.tensors), torch.Size(shape).numel())
        self.tensors.append(thing)
        arguments = (storage, 0, shape, tuple(strides), False, collections.OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


def save_pickle(thing: Any, path: Path) -> None:
    """Write nested plain values with tensors, in torch's zip layout with no more members than the WebUI allows.

    torch.save of new versions adds members that the WebUI 1.10.1's scanner rejects. Tensors are written one by one,
    contiguous, each with its own storage, so lazy ones never are in memory together.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("archive/data.pkl", "w") as file:
            pickler = TensorPickler(file)
            pickler.dump(thing)
        archive.writestr("archive/byteorder", "little")
        for key, tensor in enumerate(pickler.tensors):
            data = raw_bytes(tensor)
            with archive.open(aligned(archive, f"archive/data/{key}", len(data)), "w", force_zip64=False) as file:
                file.write(data)
        archive.writestr("archive/version", "3\n")


def aligned(archive: zipfile.ZipFile, name: str, size: int) -> zipfile.ZipInfo:
    """A member whose data begins at a multiple of ALIGNMENT, through padding in its header's extra field."""
    assert size < 2**31, "a single tensor of 2 GB needs zip64 headers"
    member = zipfile.ZipInfo(name)
    member.file_size = size
    start = archive.fp.tell() + 30 + len(name) + 4  # local header, name, the extra field's own head
    padding = -start % ALIGNMENT
    member.extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding  # "FB", as torch itself marks it
    return member
