"""What has to hold so that processes can divide a model, or what trains it, on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from shlex import quote
from typing import Any

import torch

from ...core.checks import sharding_checks
from ...core.config.run_config import RunConfig
from ...core.errors import Problem
from ...core.facts.distribution import DDP, DIVIDED, FSDP, STAGES

# DeepSpeed's version. 0.18.9 fails in its first step with PyTorch 2.13, and 0.19.0 takes steps whose gradients are not
# finite, and calls their norm -1.
TRIED = "0.19.8"


def problems(config: RunConfig) -> list[Problem]:
    """Return why a config cannot be trained here with a part in each process."""
    if config.distribution not in DIVIDED:
        return []
    return sharding_checks.problems(config) or _of_machine(config.device, config.distribution)


def _of_machine(device: str, distribution: str) -> list[Problem]:
    known: dict[str, Any] = {"distribution": distribution, "other": DDP}
    if device.partition(":")[0] not in ("cpu", "cuda"):
        return [Problem("sharding.device", "distribution", device=device, **known)]
    if distribution == FSDP and not hasattr(torch.nn.utils, "clip_grads_with_norm_"):  # it came with fully_shard
        return [Problem("sharding.old_torch", "distribution", version=torch.__version__, **known)]
    if device.startswith("cuda") and not torch.distributed.is_nccl_available():
        return [Problem("sharding.no_nccl", "distribution", **known)]
    return _of_deepspeed(known) if distribution in STAGES else []


def _of_deepspeed(known: dict[str, Any]) -> list[Problem]:
    """Return why DeepSpeed cannot be used. It is not imported: that takes seconds, and the launcher asks, too."""
    if sys.platform == "win32":
        return [Problem("sharding.zero_on_windows", "distribution", **known)]
    if importlib.util.find_spec("deepspeed") is None:
        about: dict[str, Any] = {"package": f"deepspeed=={TRIED}", "python": quote(sys.executable)}  # to be copied
        return [Problem("sharding.no_deepspeed", "distribution", **known, **about)]
    version = importlib.metadata.version("deepspeed")
    if _numbers(version) < _numbers(TRIED):
        return [Problem("sharding.old_deepspeed", "distribution", version=version, least=TRIED, **known)]
    return []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
