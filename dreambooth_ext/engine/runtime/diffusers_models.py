"""Import diffusers' models quickly: without optional packages whose features are not used here.

This saves a quarter of the time of each start. Everything in diffusers that defines or imports models is imported from
this module.
"""

from __future__ import annotations

from diffusers.utils import import_utils

import_utils._bitsandbytes_available = False  # quantised weights; imports torch's compiler. Our optimizers import it
import_utils._peft_available = False  # for adapters; it imports half of transformers

from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel  # noqa: E402 - after the above
from diffusers.models.attention_processor import Attention, AttnProcessor  # noqa: E402
from diffusers.training_utils import EMAModel  # noqa: E402

__all__ = ["Attention", "AttnProcessor", "AutoencoderKL", "EMAModel", "UNet2DConditionModel", "UNet2DModel"]
