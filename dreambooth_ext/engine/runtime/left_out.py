"""Import libraries without parts of PyTorch that nothing here uses: its compiler and its sharded tensors.

transformers and diffusers import them for features of their own, and torch's optimizers for functions that a compiler
should leave alone. Together they take longer than the rest of a start.
"""

from __future__ import annotations

import functools
import gc
import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
UNUSED = (COMPILER, "torch.distributed.fsdp", "torch.distributed.tensor", "torch.nn.attention.flex_attention")


class Standin(ModuleType):
    """A module in which every name is a class of which there are no instances elsewhere: `isinstance` says no."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {"__init__": lambda self, *values, **named: None})
        setattr(self, name, made)
        return made


class Finder:
    """Finds stand-ins for what is left out, and for modules in it. Both a finder and a loader of the import system."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if not any(name == unused or name.startswith(f"{unused}.") for unused in UNUSED):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return Standin(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == COMPILER:
            vars(module).update(allow_in_graph=as_it_is, disable=as_it_is)


def as_it_is(function: Any = None, *arguments: object, **options: object) -> Any:
    """A decorator, with and without options, that changes nothing."""
    return as_it_is if function is None else function


@contextmanager
def left_out() -> Iterator[None]:
    """While libraries are imported. Afterwards the real modules can be imported, should anything ask for them.

    Garbage is not looked for meanwhile, and never again in what has been imported, all of which stays.
    """
    finder, collects = Finder(), gc.isenabled()
    sys.meta_path.insert(0, finder)
    gc.disable()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        gc.freeze()
        if collects:
            gc.enable()
        for name in [name for name, module in sys.modules.items() if isinstance(module, Standin)]:
            forget(name)


def forget(name: str) -> None:
    parent, _, child = name.rpartition(".")
    module = sys.modules.pop(name)
    if vars(sys.modules.get(parent, module)).get(child) is module:
        delattr(sys.modules[parent], child)


def uncompiled(holder: type) -> None:
    """Call the methods of a class that torch's compiler is to leave alone without importing the compiler.

    torch's decorator asks the compiler at the first call, and keeps the answer in an attribute of the function.
    """
    for function in vars(holder).values():
        if getattr(function, "__globals__", {}).get("__name__") == "torch._compile":
            vars(function.__wrapped__)["__dynamo_disable"] = function.__wrapped__


def uncompiled_step(optimizer_class: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return the class, whose step no longer imports the compiler, as those of torch's own do to interrupt it."""
    step = optimizer_class.step
    if step.__code__.co_name == "_use_grad":  # the decorator of torch's own
        plain = step.__wrapped__

        @functools.wraps(plain)
        def stepped(self: torch.optim.Optimizer, *arguments: Any, **options: Any) -> Any:
            with torch.set_grad_enabled(self.defaults["differentiable"]):
                return plain(self, *arguments, **options)

        optimizer_class.step = stepped
    return optimizer_class
