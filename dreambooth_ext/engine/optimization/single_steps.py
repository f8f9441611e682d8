"""Optimizer steps one parameter at a time, for weights in bfloat16 with stochastic rounding.

bfloat16 keeps 8 bits of a number: most updates at usual learning rates are smaller than half its distance to the next
one, and would be lost if rounded to the nearest. So each parameter in turn is made float32, stepped, and rounded up or
down at random, with the probability that makes the mean right (Gupta et al. 2015, arXiv:1502.02551, section 3). The
optimizer's own numbers stay in float32, or in what it keeps them in.

Two kinds of optimizers are stepped otherwise. One whose step needs all gradients first (Prodigy) gets them all, but
each parameter is float32 only while the step's loops are at it. One that has a step for single parameters, with random
rounding (prodigyplus), takes it; its rounding draws from PyTorch's common generator.

What the optimizer sees in float32 is another parameter in its place. A parameter that changed its own type, if only for
a moment, would lose the hooks of its gradient, by which several processes average it (`distribution.exchange`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...core.config.stages import ResolvedConfig
from ..runtime.seeds import derive
from .slices import is_long, step_in_slices


def steps_singly(config: ResolvedConfig) -> bool:
    """Whether steps have to be taken one parameter at a time even after the backward pass."""
    return config.weight_precision == "bf16"


class SingleSteps:
    """Steps `optimizer`, whose groups need a "name", one parameter at a time. alone: whether it treats each parameter
    separately (`OptimizerFacts.steps_alone`); else only `step_all` is right. sliced: whether it may be given slices of
    parameters (`is_elementwise`)."""

    def __init__(self, optimizer: torch.optim.Optimizer, seed: int, alone: bool = True, sliced: bool = False):
        self.optimizer, self.seed, self.alone, self.sliced = optimizer, seed, alone, sliced
        self.now = 0  # steps taken before this one: random numbers depend on it, so that a resumed run is the same
        self._places = {  # by id: held here, parameters that stop learning could not leave memory
            id(parameter): (group["name"], index)
            for group in optimizer.param_groups
            for index, parameter in enumerate(group["params"])
        }
        self._own_step: Callable[[nn.Parameter, dict[str, Any]], None] | None = getattr(optimizer, "step_param", None)
        self._stepped: set[int] = set()  # by id, where the optimizer counts its parameters

    def step_all(self) -> None:
        """Step every parameter that has a gradient."""
        if not self.alone:
            self._step_together()
            return
        for parameter in [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]:
            self.step(parameter)
        self.finish()

    def step(self, parameter: nn.Parameter) -> None:
        """Step this parameter, whose gradient is complete, and free the gradient. After the last one comes `finish`."""
        groups, (name, index) = self.optimizer.param_groups, self._places[id(parameter)]
        group = next(group for group in groups if group["name"] == name)
        if self._own_step:
            self._stepped.add(id(parameter))
            if parameter.dtype == torch.bfloat16:
                torch.manual_seed(self._draws(name, index))
            self._own_step(parameter, group)
        else:
            self._step_alone(parameter, group, self._draws(name, index))
        parameter.grad = None

    def finish(self) -> None:
        """End a step: an optimizer that counts its parameters waits for those without a gradient, too."""
        if not self._own_step or not self._stepped:
            return
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in self._stepped:
                    self._own_step(parameter, group)
        self._stepped.clear()

    def _draws(self, name: str, index: int) -> int:
        """Return the seed of a parameter's rounding."""
        return derive(self.seed, "rounding", self.now, name, index)

    def _step_alone(self, parameter: nn.Parameter, group: dict[str, Any], seed: int) -> None:
        groups = self.optimizer.param_groups
        self.optimizer.param_groups = [{**group, "params": [parameter]}]
        try:
            if self.sliced and parameter.dtype == torch.bfloat16 and is_long(parameter):
                draws = torch.Generator(parameter.device).manual_seed(seed)
                step_in_slices(self.optimizer, parameter, lambda old, new: old.copy_(rounded(new, draws)))
            else:
                for stepped in rounding(self.optimizer, [parameter], [seed]):
                    self.optimizer.param_groups[0]["params"] = [stepped]
                    self.optimizer.step()
        finally:
            self.optimizer.param_groups = groups

    def _step_together(self) -> None:
        """Take one step of all parameters, each of which is float32 only while the optimizer's loops are at it."""
        groups = self.optimizer.param_groups
        held = [group["params"] for group in groups]
        for group, parameters in zip(groups, held, strict=True):
            seeds = [self._draws(group["name"], n) for n in range(len(parameters))]
            group["params"] = Rounding(self.optimizer, parameters, seeds)
        try:
            self.optimizer.step()
        finally:
            for group, parameters in zip(groups, held, strict=True):
                group["params"] = parameters
        self.optimizer.zero_grad(set_to_none=True)


class Rounding:
    """Parameters that a step can walk through more than once, as `rounding` does."""

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], seeds: list[int]):
        self.optimizer, self.parameters, self.seeds = optimizer, parameters, seeds

    def __iter__(self) -> Iterator[nn.Parameter]:
        return rounding(self.optimizer, self.parameters, self.seeds, again=True)


def rounding(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], seeds: list[int], again: bool = False
) -> Iterator[nn.Parameter]:
    """Yield each parameter; for one in bfloat16, one in float32 in its place until the next is asked for, which is then
    rounded at random. again: what changed in its gradient is needed once more."""
    for parameter, seed in zip(parameters, seeds, strict=True):
        if parameter.dtype != torch.bfloat16 or parameter.grad is None:
            yield parameter
            continue
        with float32(optimizer, parameter) as stepped:
            yield stepped
            if again and stepped.grad is not None:
                parameter.grad.copy_(stepped.grad)
        draws = torch.Generator(parameter.device).manual_seed(seed)
        parameter.data.copy_(rounded(stepped.detach(), draws))


@contextlib.contextmanager
def float32(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Iterator[nn.Parameter]:
    """Yield a parameter with this one's numbers and gradient in float32, and its state inside the `with` block."""
    other = nn.Parameter(parameter.detach().float())
    other.grad = None if parameter.grad is None else parameter.grad.float()
    if parameter in optimizer.state:
        optimizer.state[other] = optimizer.state.pop(parameter)
    try:
        yield other
    finally:
        if other in optimizer.state:
            optimizer.state[parameter] = optimizer.state.pop(other)


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
