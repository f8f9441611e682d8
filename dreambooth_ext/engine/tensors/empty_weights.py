"""Build modules whose weights take neither memory nor time, because a file's take their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import init_empty_weights
from torch.overrides import TorchFunctionMode

DRAWS = ("normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")


class Undrawn(TorchFunctionMode):
    """Weights on the meta device are not drawn at random: PyTorch would import sympy to find what has no values."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") in DRAWS:
            tensor = arguments[0] if arguments else named["tensor"]
            if tensor.is_meta:
                return tensor
        return function(*arguments, **(named or {}))


@contextmanager
def empty_weights(*, buffers: bool = True) -> Iterator[None]:
    """Modules made meanwhile have their parameters on the meta device, and their buffers too unless told otherwise."""
    with init_empty_weights(include_buffers=buffers), Undrawn():
        yield
