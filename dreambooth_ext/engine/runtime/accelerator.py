"""Set up accelerate for a run's process: its device, precision, and the other processes."""

from __future__ import annotations

import datetime
import os

from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, InitProcessGroupKwargs, KwargsHandler

from ...core.config.stages import ResolvedConfig
from . import distributed

PATIENCE = datetime.timedelta(days=7)  # how long other processes wait while the first one draws class pictures or saves


def make_accelerator(config: ResolvedConfig) -> Accelerator:
    """Create accelerate's Accelerator for this process and its device.

    autocast's cache would keep a 16-bit copy of every trained weight until the forward pass ends, in case it is used
    again: 1.5 GB for SD 1.5, 5 GB for SDXL. Only a hypernetwork's weights are, before each attention layer.
    """
    handlers: list[KwargsHandler] = [AutocastKwargs(cache_enabled=config.method == "hypernetwork")]
    if distributed.launched():  # each process has its own device
        handlers.append(InitProcessGroupKwargs(timeout=PATIENCE))
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)  # it would be the same for all
    else:
        os.environ["ACCELERATE_TORCH_DEVICE"] = config.device
    is_cpu = config.device == "cpu"
    return Accelerator(mixed_precision=config.mixed_precision, cpu=is_cpu, kwargs_handlers=handlers)
