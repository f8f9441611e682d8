"""diffusers' models, without the packages that their import loads for features which nothing here uses: a quarter of
the time of each start. Whatever of diffusers defines models or imports them is imported from here.
"""

from __future__ import annotations

from diffusers.utils import import_utils

import_utils._bitsandbytes_available = False  # quantized weights; it imports torch's compiler. Our optimizers import it
import_utils._peft_available = False  # its way of adapters, and with it half of transformers

from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel  # noqa: E402 - after the above
from diffusers.models.attention_processor import Attention, AttnProcessor  # noqa: E402
from diffusers.training_utils import EMAModel  # noqa: E402

__all__ = ["Attention", "AttnProcessor", "AutoencoderKL", "EMAModel", "UNet2DConditionModel", "UNet2DModel"]
