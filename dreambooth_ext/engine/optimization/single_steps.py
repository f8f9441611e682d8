"""Optimizer steps one parameter at a time, for weights in bfloat16 with stochastic rounding.

bfloat16 keeps 8 bits of a number: most updates at usual learning rates are smaller than half its distance to the next
one, and would be lost if rounded to the nearest. So each parameter in turn is made float32, stepped, and rounded up or
down at random, with the probability that makes the mean right (Gupta et al. 2015, arXiv:1502.02551, section 3). The
optimizer's own numbers stay in float32, or in what it keeps them in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ...core.config.stages import ResolvedConfig
from ..runtime.seeds import derive


def steps_singly(config: ResolvedConfig) -> bool:
    """Whether steps have to be taken one parameter at a time even after the backward pass."""
    return config.weight_precision == "bf16"


class SingleSteps:
    """Steps `optimizer`, whose groups need a "name", one parameter at a time. Only right for optimizers that treat each
    parameter separately (`OptimizerFacts.steps_alone`)."""

    def __init__(self, optimizer: torch.optim.Optimizer, seed: int):
        self.optimizer, self.seed = optimizer, seed
        self.now = 0  # steps taken before this one: random numbers depend on it, so that a resumed run is the same
        self._places = {  # by id: held here, parameters that stop learning could not leave memory
            id(parameter): (group["name"], index)
            for group in optimizer.param_groups
            for index, parameter in enumerate(group["params"])
        }

    def step_all(self) -> None:
        """Step every parameter that has a gradient."""
        for parameter in [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]:
            self.step(parameter)

    def step(self, parameter: nn.Parameter) -> None:
        """Step this parameter, whose gradient is complete, and free the gradient."""
        groups, (name, index) = self.optimizer.param_groups, self._places[id(parameter)]
        group = next(group for group in groups if group["name"] == name)
        self.optimizer.param_groups = [{**group, "params": [parameter]}]
        try:
            if parameter.dtype == torch.bfloat16:
                self._step_rounded(parameter, derive(self.seed, "rounding", self.now, name, index))
            else:
                self.optimizer.step()
        finally:
            self.optimizer.param_groups = groups
        parameter.grad = None

    def _step_rounded(self, parameter: nn.Parameter, seed: int) -> None:
        with float32(parameter):
            self.optimizer.step()
            stepped = rounded(parameter.detach(), torch.Generator(parameter.device).manual_seed(seed))
        parameter.data.copy_(stepped)


@contextlib.contextmanager
def float32(parameter: nn.Parameter) -> Iterator[None]:
    """Make a parameter and its gradient float32 inside the `with` block. Afterwards the parameter is what it was."""
    data, gradient = parameter.data, parameter.grad
    parameter.grad = None
    parameter.data = data.float()
    parameter.grad = None if gradient is None else gradient.float()
    try:
        yield
    finally:
        parameter.grad = None  # its type has to be the parameter's
        parameter.data = data


def rounded(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round float32 to bfloat16, up or down at random, with probabilities by which the mean is the value itself.

    A bfloat16 is a float32 without its lower 16 bits: a random number of 16 bits is added, then they are cut off. Exact
    values, and infinity, stay as they are. values: any shape; generator: on their device.
    """
    bits = torch.randint(1 << 16, values.shape, generator=generator, device=values.device, dtype=torch.int32)
    bits.add_(values.contiguous().view(torch.int32)).bitwise_and_(-1 << 16)
    return bits.view(torch.float32).to(torch.bfloat16)


@contextlib.contextmanager
def loaded_as_float32(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Keep `load_state_dict` from converting the optimizer's numbers to the parameters' bfloat16."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = [(parameter, parameter.data) for parameter in parameters if parameter.dtype == torch.bfloat16]
    for parameter, data in held:
        parameter.data = torch.empty(0, dtype=torch.float32, device=data.device)
    try:
        yield
    finally:
        for parameter, data in held:
            parameter.data = data
