"""A safe unpickler for tensors and plain values: it runs no code from the file, and is bounded in time and memory.

Python's own unpickler calls whatever the file says, and a few hundred bytes can keep it busy for years: a tuple of
twice the same tuple, nested forty times, as the key of a dict. Here only what `named` allows can be called, keys are
short and flat, and steps, copies and the size of the result are limited.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

from ...core.messages.message import Message
from .pickled_objects import CALLS, Forbidden, Inert, NumpyArray, NumpyKind, Parameters, as_set, named, require_key

LARGEST = 16 * 2**20  # bytes of a pickle without tensor values; a training state of SDXL has 1 MB
MOST_STEPS = 1_000_000  # steps of a pickle; that training state has 300 000
MOST_COPIED = 4 * LARGEST  # bytes and items
LONGEST_LINE = 500  # characters of a name
DEEPEST = 100


class _Text(io.BytesIO):
    def readline(self, size: int | None = -1) -> bytes:
        return super().readline(LONGEST_LINE)


class PlainUnpickler:
    """Reads one pickle. persistent: creates the storage for a reference that torch writes in a tensor's place."""

    def __init__(self, data: bytes, persistent: Callable[[Any], Any] | None = None):
        self.text, self.persistent = _Text(data), persistent
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stack below each mark
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def load(self) -> Any:
        """Return the pickle's content; afterwards `length` is its number of bytes. Raises the errors in
        `torch_pickle.DAMAGED`."""
        text, code = self.text, b""
        for _ in range(MOST_STEPS):
            code = text.read(1)
            if code not in CODES:
                raise pickle.UnpicklingError(Message("pickle.unknown_step", code=repr(code)))
            step, read = CODES[code]
            step(self, read(text) if read else None)
            if code == pickle.STOP:
                require_small(self.stack[-1])
                return self.stack[-1]
        raise pickle.UnpicklingError(Message("pickle.too_many_steps", count=MOST_STEPS))

    @property
    def length(self) -> int:
        return self.text.tell()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def popped(self) -> list[Any]:
        """Remove and return everything above the last mark."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def replaced(self, count: int) -> tuple[Any, ...]:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise pickle.UnpicklingError(Message("pickle.empty_stack"))
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
            raise pickle.UnpicklingError(Message("pickle.not_a_list"))

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[require_key(key)] = value
        elif not isinstance(target, Inert):
            raise pickle.UnpicklingError(Message("pickle.not_a_dict"))

    def add(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], set):
            raise pickle.UnpicklingError(Message("pickle.not_a_set"))
        self.stack[-1].update(map(require_key, items))

    def call(self, function: Any, arguments: Any) -> Any:
        if function is Inert:
            return Inert()
        if not callable(function) or function not in CALLS or not isinstance(arguments, tuple):
            raise Forbidden(getattr(function, "__name__", type(function).__name__))
        self.copied += sum(len(item) for item in arguments if isinstance(item, str | bytes | list | tuple | dict))
        if self.copied > MOST_COPIED:
            raise pickle.UnpicklingError(Message("pickle.too_large"))
        return CALLS[function](*arguments)

    def build(self, state: Any) -> None:
        """Set an object's state. Attributes of dicts and of stand-ins are ignored."""
        target = self.stack[-1]
        if isinstance(target, NumpyArray):
            target.build(state)
        elif isinstance(target, NumpyKind):
            if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
                raise pickle.UnpicklingError(Message("pickle.other_byte_order"))
        elif isinstance(target, Parameters):
            held = state.get("_parameters") if isinstance(state, dict) else None
            target._parameters = held if isinstance(held, dict) else {}
        elif not isinstance(target, Inert | dict):
            raise pickle.UnpicklingError(Message("pickle.not_an_object"))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def persist(self, identifier: Any) -> None:
        if self.persistent is None:
            raise pickle.UnpicklingError(Message("pickle.misplaced_tensors"))
        self.push(self.persistent(identifier))


def require_small(content: Any) -> None:
    """Raise UnpicklingError if content is nested deeply, or huge when written out: few objects that contain each other
    many times."""
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
                raise pickle.UnpicklingError(Message("pickle.too_large"))
        level = inner
    if level:
        raise pickle.UnpicklingError(Message("pickle.too_deep"))


def from_python_2(text: str) -> str:
    """Decode a string of Python 2, whose bytes have no stated encoding, as UTF-8 if possible."""
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
CODES = {  # by a step's byte: its action, and the reader of its argument
    opcode.code.encode("latin-1"): (STEPS[opcode.name], opcode.arg.reader if opcode.arg else None)
    for opcode in pickletools.opcodes
    if opcode.name in STEPS
}
