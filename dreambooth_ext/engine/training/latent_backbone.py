"""Latent diffusion models in training: UNet, text encoders and VAE, from a batch to the UNet's loss and to previews."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.config.offload import offload_share
from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem
from ...core.facts.distribution import FSDP
from ...core.facts.methods import FROZEN_METHODS
from ..conditioning.caption_cache import CACHED_AT_MOST, Prompts
from ..conditioning.text_encoding import Conditioning, TextStack
from ..data import latent_encoding
from ..data.batch import Batch
from ..data.dataset import Dataset
from ..distribution.sharding import Shards, plain, shards_of
from ..models.base_model import LatentBase
from ..quantisation.precision import CPU, Precision, of_frozen, of_reading
from ..runtime import memory, vae_bands
from ..runtime.diffusers_models import AttnProcessor
from ..sampling.sampler import Progress, evaluating, make_sampler, sample_latents
from ..streaming.streaming import Streaming, place
from .loss import BaseTarget, Objective, predict
from .method import Drawn

CUTS_NAMED = 10  # at most so many captions that are too long


@dataclass
class LatentBackbone:
    """The parts of a latent diffusion model in training. A method trains some of them and leaves the others frozen.

    `vae` is present only if latents cannot be cached in advance: random crops, inpainting.
    """

    unet: nn.Module
    prompts: Prompts
    vae: nn.Module | None
    scaling_factor: float
    inpainting: bool
    encoding: Progress  # progress of encoding captions before the text encoders leave memory
    # makes the UNet the base's for a while, where the base's own prediction is a second target
    base_unet: Callable[[], AbstractContextManager[nn.Module]] | None = None
    frozen_unet: nn.Module | None = None  # a copy of the base's, where all of the UNet learns
    is_sharded: bool = False  # each process holds a part of what learns
    offload: float = 0.0  # share of the UNet that lives in the computer's memory
    streamings: list[Streaming] = field(default_factory=list)  # of the UNets, if it is not 0
    fill_unet: Callable[[], None] | None = None  # reads the UNet's weights, straight onto its device

    def load_unet(self) -> nn.Module:
        """Read the UNet's weights and return it; so far it has none. What can leave memory should do so before."""
        memory.release()  # text encoders that have left are in cycles of references
        if self.fill_unet:
            self.fill_unet()
        return self.unet

    def place(self, accelerator: Accelerator) -> None:
        """Move the UNet, and the text encoders if they train, to their device and set up mixed precision.

        accelerate's `prepare` would also wrap each of them for distributed training; here the loss is, as a whole
        (`distribution.exchange` says why). Where not told to place them, it imports much to ask whether it may.
        """
        for unet in filter(None, (self.unet, self.frozen_unet)):
            self.streamings += place(accelerator, unet, self.offload, self.is_sharded)
        if self.prompts.training:
            text = self.prompts.stack
            text.encoders = [
                accelerator.prepare_model(encoder, device_placement=True, evaluation_mode=True)
                for encoder in text.encoders
            ]
            if self.is_sharded:
                for encoder in text.encoders:
                    Shards(encoder, accelerator.device)

    def keep_base_unet(self) -> nn.Module:
        """Keep a copy of the UNet as it is now, for the base's own predictions. Call it before `place`."""
        self.frozen_unet = copy.deepcopy(self.unet).requires_grad_(False)
        self.base_unet = lambda: contextlib.nullcontext(self.frozen_unet)
        return self.frozen_unet

    def bare_encoders(self) -> list[nn.Module]:
        """Undo `place` for the text encoders, and return them.

        accelerate's `unwrap_model` does so, too, but first imports PyTorch's compiler to ask whether they are compiled.
        Of sharded ones each process gets all.
        """
        text = self.prompts.stack
        text.encoders = [plain(encoder) if shards_of(encoder) else encoder for encoder in text.encoders]
        for encoder in text.encoders:
            if forward := vars(encoder).pop("_original_forward", None):
                encoder.forward = forward
        return self.prompts.stack.encoders

    def freeze_text(
        self, accelerator: Accelerator, captions: Iterable[str] | None, dtype: torch.dtype, drawn: Iterable[str]
    ) -> None:
        """Encode all captions and preview prompts, then release the unwrapped text encoders (`Prompts.freeze`)."""
        # accelerate keeps every prepared model and has no call to drop a single one
        accelerator._models[:] = [model for model in accelerator._models if model is self.unet]
        self.prompts.freeze(captions, dtype, drawn, self.encoding)

    def modules(self) -> list[nn.Module]:
        """Return all models that take part in `loss`."""
        encoders = self.prompts.text.encoders if self.prompts.text else []
        return [self.unet, *([self.vae] if self.vae else []), *encoders]

    def loss(self, objective: Objective, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the batch's loss, a scalar that can be backpropagated."""
        latents_bchw, extra_bchw = self.latents(batch, generator)
        conditioning = self.prompts(batch.captions)
        return objective.loss(
            self.unet,
            latents_bchw,
            conditioning,
            batch.time_ids_b6,
            batch.weights_b,
            generator,
            extra_bchw,
            batch.masks_b1hw,
            self._base_target(batch, conditioning),
        )

    def _base_target(self, batch: Batch, conditioning: Conditioning) -> BaseTarget | None:
        if batch.base_masks_b1hw is None:
            return None
        assert self.base_unet, "the method says how its UNet becomes the base's"
        return BaseTarget(self.base_unet, self.prompts.of_base(batch.captions) or conditioning, batch.base_masks_b1hw)

    def predicted(
        self, input_bchw: Tensor, timesteps_b: Tensor, captions: Sequence[str], time_ids_b6: Tensor
    ) -> Tensor:
        """Return what the UNet predicts from noised latents, float32."""
        return predict(self.unet, input_bchw, timesteps_b, self.prompts(captions), time_ids_b6)

    def remember(self, captions: Sequence[str]) -> None:
        self.prompts.further = list(captions)

    @torch.no_grad()
    def drawn(self, config: ResolvedConfig, base: LatentBase, told: Progress) -> Iterator[Drawn]:
        """Draw every preview prompt with each of its seeds."""
        vae = vae_bands.for_drawing(base.vae(torch.float32), config).to(self.prompts.device)
        seeds = [config.validation_seed + n for n in range(config.validation_num_images)]
        wanted = [(index, prompt, seed) for index, prompt in enumerate(config.validation_prompts) for seed in seeds]
        for number, (index, prompt, seed) in enumerate(wanted, 1):
            told(number, len(wanted))
            encoders = self.prompts.text.encoders if self.prompts.text else []
            with evaluating(*encoders):
                conditioning = self.prompts.drawn([prompt])
                negative = self.prompts.negative([config.validation_negative_prompt])
            (picture,) = sample_latents(
                self.unet,
                vae,
                make_sampler(config.validation_sampler, base.scheduler_config),
                conditioning,
                negative,
                seeds=[seed],
                width=config.resolution,
                height=config.resolution,
                steps=config.validation_inference_steps,
                cfg_scale=config.validation_guidance_scale,
            )
            yield Drawn(index, prompt, seed, picture)

    def latents(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return scaled latents (b, 4, h, w), and for inpainting the UNet's extra input channels (b, 5, h, w)."""
        if batch.latents_bchw is not None:
            return batch.latents_bchw, None
        pixels_bchw = batch.pixels_bchw
        assert pixels_bchw is not None, "a batch has latents or pixels"
        latents_bchw = self._encode(pixels_bchw, generator)
        if not self.inpainting:
            return latents_bchw, None
        mask_b1hw = random_masks(len(batch), pixels_bchw.shape[-2:], generator).to(pixels_bchw)
        masked_bchw = self._encode(pixels_bchw * (mask_b1hw < 0.5), generator)
        small_b1hw = nn.functional.interpolate(mask_b1hw, size=latents_bchw.shape[-2:], mode="nearest")
        return latents_bchw, torch.cat([small_b1hw, masked_bchw], dim=1)

    @torch.no_grad()
    def _encode(self, pixels_bchw: Tensor, generator: torch.Generator) -> Tensor:
        """Sample scaled latents from the VAE's posterior. Noise is drawn on the CPU, so that it is the same on every
        machine."""
        assert self.vae is not None, "the VAE stays where pictures cannot be encoded ahead"
        moments_b2chw = latent_encoding.moments(self.vae, pixels_bchw.to(self.vae.dtype)).float()
        mean_bchw, _ = moments_b2chw.chunk(2, dim=1)
        noise_bchw = torch.randn(mean_bchw.shape, generator=generator).to(mean_bchw.device)
        return latent_encoding.sample(moments_b2chw, noise_bchw) * self.scaling_factor


def assemble(
    config: ResolvedConfig,
    base: LatentBase,
    dataset: Dataset,
    device: torch.device,
    warn: Callable[..., None],
    encoding: Progress,
) -> LatentBackbone:
    """Set up the models for training as configured, the UNet without its numbers. warn: receives captions that are too
    long; encoding: see `LatentBackbone`."""
    of_unet, of_text = precisions(config, device)
    text = TextStack(
        base.tokenizers(),
        base.text_encoders(of_text),
        base.family.text,
        clip_skip=config.clip_skip,
        max_tokens=config.max_token_length,
        dtype=of_text.layers if config.method in FROZEN_METHODS else torch.float32,
    )
    unet = base.empty_unet()
    vae = None
    if not dataset.cached:
        vae = vae_bands.for_encoding(base.vae(torch.float32), config).to(device).requires_grad_(False).eval()
    set_up(config, unet, text)
    warn_of_cuts(text, dataset.all_captions() or [], warn)
    prompts, share = Prompts(text, device), offload_share(config.offload)
    made = LatentBackbone(unet, prompts, vae, dataset.scaling_factor, base.inpainting, encoding, offload=share)
    if share:  # it lives in the computer's memory
        of_unet = dataclasses.replace(of_unet, device=CPU)
    made.fill_unet = lambda: base.fill_unet(unet, of_unet)
    if config.distribution == FSDP:  # no process ever holds all of it
        made.is_sharded = True
        made.fill_unet = lambda: base.put_unet(Shards(unet, device).put)
    return made


def precisions(config: ResolvedConfig, device: torch.device) -> tuple[Precision, Precision]:
    """Return how the UNet and the text encoders are held. What is frozen, or changed by a LoRA alone, has 16 bits in
    mixed precision, and the UNet perhaps less; what learns has 32, or 16 that are rounded at random."""
    halved, learns = config.mixed_precision != "no", bool(config.text_encoder_steps or config.placeholder_token)
    if config.method in FROZEN_METHODS:
        packed = of_frozen(config.mixed_precision, config.frozen_precision, device)
        texts = dataclasses.replace(packed, packing=None)
        return packed, of_reading(device) if halved and not learns else texts
    trained = torch.bfloat16 if config.weight_precision == "bf16" else torch.float32
    texts = trained if learns else torch.float32
    of_text = of_reading(device) if halved and not learns else Precision(texts, texts, device=device)
    return Precision(trained, trained, device=device), of_text


def warn_of_cuts(text: TextStack, captions: list[str], warn: Callable[[Problem], None]) -> None:
    """Warn of captions that are too long, the first ones by name. Only the longest captions are checked, since there
    may be any number."""
    cut = text.cuts(heapq.nlargest(CACHED_AT_MOST, captions, key=len))
    for warning in cut[:CUTS_NAMED]:
        warn(warning)
    if len(cut) > CUTS_NAMED:
        warn(Problem("training.captions_cut_more", "max_token_length", count=len(cut) - CUTS_NAMED))


def set_up(config: ResolvedConfig, unet: nn.Module, text: TextStack) -> None:
    """Apply the settings for attention and gradient checkpointing."""
    if config.attention == "xformers":
        unet.enable_xformers_memory_efficient_attention()
    elif config.attention == "eager":
        unet.set_attn_processor(AttnProcessor())
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        for encoder in text.encoders:  # reentrant checkpoints would cut the gradient of a frozen embedding's output
            encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def random_masks(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return random inpainting masks, (b, 1, h, w) of 0 and 1 (fill in): mostly boxes, sometimes the whole picture.

    Proportions follow diffusers' inpainting examples: boxes of 30 to 100 % of each side, and one time in ten
    everything.
    """
    height, width = size
    masks = torch.zeros(count, 1, height, width)
    for mask in masks:
        whole, *shares = torch.rand(5, generator=generator).tolist()
        if whole < 0.1:
            mask.fill_(1)
            continue
        box_h, box_w = (max(8, round(side * (0.3 + 0.7 * share))) for side, share in zip(size, shares[:2], strict=True))
        top, left = round((height - box_h) * shares[2]), round((width - box_w) * shares[3])
        mask[:, top : top + box_h, left : left + box_w] = 1
    return masks
