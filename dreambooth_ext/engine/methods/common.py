"""Helpers shared by methods: learning rates per component, preview prompts, frozen layers in half precision."""

from __future__ import annotations

import math

import torch
from torch import nn

from ...core.config.stages import ResolvedConfig
from ...core.errors import UserError
from ..conditioning.caption_cache import CACHED_AT_MOST
from ..models.base_model import LatentBase
from ..networks import lora_network
from ..quantisation.precision import frozen_bytes
from ..training.latent_backbone import LatentBackbone


def frozen_unet_bytes(config: ResolvedConfig, base: LatentBase) -> int:
    """Return the bytes that the base's UNet takes where it is frozen."""
    shapes = lora_network.shapes_of(base)["unet"]
    rest = base.parameter_counts()["unet"] - sum(map(math.prod, shapes.values()))
    return frozen_bytes(config.mixed_precision, config.frozen_precision, shapes, rest)


def frozen_text_bytes(config: ResolvedConfig, base: LatentBase) -> int:
    """Return the bytes of frozen text encoders in which adapters or words learn: in mixed precision layers have 16
    bits, and the vectors of tokens 32."""
    count = base.parameter_counts()["text_encoders"]
    if config.mixed_precision == "no":
        return 4 * count
    return 2 * count + 2 * sum(sizes["vocab_size"] * sizes["hidden_size"] for sizes in base.architecture.text_encoders)


def component_rates(config: ResolvedConfig) -> dict[str, float | str]:
    """Return the learning rate of each component."""
    second = config.text_encoder_lr if config.text_encoder_2_lr is None else config.text_encoder_2_lr
    return {"unet": config.learning_rate, "text_encoder": config.text_encoder_lr, "text_encoder_2": second}


def drawn_prompts(config: ResolvedConfig) -> list[str]:
    """Return all prompts that previews use, including the negative prompt."""
    return [*config.validation_prompts, config.validation_negative_prompt]


def halve_layers(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast frozen layers to the dtype in which mixed precision computes: the same results in half the memory. Norms and
    embeddings are kept, since they compute in float32."""
    for _, layer in lora_network.named_layers(module):
        layer.to(dtype)


def keep_base_texts(backbone: LatentBackbone, captions: list[str] | None, learns: bool) -> None:
    """Before text encoders or words learn, encode all captions for the base's own predictions. captions: as the methods
    are given them. Raises UserError if they cannot be listed or are too many."""
    if not learns:
        return
    if captions is None or len(captions) > CACHED_AT_MOST:
        raise UserError("masks.varying_texts", "masked_prior_preservation_weight")
    backbone.prompts.keep_base(captions, backbone.encoding)
