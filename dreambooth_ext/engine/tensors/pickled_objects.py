"""The objects that a PyTorch pickle may contain, and their harmless replacements: tensors, plain values, inert
stand-ins."""

from __future__ import annotations

import collections
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...core.messages.message import Message

LONGEST_KEY = 1000
MOST_DIMENSIONS = 8

# Frameworks whose bookkeeping (callbacks, configurations) sits beside the weights in training checkpoints.
BOOKKEEPING = ("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "omegaconf", "pathlib")
NUMPY_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}  # of torch's storage classes, by their names without "Storage"
NUMPY_DTYPES = {
    "f8": torch.float64,
    "f4": torch.float32,
    "f2": torch.float16,
    "i8": torch.int64,
    "i4": torch.int32,
    "i2": torch.int16,
    "i1": torch.int8,
    "u1": torch.uint8,
    "b1": torch.bool,
}


class Forbidden(pickle.UnpicklingError):
    """The pickle refers to something that a model file does not need."""


class Inert:
    """Stand-in for a bookkeeping object: accepts whatever the pickle does to it, and does nothing."""


class Parameters:
    """Stand-in for a `torch.nn.ParameterDict`, which embeddings of 2022 contain."""

    def __init__(self) -> None:
        self._parameters: Mapping[Any, Any] = {}


