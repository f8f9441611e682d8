"""What has to hold so that models can be sharded on this machine."""

from __future__ import annotations

import torch

from ...core.checks import sharding_checks
from ...core.config.run_config import RunConfig
from ...core.errors import Problem
from ...core.facts.distribution import DDP, FSDP


def problems(config: RunConfig) -> list[Problem]:
    """Return why a config cannot be trained with sharded models here."""
    if config.distribution != FSDP:
        return []
    return sharding_checks.problems(config) or _of_machine(config.device)


def _of_machine(device: str) -> list[Problem]:
    if device.partition(":")[0] not in ("cpu", "cuda"):
        return [Problem("sharding.device", "distribution", device=device, other=DDP)]
    if not hasattr(torch.nn.utils, "clip_grads_with_norm_"):  # which came with the public fully_shard
        return [Problem("sharding.old_torch", "distribution", version=torch.__version__, other=DDP)]
    if device.startswith("cuda") and not torch.distributed.is_nccl_available():
        return [Problem("sharding.no_nccl", "distribution", other=DDP)]
    return []
