"""Set up accelerate for a run's process: its device, precision, and the other processes."""

from __future__ import annotations

import os

from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, KwargsHandler

from ...core.config.stages import ResolvedConfig
from . import distributed, process_group


def make_accelerator(config: ResolvedConfig) -> Accelerator:
    """Create accelerate's Accelerator for this process and its device.

    autocast's cache would keep a 16-bit copy of every trained weight until the forward pass ends, in case it is used
    again: 1.5 GB for SD 1.5, 5 GB for SDXL. Only a hypernetwork's weights are, before each attention layer.
    """
    handlers: list[KwargsHandler] = [AutocastKwargs(cache_enabled=config.method == "hypernetwork")]
    if distributed.launched():
        process_group.join(config.device)
    os.environ["ACCELERATE_TORCH_DEVICE"] = config.device  # a launcher's would be the same for all processes
    is_cpu = config.device == "cpu"
    return Accelerator(mixed_precision=config.mixed_precision, cpu=is_cpu, kwargs_handlers=handlers)
