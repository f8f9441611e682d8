"""Pickles of tensors and plain values, read by steps of our own: nothing in them runs, and none takes for ever.

Python's own unpickler calls whatever it is told to, and a few hundred bytes can keep it busy for years: a tuple of
twice the same tuple, forty times, as the key of a dict. Here only what `named` gives can be called, keys are short and
flat, and steps, copies and the size of what comes out have limits.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LARGEST = 16 * 2**20  # bytes of a pickle without its tensors' numbers; a training state of SDXL has 2 MB
MOST_STEPS = 1_000_000  # of a pickle; the same has 450 000
MOST_COPIED = 4 * LARGEST  # bytes and items
LONGEST_LINE = 500  # letters of a name
LONGEST_KEY = 1000
MOST_DIMENSIONS = 8
DEEPEST = 100

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
}  # of torch's kinds of storage, by their names without "Storage"
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
    """The pickle names something that a model file has no need of."""


class Inert:
    """Stands in for a bookkeeping object: takes whatever the pickle does to it, and does nothing."""


class Parameters:
    """Stands in for a `torch.nn.ParameterDict`, which embeddings of 2022 hold."""

    def __init__(self) -> None:
        self._parameters: Mapping[Any, Any] = {}


@dataclass(frozen=True)
class Kind:
    """Stands in for one of torch's classes of storages."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Storage:
    """A tensor's numbers, which several tensors may share."""

    numbers: torch.UntypedStorage
    dtype: torch.dtype


@dataclass(frozen=True)
class NumpyKind:
    """Stands in for a numpy.dtype, "f4"."""

    code: Any

    def tensor(self, data: Any) -> Tensor | None:
        """Numbers from their bytes; None for what has none, such as texts."""
        if not isinstance(self.code, str) or self.code not in NUMPY_DTYPES or not isinstance(data, bytes):
            return None
        return torch.frombuffer(bytearray(data), dtype=NUMPY_DTYPES[self.code]) if data else torch.empty(0)

    def number(self, data: Any) -> Any:
        tensor = self.tensor(data)
        return Inert() if tensor is None else tensor.item()


@dataclass
class NumpyArray:
    """Stands in for a numpy.ndarray."""

    tensor: Tensor | None = None

    def build(self, state: Any) -> None:
        _, shape, kind, is_fortran, data = state
        tensor = kind.tensor(data)
        if tensor is not None and not is_fortran:
            self.tensor = tensor.reshape(require_shape(shape))


def require_shape(shape: Any) -> tuple[int, ...]:
    good = isinstance(shape, list | tuple) and len(shape) <= MOST_DIMENSIONS
    if not good or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise pickle.UnpicklingError("a tensor has a shape that cannot be")
    return tuple(shape)


def rebuilt(
    storage: Any, offset: Any, shape: Any, strides: Any, *_: Any, dtype: torch.dtype | None = None, **__: Any
) -> Tensor:
    """A view into a storage: offset and strides in numbers. Raises UnpicklingError unless it lies inside."""
    shape, strides = require_shape(shape), require_shape(strides)
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0 or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor is not made of what tensors are made of")
    dtype = dtype or storage.dtype
    count = storage.numbers.nbytes() // dtype.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > count or (math.prod(shape) and last >= count):  # few numbers shown as many, too
        raise pickle.UnpicklingError("a tensor says that it has more numbers than there are")
    return torch.empty(0, dtype=dtype, device=storage.numbers.device).set_(storage.numbers, offset, shape, strides)


