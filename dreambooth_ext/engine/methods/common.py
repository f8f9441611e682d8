"""What several methods need: learning rates of each part, prompts of previews, frozen layers in half precision."""

from __future__ import annotations

import torch
from torch import nn

from ...core.config.stages import ResolvedConfig
from ..networks import lora_network


def component_rates(config: ResolvedConfig) -> dict[str, float | str]:
    """The learning rate of each part of a model."""
    second = config.text_encoder_lr if config.text_encoder_2_lr is None else config.text_encoder_2_lr
    return {"unet": config.learning_rate, "text_encoder": config.text_encoder_lr, "text_encoder_2": second}


def drawn_prompts(config: ResolvedConfig) -> list[str]:
    """All that previews draw."""
    return [*config.validation_prompts, config.validation_negative_prompt]


def halve_layers(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep frozen layers in the precision that they compute in under mixed precision: the same results, in half of the
    memory. Norms and embeddings stay, for they compute in float32."""
    for _, layer in lora_network.named_layers(module):
        layer.to(dtype)
