"""Several processes that train one run together, each on a card of its own: `torchrun --nproc-per-node 2 -m
dreambooth_ext.engine.worker RUN`, or `accelerate launch`. All do the same steps on different pictures; the first one
alone speaks, listens, draws and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, reduce
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem, UserError

SPLITTING = {  # by the variable in which `accelerate launch` passes it on
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_TP": "tensor parallelism",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "ParallelismConfig",
}
LAUNCHED_WITH = {  # variable: the run's own setting, and what it always is where nobody asked for anything
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("gradient_accumulation_steps", "1"),
    "ACCELERATE_MIXED_PRECISION": ("mixed_precision", "no"),
    "ACCELERATE_USE_CPU": ("device", "false"),
    "ACCELERATE_DYNAMO_BACKEND": ("", "no"),
}
NUMBERS_AT_ONCE = 32 * 2**20  # that gradients are exchanged in: few calls, and little memory beside them


def launched() -> bool:
    """Whether a launcher started this process as one of several; it says so in the environment."""
    return "LOCAL_RANK" in os.environ


def is_first() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def require_plain_launch() -> None:
    """Raise UserError where `accelerate launch` is set up to split the model: here each process holds all of it."""
    for variable, name in SPLITTING.items():
        if _is_on(variable):
            raise UserError("device.split_model", "device", name=name)


def drop_settings(config: ResolvedConfig) -> list[Problem]:
    """Take away what `accelerate launch` says of the training beside the run's own settings, which alone count.
    Returns, as warnings, what would have been otherwise."""
    found = []
    for variable, (field, usual) in LAUNCHED_WITH.items():
        value = os.environ.pop(variable, "")
        is_cpu = field == "device" and config.device == "cpu"
        if not value or is_cpu or value.lower() in (usual, str(getattr(config, field, ""))):
            continue
        known: dict[str, Any] = {"variable": variable, "value": value}
        if field:
            found.append(Problem("device.launch_ignored_for_setting", field, setting=field, **known))
        else:
            found.append(Problem("device.launch_ignored", **known))
    return found


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")


def require_one_machine() -> None:
    """Raise UserError where processes of other machines take part: they do not share the run's folder."""
    everywhere = os.environ.get("WORLD_SIZE", "1")
    if launched() and os.environ.get("LOCAL_WORLD_SIZE", everywhere) != everywhere:
        raise UserError("device.several_machines", "device")


def of_this_process(device: str) -> str:
    """The device that a process trains on, where the user's choice is `device`."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if launched() and device.startswith("cuda") else device


def average(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Put the mean of all processes' gradients in place of each one's own.

    DistributedDataParallel would do so during the backward pass, but wants every parameter to have a part in every
    loss; the text encoders' last layers have none with clip skip, or in SDXL.
    """
    for gradients in portions(p.grad for p in parameters if p.grad is not None):
        flat = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def portions(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """In order, as many at once as have NUMBERS_AT_ONCE, and of one type."""
    portion: list[Tensor] = []
    for tensor in tensors:
        if portion and (
            sum(t.numel() for t in portion) + tensor.numel() > NUMBERS_AT_ONCE or tensor.dtype != portion[0].dtype
        ):
            yield portion
            portion = []
        portion.append(tensor)
    if portion:
        yield portion


def mean(number: float, device: torch.device) -> float:
    """The mean of all processes' numbers."""
    return float(reduce(torch.tensor(number, device=device), "mean"))


def from_first(commands: list[str]) -> list[str]:
    """What the first process gives, in all of them."""
    box = [commands]
    broadcast_object_list(box)
    return box[0]