def rebuilt_3(storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Tensor:
    """As torch writes newer kinds of numbers (fp8), whose storages have no name."""
    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor has numbers of no kind")
    return rebuilt(storage, offset, shape, strides, dtype=dtype)


def parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise pickle.UnpicklingError("a parameter is no tensor")
    return tensor


def from_numpy(array: Any, dtype: Any, *_: Any) -> Tensor:
    """Of TPUs."""
    if not isinstance(array, NumpyArray) or array.tensor is None or not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("an array is none")
    return array.tensor.to(dtype)


def encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """What pickles of bytes call; only with the encoding that they need."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes are in a code that is not used for them")
    return text.encode("latin-1")


def as_bytes(data: Any = b"", encoding: Any = "latin1") -> bytes:
    return data if isinstance(data, bytes) else encoded(data, encoding)


def as_dict(content: Any = ()) -> dict[Any, Any]:
    """Of what a Counter or an OrderedDict is made from."""
    pairs = list(content.items()) if isinstance(content, dict) else content
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise pickle.UnpicklingError("a dict is not made of pairs")
    return {require_key(key): value for key, value in pairs}


def as_set(items: Any = ()) -> set[Any]:
    return set(map(require_key, items if isinstance(items, list | tuple) else ()))


def device(name: Any, *index: Any) -> torch.device:
    if not isinstance(name, str) or len(name) > LONGEST_KEY or not all(type(number) is int for number in index):
        raise pickle.UnpicklingError("a device has no name")
    return torch.device(name, *index)


def require_key(key: Any) -> Any:
    """A key that is hashed and compared at once: a name, a number, a class, or a few of these."""
    items = key if isinstance(key, tuple) and len(key) <= MOST_DIMENSIONS else (key,)
    for item in items:
        is_short = isinstance(item, str | bytes) and len(item) <= LONGEST_KEY
        is_number = item is None or (isinstance(item, int | float) and (isinstance(item, float) or abs(item) < 2**64))
        if not (is_short or is_number or isinstance(item, Inert | Kind | torch.dtype | type)):
            raise pickle.UnpicklingError("a key is no short name or number")
    return key


# What a pickle may name, and what is called where it calls that (None: nothing).
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
    """The object a pickle may have under this name, or Forbidden."""
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


class _Text(io.BytesIO):
    def readline(self, size: int | None = -1) -> bytes:
        return super().readline(LONGEST_LINE)


class PlainUnpickler:
    """One pickle. `persistent`: makes the storage of what torch writes in a tensor's place."""

    def __init__(self, data: bytes, persistent: Callable[[Any], Any] | None = None):
        self.text, self.persistent = _Text(data), persistent
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # what lies below each mark
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def load(self) -> Any:
        """The pickle's content; afterwards `length` says how many bytes it had. Raises what `pickles.DAMAGED` names."""
        text, code = self.text, b""
        for _ in range(MOST_STEPS):
            code = text.read(1)
            if code not in CODES:
                raise pickle.UnpicklingError(f"it has a step {code!r}, which PyTorch does not write")
            step, read = CODES[code]
            step(self, read(text) if read else None)
            if code == pickle.STOP:
                require_small(self.stack[-1])
                return self.stack[-1]
        raise pickle.UnpicklingError(f"it takes more than {MOST_STEPS} steps to read")

    @property
    def length(self) -> int:
        return self.text.tell()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def popped(self) -> list[Any]:
        """What lies above the last mark, which is taken away."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def replaced(self, count: int) -> tuple[Any, ...]:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise pickle.UnpicklingError("its stack is empty")
        del self.stack[-count:]
        return items

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise pickle.UnpicklingError("it appends to what is no list")

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[require_key(key)] = value
        elif not isinstance(target, Inert):
            raise pickle.UnpicklingError("it gives keys to what is no dict")

    def add(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], set):
            raise pickle.UnpicklingError("it adds to what is no set")
        self.stack[-1].update(map(require_key, items))

    def call(self, function: Any, arguments: Any) -> Any:
        if function is Inert:
            return Inert()
        if not callable(function) or function not in CALLS or not isinstance(arguments, tuple):
            raise Forbidden(getattr(function, "__name__", type(function).__name__))
        self.copied += sum(len(item) for item in arguments if isinstance(item, str | bytes | list | tuple | dict))
        if self.copied > MOST_COPIED:
            raise pickle.UnpicklingError("it grows beyond all models")
        return CALLS[function](*arguments)

    def build(self, state: Any) -> None:
        """Attributes of dicts, and of what only stands in for something, are left out."""
        target = self.stack[-1]
        if isinstance(target, NumpyArray):
            target.build(state)
        elif isinstance(target, NumpyKind):
            if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
                raise pickle.UnpicklingError("its numbers are of another kind of machine")
        elif isinstance(target, Parameters):
            held = state.get("_parameters") if isinstance(state, dict) else None
            target._parameters = held if isinstance(held, dict) else {}
        elif not isinstance(target, Inert | dict):
            raise pickle.UnpicklingError("it changes what is no object")

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def persist(self, identifier: Any) -> None:
        if self.persistent is None:
            raise pickle.UnpicklingError("there are tensors where none belong")
        self.push(self.persistent(identifier))


def require_small(content: Any) -> None:
    """Raise UnpicklingError for what is nested deeply, or huge if it is written out: few objects, many times in each
    other."""
    level, left = [content], 2 * MOST_STEPS
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for item in level:
            left -= len(item) // 16 if isinstance(item, str | bytes | bytearray) else 1
            if isinstance(item, dict):
                inner += item.keys()
                inner += item.values()
            elif isinstance(item, list | tuple | set | frozenset):
                inner += item
            if left < len(inner):
                raise pickle.UnpicklingError("it grows beyond all models")
        level = inner
    if level:
        raise pickle.UnpicklingError("it is nested too deeply")


def from_python_2(text: str) -> str:
    """Its strings are bytes, which nothing says the code of."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return text


Step = Callable[[PlainUnpickler, Any], Any]
VALUES = "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8"
VALUES += " BINBYTES SHORT_BINBYTES BINBYTES8"
STEPS: dict[str, Step] = {
    **dict.fromkeys(VALUES.split(), PlainUnpickler.push),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), lambda self, text: self.push(from_python_2(text))),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda self, _: None),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), PlainUnpickler.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda self, index: self.push(self.memo[index])),
    "MEMOIZE": lambda self, _: self.put(len(self.memo)),
    "NONE": lambda self, _: self.push(None),
    "NEWTRUE": lambda self, _: self.push(True),
    "NEWFALSE": lambda self, _: self.push(False),
    "MARK": lambda self, _: self.mark(),
    "POP": lambda self, _: self.pop(),
    "POP_MARK": lambda self, _: self.popped(),
    "EMPTY_TUPLE": lambda self, _: self.push(()),
    "TUPLE1": lambda self, _: self.push(self.replaced(1)),
    "TUPLE2": lambda self, _: self.push(self.replaced(2)),
    "TUPLE3": lambda self, _: self.push(self.replaced(3)),
    "TUPLE": lambda self, _: self.push(tuple(self.popped())),
    "EMPTY_LIST": lambda self, _: self.push([]),
    "LIST": lambda self, _: self.push(self.popped()),
    "APPEND": lambda self, _: self.extend([self.pop()]),
    "APPENDS": lambda self, _: self.extend(self.popped()),
    "EMPTY_DICT": lambda self, _: self.push({}),
    "SETITEM": lambda self, _: self.update(list(self.replaced(2))),
    "SETITEMS": lambda self, _: self.update(self.popped()),
    "EMPTY_SET": lambda self, _: self.push(set()),
    "ADDITEMS": lambda self, _: self.add(self.popped()),
    "FROZENSET": lambda self, _: self.push(frozenset(as_set(self.popped()))),
    "GLOBAL": lambda self, names: self.push(named(*names.split(" ", 1))),
    "STACK_GLOBAL": lambda self, _: self.push(named(*map(str, self.replaced(2)))),
    "REDUCE": lambda self, _: self.push(self.call(*self.replaced(2))),
    "NEWOBJ": lambda self, _: self.push(self.call(*self.replaced(2))),
    "BUILD": lambda self, _: self.build(self.pop()),
    "BINPERSID": lambda self, _: self.persist(self.pop()),
}
CODES = {  # by the byte of a step: what it does, and what reads its argument
    opcode.code.encode("latin-1"): (STEPS[opcode.name], opcode.arg.reader if opcode.arg else None)
    for opcode in pickletools.opcodes
    if opcode.name in STEPS
}
