"""LoRAs with random numbers in them, for tests."""

from __future__ import annotations

import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.engine.models.base_model import LatentBase
from dreambooth_ext.engine.networks import lora_network
from dreambooth_ext.engine.networks.lora_network import TEXT_PARTS, Network

ALL = ["attention", "feed_forward", "convolutions"]


def config(kind: str = "lora", **settings) -> RunConfig:
    usual = {"rank": 4, "alpha": None if kind == "oft" else 2.0, "target_modules": ALL, "seed": 3}
    return RunConfig(method="lora", network_type=kind, **{**usual, **settings})


def models(base: LatentBase) -> dict[str, torch.nn.Module]:
    return {"unet": base.unet(), **dict(zip(TEXT_PARTS, base.text_encoders(), strict=False))}


def made(base: LatentBase, kind: str = "lora", size: float = 0.1, **settings) -> Network:
    """Adapters for all parts of a base, as after a training: no number is zero."""
    chosen = config(kind, **settings)
    parts = {name: lora_network.create(chosen, name, module) for name, module in models(base).items()}
    randomness = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for adapters in parts.values():
            for adapter in adapters.values():
                for parameter in adapter.parameters():
                    noise = torch.randn(parameter.shape, generator=randomness) * size
                    parameter.copy_(parameter * (1 + noise) if parameter.any() else noise)
    return parts
