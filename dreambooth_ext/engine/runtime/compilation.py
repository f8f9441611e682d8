"""Compile the denoiser's blocks with torch.compile: fewer launches for each step, after a minute or two of compiling.

Each block is compiled by itself, for the shapes that it is called with. Blocks of one kind and shape share what was
compiled, so that a UNet takes a minute instead of ten; gradient checkpointing, which calls block by block, stays around
them; adapters are hooks within them; and no name of a weight changes. They are compiled for training alone: previews
and measurements, which have other shapes, run as written.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem, UserError
from ...core.facts.distribution import DIVIDED
from ...core.messages.message import Message, reason_of

BACKEND = "inductor"
BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock")  # diffusers' classes
SHAPES = 256  # versions of one function, of which the UNet of SDXL needs about 40; PyTorch's own limit is 8
WORTH = 2000  # steps, from which on "auto" compiles: it takes about as long as 500 steps save


def obstacle(config: ResolvedConfig) -> Message | None:
    """Return why compiling cannot work for this config on this machine, or None."""
    on_card = config.device.startswith("cuda")
    if not on_card and config.device != "cpu":
        return Message("plan.compile_device", device=config.device)
    if on_card and importlib.util.find_spec("triton") is None:
        return Message("plan.compile_triton")
    compilers = ("cl",) if sys.platform == "win32" else ("cc", "gcc", "clang", "g++")
    if not any(map(shutil.which, compilers)):
        return Message("plan.compile_compiler", names=", ".join(compilers))
    if config.offload != "off":
        return Message("plan.compile_offload")
    if config.distribution in DIVIDED:
        return Message("plan.compile_sharded")
    return None


def is_worth(config: ResolvedConfig) -> bool:
    """Whether "auto" compiles: on a card, for enough steps, all of one shape."""
    steps = config.max_train_steps or 0
    return config.device.startswith("cuda") and steps >= WORTH and not config.enable_bucket and obstacle(config) is None


def compile_blocks(unet: nn.Module, trial: Callable[[], None]) -> Problem | None:
    """Compile the blocks of a UNet, and call `trial`, which runs it forward and backward as a step does.

    Returns a warning if this fails; the UNet is then as it was. Raises UserError if the trial does.
    """
    blocks = [module for module in unet.modules() if type(module).__name__ in BLOCKS]
    dynamo: Any = importlib.import_module("torch._dynamo")
    dynamo.config.recompile_limit = max(SHAPES, dynamo.config.recompile_limit)
    dynamo.config.accumulated_recompile_limit = max(4 * SHAPES, dynamo.config.accumulated_recompile_limit)
    for block in blocks:
        vars(block)["_compiled_call_impl"] = in_training(block)
    try:
        trial()
    except UserError:
        raise
    except Exception as error:  # the compiler's, the C compiler's, Triton's: they have no common class
        for block in blocks:
            vars(block)["_compiled_call_impl"] = None
        dynamo.reset()
        why = getattr(error, "inner_exception", None) or error  # dynamo's own says only which backend failed
        return Problem("training.not_compiled", "compile", error=reason_of(why))
    return None


def in_training(block: nn.Module) -> Callable[..., Any]:
    """Return the block's call, compiled where gradients are wanted."""
    plain = block._call_impl
    compiled = torch.compile(plain, dynamic=False, backend=BACKEND)

    def called(*given: Any, **named: Any) -> Any:
        return (compiled if block.training and torch.is_grad_enabled() else plain)(*given, **named)

    return called
