"""Let a card choose its fastest kernels, where that does not change what is asked for. On a CPU nothing is changed."""

from __future__ import annotations

import torch
from torch import nn

from ...core.config.stages import ResolvedConfig


def choose(config: ResolvedConfig) -> None:
    """Set what PyTorch may choose from, for all that this process computes.

    TF32: products of float32 with 10 bits instead of 23, which the card's tensor cores compute. In mixed precision
    little is left in float32, beside products with 8 bits (bf16). Without it (`mixed_precision` no) all products are
    asked for in float32, and stay so. Convolutions take TF32 by PyTorch's own default.

    cudnn's benchmark: each convolution is tried with every algorithm when a size first comes, and the fastest is kept.
    With aspect ratio buckets there are dozens of sizes, whose trials would take longer than they save.
    """
    if not config.device.startswith("cuda"):
        return
    torch.set_float32_matmul_precision("highest" if config.mixed_precision == "no" else "high")
    torch.backends.cudnn.benchmark = not config.enable_bucket


def order_channels_last(unet: nn.Module, device: torch.device) -> int:
    """Order the numbers of frozen convolutions in 16 bits by pixel instead of by channel; return how many were.

    Tensor cores take them so: else cudnn transposes the kernel at each call. The numbers stay the same. Kernels that
    learn are left alone: optimizers would have to keep their states in that order, and some read them as matrices.
    """
    if device.type != "cuda":
        return 0
    return sum(map(_order, (module for module in unet.modules() if isinstance(module, nn.Conv2d))))


def _order(layer: nn.Conv2d) -> bool:
    weight = layer.weight
    if type(weight) is not nn.Parameter or weight.requires_grad or weight.dtype not in (torch.float16, torch.bfloat16):
        return False
    weight.data = weight.data.to(memory_format=torch.channels_last)
    return True