@dataclass(frozen=True)
class Kind:
    """Stand-in for one of torch's storage classes."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Storage:
    """The values of a tensor, which several tensors may share."""

    numbers: torch.UntypedStorage
    dtype: torch.dtype


@dataclass(frozen=True)
class NumpyKind:
    """Stand-in for a numpy.dtype such as "f4"."""

    code: Any

    def tensor(self, data: Any) -> Tensor | None:
        """Return the values in these bytes; None for dtypes without numbers, such as text."""
        if not isinstance(self.code, str) or self.code not in NUMPY_DTYPES or not isinstance(data, bytes):
            return None
        return torch.frombuffer(bytearray(data), dtype=NUMPY_DTYPES[self.code]) if data else torch.empty(0)

    def number(self, data: Any) -> Any:
        tensor = self.tensor(data)
        return Inert() if tensor is None else tensor.item()


@dataclass
class NumpyArray:
    """Stand-in for a numpy.ndarray."""

    tensor: Tensor | None = None

    def build(self, state: Any) -> None:
        _, shape, kind, is_fortran, data = state
        tensor = kind.tensor(data)
        if tensor is not None and not is_fortran:
            self.tensor = tensor.reshape(require_shape(shape))


def require_shape(shape: Any) -> tuple[int, ...]:
    good = isinstance(shape, list | tuple) and len(shape) <= MOST_DIMENSIONS
    if not good or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise pickle.UnpicklingError(Message("pickle.bad_shape"))
    return tuple(shape)


def rebuilt(
    storage: Any, offset: Any, shape: Any, strides: Any, *_: Any, dtype: torch.dtype | None = None, **__: Any
) -> Tensor:
    """Return a view into a storage, with offset and strides in elements. Raises UnpicklingError unless it lies
    within."""
    shape, strides = require_shape(shape), require_shape(strides)
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0 or len(shape) != len(strides):
        raise pickle.UnpicklingError(Message("pickle.bad_tensor"))
    dtype = dtype or storage.dtype
    count = storage.numbers.nbytes() // dtype.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > count or (math.prod(shape) and last >= count):  # also if strides repeat few values as many
        raise pickle.UnpicklingError(Message("pickle.too_many_numbers"))
    return torch.empty(0, dtype=dtype, device=storage.numbers.device).set_(storage.numbers, offset, shape, strides)


def rebuilt_3(storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Tensor:
    """Rebuild a tensor of newer dtypes (fp8), for which torch has no storage class."""
    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError(Message("pickle.bad_tensor_type"))
    return rebuilt(storage, offset, shape, strides, dtype=dtype)


def parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise pickle.UnpicklingError(Message("pickle.bad_parameter"))
    return tensor


def from_numpy(array: Any, dtype: Any, *_: Any) -> Tensor:
    """Rebuild a tensor saved from a TPU."""
    if not isinstance(array, NumpyArray) or array.tensor is None or not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError(Message("pickle.bad_array"))
    return array.tensor.to(dtype)


def encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Replace `_codecs.encode`, which pickles of bytes call, with only the encoding that they need."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(Message("pickle.bad_bytes"))
    return text.encode("latin-1")


def as_bytes(data: Any = b"", encoding: Any = "latin1") -> bytes:
    return data if isinstance(data, bytes) else encoded(data, encoding)


def as_dict(content: Any = ()) -> dict[Any, Any]:
    """Return a dict from the arguments of a Counter or OrderedDict."""
    pairs = list(content.items()) if isinstance(content, dict) else content
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise pickle.UnpicklingError(Message("pickle.bad_dict"))
    return {require_key(key): value for key, value in pairs}


def as_set(items: Any = ()) -> set[Any]:
    return set(map(require_key, items if isinstance(items, list | tuple) else ()))


def device(name: Any, *index: Any) -> torch.device:
    if not isinstance(name, str) or len(name) > LONGEST_KEY or not all(type(number) is int for number in index):
        raise pickle.UnpicklingError(Message("pickle.bad_device"))
    return torch.device(name, *index)


def require_key(key: Any) -> Any:
    """Return a key that is quick to hash and compare: a name, a number, a class, or a few of these. Raises
    UnpicklingError otherwise."""
    items = key if isinstance(key, tuple) and len(key) <= MOST_DIMENSIONS else (key,)
    for item in items:
        is_short = isinstance(item, str | bytes) and len(item) <= LONGEST_KEY
        is_number = item is None or (isinstance(item, int | float) and (isinstance(item, float) or abs(item) < 2**64))
        if not (is_short or is_number or isinstance(item, Inert | Kind | torch.dtype | type)):
            raise pickle.UnpicklingError(Message("pickle.bad_key"))
    return key


# What a pickle may refer to, and what is called in its place (None: nothing).
CALLED: dict[tuple[str, str], tuple[Any, Callable[..., Any] | None]] = {
    ("collections", "OrderedDict"): (
        collections.OrderedDict,
        lambda items=(): collections.OrderedDict(as_dict(items)),
    ),
    ("collections", "defaultdict"): (collections.defaultdict, lambda *_: {}),
    ("collections", "Counter"): (collections.Counter, as_dict),
    ("torch._utils", "_rebuild_tensor"): (rebuilt, rebuilt),
    ("torch._utils", "_rebuild_tensor_v2"): (rebuilt, rebuilt),
    ("torch._utils", "_rebuild_tensor_v3"): (rebuilt_3, rebuilt_3),
    ("torch._utils", "_rebuild_parameter"): (parameter, parameter),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): (from_numpy, from_numpy),
    ("torch", "Size"): (torch.Size, lambda shape=(): torch.Size(require_shape(shape))),
    ("torch", "device"): (torch.device, device),
    ("torch.nn.parameter", "Parameter"): (torch.nn.Parameter, parameter),
    ("torch.nn.modules.container", "ParameterDict"): (Parameters, Parameters),
    ("numpy", "dtype"): (NumpyKind, lambda code, *_: NumpyKind(code)),
    ("numpy", "ndarray"): (NumpyArray, None),
    ("_codecs", "encode"): (encoded, encoded),
    ("typing", "Any"): (Inert, None),
    ("builtins", "set"): (set, as_set),
    ("builtins", "frozenset"): (frozenset, lambda items=(): frozenset(as_set(items))),
    ("builtins", "bytes"): (bytes, as_bytes),
    ("builtins", "bytearray"): (bytearray, lambda *data: bytearray(as_bytes(*data))),
    ("builtins", "complex"): (complex, lambda real, imaginary=0.0: complex(float(real), float(imaginary))),
}
CALLED |= {("builtins", kind.__name__): (kind, None) for kind in (dict, list, tuple, int, float, bool, str)}
for _module in NUMPY_ARRAYS:
    CALLED[_module, "_reconstruct"] = (NumpyArray, lambda *_: NumpyArray())
    CALLED[_module, "scalar"] = (NumpyKind.number, lambda kind, data: kind.number(data))
CALLS = {thing: call for thing, call in CALLED.values() if call}


def named(module: str, name: str) -> Any:
    """Return the object that a pickle may use under this name. Raises Forbidden for all others."""
    module = "builtins" if module == "__builtin__" else module  # Python 2's name, which torch's pickles use
    if (module, name) in CALLED:
        return CALLED[module, name][0]
    if module in ("torch", "torch.storage") and name.removesuffix("Storage") in DTYPES and name.endswith("Storage"):
        return Kind(DTYPES[name.removesuffix("Storage")])
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    if module.split(".")[0] in BOOKKEEPING:
        return Inert
    raise Forbidden(f"{module}.{name}")
