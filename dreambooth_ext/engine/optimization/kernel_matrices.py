"""Show convolutions' kernels as matrices to optimizers that keep a number for each row and column of a matrix.

Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) factors the last two dimensions. Of a kernel (out, in, 3, 3) those
are 3 x 3, whose rows and columns are two thirds of all numbers; of (out, in * 9) they are next to nothing: 2 bytes for
each weight of SD 1.5 become 0.03. CAME (Luo et al. 2023, arXiv:2307.02047) factors two such numbers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


@functools.cache
def with_matrices(optimizer_class: Any) -> type[torch.optim.Optimizer]:
    """Return the optimizer with steps in which all dimensions of a kernel but the first are one."""

    class WithMatrices(optimizer_class):
        def step(self, *arguments: Any, **options: Any) -> Any:
            with contextlib.ExitStack() as shown:
                for parameter in [p for group in self.param_groups for p in group["params"]]:
                    if is_shown(parameter, self.state.get(parameter, {})):
                        shown.enter_context(as_matrix(parameter))
                return super().step(*arguments, **options)

    WithMatrices.__name__ = optimizer_class.__name__
    return WithMatrices


def is_shown(parameter: nn.Parameter, state: dict[str, Any]) -> bool:
    """Whether a parameter is shown as a matrix. States of earlier versions are factored otherwise, and stay so."""
    rows = state.get("exp_avg_sq_row")
    return parameter.ndim > 2 and parameter.grad is not None and (rows is None or rows.ndim == 1)


@contextlib.contextmanager
def as_matrix(parameter: nn.Parameter) -> Iterator[None]:
    """Show a parameter and its gradient with all dimensions but the first in one, inside the `with` block."""
    data, gradient = parameter.data, parameter.grad
    assert gradient is not None
    parameter.grad = None  # its shape has to be the parameter's
    parameter.data = data.view(len(data), -1)
    parameter.grad = gradient.reshape(len(data), -1)
    try:
        yield
    finally:
        parameter.grad = None
        parameter.data = data
        parameter.grad = gradient
