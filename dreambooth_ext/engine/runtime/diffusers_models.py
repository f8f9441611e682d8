"""Import diffusers' models quickly: without optional packages and parts of PyTorch that are not used here.

This saves more than half of the time of each start. Everything in diffusers that defines or imports models is imported
from this module.
"""

from __future__ import annotations

import torch

from .left_out import left_out, uncompiled

with left_out():
    import diffusers.utils
    from diffusers.utils import import_utils

    import_utils._bitsandbytes_available = (
        False  # quantised weights; imports torch's compiler. Our optimizers import it
    )
    import_utils._peft_available = False  # for adapters; it imports half of transformers
    diffusers.utils.USE_PEFT_BACKEND = False  # and bitsandbytes, at a UNet's first step

    import diffusers.hooks  # each `.to` of a model does
    from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
    from diffusers.models.attention_processor import Attention, AttnProcessor
    from diffusers.training_utils import EMAModel
    from transformers import CLIPTextModel  # noqa: F401 - here, for its sake

uncompiled(torch.optim.Optimizer)  # gradient checkpointing imports the compiler all the same

__all__ = ["Attention", "AttnProcessor", "AutoencoderKL", "EMAModel", "UNet2DConditionModel", "UNet2DModel"]
