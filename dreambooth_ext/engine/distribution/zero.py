"""ZeRO's stages 1 and 2 by DeepSpeed (Rajbhandari et al. 2020, arXiv:1910.02054): each process holds the whole model,
and a part of the optimizer's state and of the weights that it steps. In stage 2 it also keeps only its part of the
gradients.

DeepSpeed lays the weights of a parameter group one after another into one tensor, and each process steps an equal part
of that. So the optimizer's parameters are these parts, one for each group, and the model's are views that DeepSpeed
writes into after a step. Like `ShardedLoss`, this needs optimizers that step each number by itself.

It computes in float32; autocast around the models makes 16 bits of it, as elsewhere. Only DeepSpeed's engine is used,
without its launcher, its configuration files and its states.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from .exchange import Learning, Loss
from .zero_memory import BUCKET

SHARED_MEMORY = "deepspeed_shm_comm"


class ZeroLoss:
    """The counterpart of `Exchange` for ZeRO. All processes create it together, and it gives them the first one's
    parameters. From here on it takes the optimizer's steps.

    optimizer: one that has taken no step, whose groups have a "name"; stage: 1 or 2.
    """

    def __init__(self, loss: Loss, optimizer: torch.optim.Optimizer, stage: int):
        self._loss, self._optimizer, self._stage = loss, optimizer, stage
        self._deepspeed = imported(next(p.device for group in optimizer.param_groups for p in group["params"]))
        self._whole: dict[str, list[nn.Parameter]] = {
            group["name"]: list(group["params"]) for group in optimizer.param_groups
        }
        self._engine: Any = None
        self._limit = 0.0
        optimizer.register_step_pre_hook(self._clip_by_value)
        self._begin()

    def _begin(self) -> None:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        stage = {
            "stage": self._stage,
            "reduce_bucket_size": BUCKET,
            "allgather_bucket_size": BUCKET,
            "use_multi_rank_bucket_allreduce": False,  # which sends each gradient to all, not only to whom it is for
        }
        self._engine, *_ = self._deepspeed.initialize(
            model=Learning(self._loss, parameters),
            optimizer=self._optimizer,
            dist_init_required=False,
            config={
                "train_micro_batch_size_per_gpu": 1,  # what is in a batch is the loss's to know
                "zero_optimization": stage,
                "zero_allow_untested_optimizer": True,
                "zero_force_ds_cpu_optimizer": False,
            },
        )

    def follow(self, parameters: Sequence[nn.Parameter]) -> None:
        """Begin anew with the optimizer's groups that are left. Each is divided as before, so its state stays."""
        states = [self._optimizer.state.pop(group["params"][0], {}) for group in self._optimizer.param_groups]
        self._engine.destroy()
        self._engine = None  # its buffers go first
        for group in self._optimizer.param_groups:
            group["params"] = self._whole[group["name"]]
        self._begin()
        for group, state in zip(self._optimizer.param_groups, states, strict=True):
            self._optimizer.state[group["params"][0]] = state

    def loss(self, batch: Batch, generator: torch.Generator, is_last: bool) -> Tensor:
        """Return a batch's loss. is_last: of its step, after which gradients are complete."""
        self._engine.set_gradient_accumulation_boundary(is_last)
        return self._engine(batch, generator)

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass, with DeepSpeed's exchange in it."""
        self._engine.backward(loss)

    def finish(self) -> None:
        """After a step's last backward pass there is nothing left to do."""

    def step(self, limit: float, mode: str) -> Tensor:
        """Take a step, and return the norm of its gradients before they were clipped, a scalar on the device; if it is
        not finite, DeepSpeed has left the step out.

        limit: the largest norm, or the largest number if `mode` is "value"; 0 leaves gradients alone.
        """
        by_value = mode == "value"
        self._limit = limit if by_value else 0.0
        self._engine.optimizer.clip_grad = 0.0 if by_value else limit
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return torch.as_tensor(norm, dtype=torch.float32, device=self._engine.device)

    def _clip_by_value(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._limit:
            parts = [part for group in optimizer.param_groups for part in group["params"]]
            torch.nn.utils.clip_grad_value_(parts, self._limit)

    # --- training states

    def whole_trainer(self, trainer: dict[str, Any], parameters: Sequence[nn.Parameter], averaged: Any) -> Any:
        """Return what a training state keeps beside the weights as one process has it. All processes call it together;
        only the first one's result is whole."""
        first = torch.distributed.get_rank() == 0
        groups: list[dict[str, Any]] = []
        states: dict[int, dict[str, Any]] = {}
        place = 0
        for group, saved in zip(self._optimizer.param_groups, trainer["optimizer"]["param_groups"], strict=True):
            (part,) = group["params"]
            whole = self._whole[group["name"]]
            known = self._optimizer.state.get(part, {})
            groups.append({**saved, "params": list(range(place, place + len(whole)))})
            for parameter, start in zip(whole, starts(whole), strict=True):
                if known:
                    states[place] = {
                        key: _gathered(value, parameter, start, first) if is_part(value, part) else _copied(value)
                        for key, value in known.items()
                    }
                place += 1
        return {**trainer, "optimizer": {"state": states, "param_groups": groups}}

    def load(self, saved: dict[str, Any]) -> None:
        """Load an optimizer's whole state dict: each process takes its parts, and reads no more of it."""
        for group, given in zip(self._optimizer.param_groups, saved["param_groups"], strict=True):
            (part,) = group["params"]
            whole = self._whole[group["name"]]
            group.update({key: value for key, value in given.items() if key != "params"})
            found = [saved["state"].get(place, {}) for place in given["params"]]
            if not any(found):
                continue
            state: dict[str, Any] = {}
            for key, value in found[0].items():
                if not is_part(value, whole[0]):
                    state[key] = _copied(value)
                    continue
                state[key] = torch.zeros_like(part)
                for values, parameter, start in zip(found, whole, starts(whole), strict=True):
                    inner, outer = overlap(start, parameter.numel(), part.numel())
                    state[key][inner] = values[key].reshape(-1)[outer].to(part.device)
            self._optimizer.state[part] = state


def imported(device: torch.device) -> Any:
    """Import DeepSpeed so that it computes on this device and compiles nothing."""
    os.environ["DS_ACCELERATOR"] = device.type  # else a CPU's run would get the card of its machine
    deepspeed = importlib.import_module("deepspeed")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # On CPUs it would compile an extension by g++ when it starts, for a minute, and wait without end for a process that
    # was killed while it did
    importlib.import_module("deepspeed.ops").__compatible_ops__[SHARED_MEMORY] = False
    deepspeed.init_distributed(dist_init_required=False, verbose=False)
    return deepspeed


def starts(parameters: Sequence[nn.Parameter]) -> list[int]:
    """Return where in its group's tensor each parameter begins."""
    found = [0]
    for parameter in parameters:
        found.append(found[-1] + parameter.numel())
    return found[:-1]


def overlap(start: int, count: int, length: int) -> tuple[slice, slice]:
    """Return what this process's part, of so many numbers, has of a parameter that begins at `start` of its group:
    where in the part, and where in the parameter. Both are empty if they do not meet."""
    first = torch.distributed.get_rank() * length
    low = min(max(start, first), first + length)
    high = max(low, min(start + count, first + length))
    return slice(low - first, high - first), slice(low - start, high - start) if high > low else slice(0, 0)


def is_part(value: Any, parameter: Tensor) -> bool:
    """Whether a value of an optimizer's state is divided as its parameter is: it has its shape."""
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape == parameter.shape


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _gathered(part: Tensor, parameter: nn.Parameter, start: int, first: bool) -> Tensor:
    """Return the whole of a parameter's state, on the first process's CPU; elsewhere nothing of use."""
    whole = torch.zeros(parameter.numel(), dtype=part.dtype, device=part.device)
    inner, outer = overlap(start, parameter.numel(), part.numel())
    whole[outer] = part[inner]
    torch.distributed.all_reduce(whole)
    return whole.cpu().view(parameter.shape) if first else part
