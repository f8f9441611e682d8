"""What a run takes of a card's memory, counted stage by stage without computing: `python -m benchmarks.count CASE`.

The engine's own code goes over full-size models of fake tensors (fake_card.py), by a card's rules: weights, gradients,
optimizer states, activations, copies that autocast makes. The estimate of a run's memory (engine/memory_estimate.py)
and what the plan chooses for a card rest on these numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import AutocastKwargs
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.facts.methods import FROZEN_METHODS
from dreambooth_ext.engine import memory_estimate
from dreambooth_ext.engine.conditioning.text_encoding import TextStack
from dreambooth_ext.engine.data import latent_encoding
from dreambooth_ext.engine.data.batch import Batch
from dreambooth_ext.engine.methods import METHODS
from dreambooth_ext.engine.models.base import Base
from dreambooth_ext.engine.models.base_model import LatentBase
from dreambooth_ext.engine.models.unconditional_base import open_pixels
from dreambooth_ext.engine.quantisation.precision import COMPUTED
from dreambooth_ext.engine.runtime import vae_bands
from dreambooth_ext.engine.sampling import class_images, sampler
from dreambooth_ext.engine.sampling.painter import Painter
from dreambooth_ext.engine.streaming import average, visits
from dreambooth_ext.engine.streaming.packing import Packing
from dreambooth_ext.engine.training import loop_state
from dreambooth_ext.engine.training.backbones import STARTS
from dreambooth_ext.engine.training.latent_backbone import precisions
from dreambooth_ext.engine.training.loop import Loop
from dreambooth_ext.engine.training.loss import Objective
from dreambooth_ext.engine.training.noise_processes import NOISE_PROCESSES

from . import cards
from .fake_card import Alive, fake_card, full_size

CAPTION = "a photo of sksper person"
CPU = torch.device("cpu")  # fake tensors of another device need a PyTorch that is linked with its library


def count(config: RunConfig, family: str) -> dict[str, int]:
    """Return the bytes of tensors at the peak of each stage of a run, by the names of `memory_estimate.stages`.

    config: resolved, for a card.
    """
    base, counted = base_of(config, family), {}
    with fake_card() as alive:
        if config.with_prior_preservation:
            counted["class prompts"] = peak_of(alive, partial(load_class_text, config, base), encode)
            drawing = partial(draw_class_picture, config, alive)
            counted["class pictures"] = peak_of(alive, partial(load_painter, config, base), drawing)
        if config.cache_latents:
            counted["latents"] = peak_of(alive, partial(load_vae, config, base), partial(encode_pictures, config))
        if config.method != "unconditional":
            counted["captions"] = peak_of(alive, partial(load_text, config, base), encode)
        counted |= count_training(config, base, alive)
    return counted


def base_of(config: RunConfig, family: str) -> Any:
    """Return a base of full size; the default one for an unconditional model, which has no family."""
    return open_pixels(config) if config.method == "unconditional" else full_size(family)


def peak_of(alive: Alive, load: Callable[[], Any], work: Callable[[Any], None]) -> int:
    """Return the bytes at the peak of `work`, with the models that `load` reads into the computer's memory before."""
    before, models = alive.now, load()
    gc.collect()
    alive.restart()
    with torch.no_grad():
        work(models)
    peak = alive.peak - before
    del models
    gc.collect()
    return peak


def load_class_text(config: RunConfig, base: LatentBase) -> TextStack:
    with mock.patch.object(class_images, "dtype_on", lambda device: torch.float16):
        return class_images.load_text(config, base, CPU)


def encode(text: TextStack) -> None:
    text.encode([CAPTION])


def load_painter(config: RunConfig, base: LatentBase) -> Painter:
    with mock.patch.object(class_images, "dtype_on", lambda device: torch.float16):
        return class_images.load(config, base, CPU, {CAPTION})


def draw_class_picture(config: RunConfig, alive: Alive, painter: Painter) -> None:
    @contextlib.contextmanager
    def away(model: nn.Module) -> Iterator[None]:  # fake tensors are all in one place
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        alive.now -= size
        yield
        alive.now += size

    size = {"width": config.resolution, "height": config.resolution}
    with mock.patch.object(sampler, "away", away):
        painter.paint(CAPTION, seeds=[1], steps=1, emphasis=False, **size)


def load_vae(config: RunConfig, base: LatentBase) -> nn.Module:
    return vae_bands.for_encoding(base.vae(torch.float32), config).requires_grad_(False)


