"""Unconditional models in training: their loss on pixels, and their previews."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from PIL import Image
from torch import Tensor, nn

from ...core.config.offload import offload_share
from ...core.config.stages import ResolvedConfig
from ...core.errors import UserError
from ...core.facts.distribution import FSDP
from ..data.batch import Batch
from ..data.dataset import Dataset
from ..distribution.sharding import Shards, shards_of
from ..models.unconditional_base import PixelBase
from ..runtime import memory
from ..sampling.sampler import Progress, evaluating
from ..streaming.streaming import Streaming, place
from .loss import Objective, predict
from .method import Drawn

PIXELS_AT_ONCE = 16 * 64 * 64  # per batch


@dataclass
class PixelBackbone:
    """The counterpart of `LatentBackbone` without text or latents: a UNet that works on pixels in [-1, 1]."""

    unet: nn.Module
    is_sharded: bool = False  # each process holds a part of it
    offload: float = 0.0  # share of it that lives in the computer's memory
    streamings: list[Streaming] = field(default_factory=list)

    def place(self, accelerator: Accelerator) -> None:
        """Move the UNet to its device, or this process's part of it, and set up mixed precision."""
        if self.is_sharded:
            Shards(self.unet, accelerator.device)
        self.streamings += place(accelerator, self.unet, self.offload, self.is_sharded)

    def modules(self) -> list[nn.Module]:
        """Return all models that take part in `loss`."""
        return [self.unet]

    def loss(self, objective: Objective, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the batch's loss, a scalar that can be backpropagated."""
        seen = (batch.pixels_bchw, None, batch.time_ids_b6, batch.weights_b, generator)
        return objective.loss(self.unet, *seen, masks_b1hw=batch.masks_b1hw)

    def latents(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, None]:
        """Return the batch's pixels."""
        assert batch.pixels_bchw is not None, "there is no VAE"
        return batch.pixels_bchw, None

    def predicted(
        self, input_bchw: Tensor, timesteps_b: Tensor, captions: Sequence[str], time_ids_b6: Tensor
    ) -> Tensor:
        """Return what the UNet predicts from noised pixels, float32. There are no captions."""
        return predict(self.unet, input_bchw, timesteps_b, None, time_ids_b6)

    def remember(self, captions: Sequence[str]) -> None:
        """There are no text encoders."""

    def drawn(self, config: ResolvedConfig, base: PixelBase, told: Progress) -> Iterator[Drawn]:
        """Draw one preview: a grid of pictures, each with its own seed."""
        seeds = [config.validation_seed + n for n in range(config.validation_num_images)]
        scheduler = DDPMScheduler.from_config(base.scheduler_config)
        steps = config.ddpm_num_inference_steps
        pictures = sample_pixels(self.unet, scheduler, seeds, config.resolution, steps, told)
        yield Drawn(0, "", config.validation_seed, grid(pictures))


def assemble(
    config: ResolvedConfig,
    base: PixelBase,
    dataset: Dataset,
    device: torch.device,
    warn: Callable[..., None],
    encoding: Progress,
) -> PixelBackbone:
    """Set up the UNet for training as configured. There are no captions to encode or warn of."""
    unet = base.unet()
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return PixelBackbone(unet, config.distribution == FSDP, offload_share(config.offload))


@torch.no_grad()
def sample_pixels(
    unet: nn.Module,
    scheduler: DDPMScheduler,
    seeds: Sequence[int],
    size: int,
    steps: int,
    progress: Progress | None = None,
) -> list[Image.Image]:
    """Draw a square picture per seed, `size` pixels a side, as diffusers' DDPMPipeline draws it from that seed.

    Pictures are drawn in batches, smaller ones if memory runs out. Each has its own generator on the CPU, so that it
    does not depend on its batch. progress: steps done and in total, over all pictures.
    """
    pictures: list[Image.Image] = []

    def told(done: int, total: int) -> None:
        if progress:
            progress(len(pictures) * total + done, len(seeds) * total)

    at_once = max(1, PIXELS_AT_ONCE // size**2)
    halves = shards_of(unet) is None  # else the other processes wait in the passes that this one has left

    def draw(some: Sequence[int]) -> list[Image.Image]:
        return _draw(unet, scheduler, some, size, steps, told)

    for batch in memory.in_batches(draw, seeds, at_once, halves):
        pictures += batch
    return pictures


def _draw(
    unet: nn.Module, scheduler: DDPMScheduler, seeds: Sequence[int], size: int, steps: int, progress: Progress
) -> list[Image.Image]:
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    device = next(unet.parameters()).device
    shape = (3, size, size)
    pixels_bchw = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)
    scheduler.set_timesteps(steps)
    with evaluating(unet):
        for done, timestep in enumerate(scheduler.timesteps, start=1):
            output_bchw = unet(pixels_bchw, timestep).sample.float()
            pixels_bchw = scheduler.step(output_bchw, timestep, pixels_bchw, generator=generators).prev_sample
            progress(done * len(seeds), len(scheduler.timesteps))
    if not pixels_bchw.isfinite().all():
        raise UserError("training.pixels_not_finite")
    pixels_bhwc = (pixels_bchw / 2 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray((pixels_hwc * 255).round().astype(np.uint8)) for pixels_hwc in pixels_bhwc]


def grid(pictures: Sequence[Image.Image]) -> Image.Image:
    """Arrange pictures of one size row by row, in a grid that is as square as possible."""
    columns = math.ceil(math.sqrt(len(pictures)))
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(pictures) / columns) * height))
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * width, index // columns * height))
    return sheet