def encode_pictures(config: RunConfig, vae: nn.Module) -> None:
    at_once = max(1, latent_encoding.pixels_at_once(config.device, config.resolution**2) // config.resolution**2)
    vae.encode(torch.zeros(at_once, 3, config.resolution, config.resolution))


def load_text(config: RunConfig, base: LatentBase) -> TextStack:
    """Load the text encoders as `assemble` does."""
    _, of_text = precisions(config, CPU)
    dtype = of_text.layers if config.method in FROZEN_METHODS else torch.float32
    return TextStack(base.tokenizers(), base.text_encoders(of_text), base.family.text, dtype=dtype)


def count_training(config: RunConfig, base: Base, alive: Alive) -> dict[str, int]:
    """Count captions, steps and previews: what is held from one to the next counts in all of them."""
    with contextlib.ExitStack() as patches:
        for module in (visits, average):
            patches.enter_context(mock.patch.object(module, "memory_beside", free(alive, bytes_of)))
        patches.enter_context(mock.patch.object(Packing, "pieces", free(alive, pieces_of)))
        patches.enter_context(mock.patch.object(average, "is_apart", lambda device: True))
        patches.enter_context(mock.patch.object(visits, "Tensor", FakeTensor))
        return count_steps(config, base, alive)


def bytes_of(device: torch.device, size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8)


def pieces_of(packing: Packing, memory: torch.Tensor) -> list[torch.Tensor]:
    return [torch.empty_strided(place.size, place.stride, dtype=place.dtype) for place in packing.places]


def free(alive: Alive, make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose tensors take nothing: they are in the computer's memory."""

    def made(*given: Any) -> Any:
        before, peak = alive.now, alive.peak
        found = make(*given)
        alive.now, alive.peak = before, peak
        return found

    return made


def count_steps(config: RunConfig, base: Base, alive: Alive) -> dict[str, int]:
    counted = {}
    for state in (AcceleratorState, PartialState):
        state._reset_state()
    handlers = [AutocastKwargs(cache_enabled=config.method == "hypernetwork")]
    accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=True, kwargs_handlers=handlers)
    dataset = mock.Mock(cached=config.cache_latents, scaling_factor=base.scaling_factor, reads_files=False)
    dataset.all_captions.return_value, dataset.fill.return_value, dataset.held = [CAPTION], (), []
    alive.restart()
    backbone = STARTS[config.method].assemble(config, base, dataset, CPU, print, lambda done, total: None)
    process = NOISE_PROCESSES[base.family.noise](config, base.scheduler_config, config.prediction_type)
    method = METHODS[config.method](config, Objective(config, process), [CAPTION], None)
    method.prepare(backbone, accelerator, COMPUTED[config.mixed_precision], None, 0)
    state = loop_state.begin(config, method, dataset, accelerator, 10, None)
    state.source = mock.Mock()
    state.source.batches.side_effect = lambda *place: batches_of(config, base)
    loop = Loop(config, method, dataset, accelerator, mock.Mock(), mock.Mock(), 10, state, mock.Mock())
    for _ in range(2):  # the first makes the optimizer's state
        gc.collect()
        alive.restart()
        loop._optimise(loop._accumulate())
        state.step += 1
        counted["training"] = alive.peak
    if config.validation_prompts or config.validation_steps:
        with has_vae(config, base):
            gc.collect()
            alive.restart()
            list(backbone.drawn(config, base, lambda number, total: None))  # weights beside the average's wait outside
        counted["previews"] = alive.peak
    return counted


@contextlib.contextmanager
def has_vae(config: RunConfig, base: Base) -> Iterator[None]:
    """Have the VAE that draws read before, as it is on the card: it is read into the computer's memory."""
    if not isinstance(base, LatentBase):
        yield
        return
    vae = vae_bands.for_drawing(base.vae(torch.float32), config)
    with mock.patch.object(base, "vae", lambda dtype: vae):
        yield


def batches_of(config: RunConfig, base: Base) -> list[Batch]:
    """Return what one process takes for a step: with buckets, pictures and class pictures are of different sizes."""
    parts = 2 if config.with_prior_preservation else 1
    each = parts if not config.enable_bucket else 1
    return [batch_of(config, base, config.train_batch_size * each) for _ in range(parts // each)]


def batch_of(config: RunConfig, base: Base, count: int) -> Batch:
    side = config.resolution // base.factor
    latents = None if config.method == "unconditional" else torch.zeros(count, 4, side, side)
    return Batch(
        latents,
        torch.zeros(count, 3, side, side) if latents is None else None,
        [CAPTION] * count,
        torch.zeros(count, 6),
        torch.ones(count) / count,
        [""] * count,
    )


BEFORE, HALVED, SMALLEST = {"clip_grad_mode": "previous_norm"}, {"weight_precision": "bf16"}, {"optimizer": "adafactor"}
WHOLE, BANDS, DRAWS = {"gradient_checkpointing": False}, {"vae_tiling": "on"}, {"validation_prompts": ["a house"]}
TEXTS, PRIOR = {"text_encoder_steps": 10}, {"with_prior_preservation": True}
SMALL = {**BEFORE, **HALVED, **SMALLEST, **BANDS}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sd1-full": ("Full", "sd1", {}),
    "sd1-full-before": ("Full", "sd1", BEFORE),
    "sd1-full-bf16": ("Full", "sd1", {**BEFORE, **HALVED}),
    "sd1-full-sliced": ("Full", "sd1", {**BEFORE, **HALVED, "optimizer": "sgd"}),
    "sd1-full-smallest": ("Full", "sd1", {**SMALL, **DRAWS, **PRIOR}),
    "sd1-full-whole": ("Full", "sd1", {**BEFORE, **HALVED, **WHOLE}),
    "gpu-sd1-512-text": ("Full", "sd1", TEXTS),
    "gpu-sd1-512-text-batch-4": ("Full", "sd1", {**TEXTS, "train_batch_size": 4}),
    "sd1-full-accumulated": ("Full", "sd1", {"gradient_accumulation_steps": 2}),
    "sd1-full-buckets": ("Full", "sd1", {**BEFORE, **HALVED, **PRIOR, "enable_bucket": True}),
    "sd1-lora": ("LoRA, rank 16", "sd1", {**DRAWS, **PRIOR}),
    "sd1-lora-whole": ("LoRA, rank 16", "sd1", WHOLE),
    "sd1-loha-whole": ("LoRA, rank 16", "sd1", {**WHOLE, "network_type": "loha"}),
    "sd1-lora-text": ("LoRA, rank 16", "sd1", TEXTS),
    "sd1-lora-int8": ("LoRA, rank 16", "sd1", {"frozen_precision": "int8", **BANDS, **DRAWS}),
    "sd1-lora-nf4": ("LoRA, rank 16", "sd1", {"frozen_precision": "nf4", **BANDS}),
    "sd1-word": ("Word", "sd1", {}),
    "sd1-hypernetwork": ("Hypernetwork", "sd1", {}),
    "sd2-full-smallest": ("Full", "sd2", SMALL),
    "sd2-lora": ("LoRA, rank 16", "sd2", {}),
    "sd1-finetune-batch-4": ("Full", "sd1", {"method": "finetune", "train_batch_size": 4}),
    "sd1-average": ("Full", "sd1", {**BEFORE, "use_ema": True, **DRAWS}),
    "sd1-full-varied": ("Full", "sd1", {**BEFORE, "use_captions": True, "shuffle_tags": True}),
    "sdxl-full-half": ("Full", "sdxl", {**BEFORE, **HALVED, **SMALLEST, "offload": "0.5"}),
    "sdxl-full-streamed": ("Full", "sdxl", {**BEFORE, **BANDS, "offload": "1"}),
    "sdxl-lora-streamed": ("LoRA, rank 16", "sdxl", {**BANDS, "offload": "1"}),
    "gpu-sdxl-1024": ("Full", "sdxl", {}),
    "sdxl-full-before": ("Full", "sdxl", BEFORE),
    "sdxl-full-bf16": ("Full", "sdxl", {**BEFORE, **HALVED}),
    "sdxl-full-smallest": ("Full", "sdxl", {**SMALL, **DRAWS, **PRIOR}),
    "sdxl-lora-text": ("LoRA, rank 16", "sdxl", {**TEXTS, "rank": 128}),
    "sdxl-lora": ("LoRA, rank 16", "sdxl", {**DRAWS, **PRIOR}),
    "sdxl-lora-whole": ("LoRA, rank 16", "sdxl", WHOLE),
    "sdxl-lora-int8": ("LoRA, rank 16", "sdxl", {"frozen_precision": "int8", **BANDS, **DRAWS}),
    "sdxl-lora-int8-small": (
        "LoRA, rank 16",
        "sdxl",
        {"frozen_precision": "int8", "optimizer": "adamw8bit", **BANDS},
    ),
    "sdxl-lora-nf4": ("LoRA, rank 16", "sdxl", {"frozen_precision": "nf4", **BANDS}),
    "sdxl-word": ("Word", "sdxl", {}),
    "sdxl-hypernetwork": ("Hypernetwork", "sdxl", {}),
    "unconditional": ("Unconditional", "", {"validation_steps": 1, "validation_num_images": 16}),
}


def compared(name: str) -> dict[str, tuple[float, float]]:
    """Return what each stage of a case takes, in bytes: counted, with the libraries' work spaces, and estimated."""
    method, family, settings = CASES[name]
    config = cards.resolved(method, family).replace(**settings)
    base = base_of(config, family)
    counted = count(config, family)
    prior = bool(config.with_prior_preservation)
    estimated = memory_estimate.stages(config, base, Subjects.of(config), draws=prior)
    return {stage: (size + memory_estimate.PROCESS, estimated[stage]) for stage, size in counted.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.count", description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", choices=[[], *CASES], help="all if none is named")
    parser.add_argument("--cards", action="store_true", help="write what the plan chooses for each card to the docs")
    given = parser.parse_args(argv)
    if given.cards:
        cards.write()
        return 0
    print("| case | stage | counted | estimated | off by |\n|---|---|---|---|---|")
    for name in given.case or CASES:
        for stage, (counted, estimated) in compared(name).items():
            off = f"{estimated / counted - 1:+.1%}"
            print(f"| {name} | {stage} | {counted / 1e9:.2f} | {estimated / 1e9:.2f} | {off} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
