"""Estimate a run's peak device memory, before anything is loaded.

The memory of activations was measured on full-size models (benchmarks/count.py), on a graphics card with mixed
precision unless stated otherwise; GB are 10^9 bytes.
"""

from __future__ import annotations

import torch

from ..core.checks.kept_gradients import are_freed
from ..core.config.offload import offload_share
from ..core.config.stages import ResolvedConfig
from ..core.data.concepts import Subjects
from ..core.facts.distribution import FSDP, STAGES
from ..core.facts.methods import FROZEN_METHODS, PROMPTED_METHODS, WHOLE_METHODS
from ..core.facts.optimizer_facts import optimizer_facts, state_bytes
from .data.latent_encoding import ENCODING, pixels_at_once
from .distribution import zero_memory
from .methods import METHODS
from .methods.common import frozen_text_bytes, frozen_unet_bytes
from .models.base import Base
from .models.base_model import LatentBase
from .models.unconditional_base import PixelBase
from .runtime.vae_bands import ON
from .streaming.average import CARD_BYTES, is_apart
from .streaming.units import numbers_on_card, sizes, unet_numbers
from .training.footprint import Footprint
from .training.pixel_backbone import PIXELS_AT_ONCE

# Share of float32's activations in mixed precision, in which a card computes norms in float32. SD 1.5's UNet
# keeps 1.26 of 1.85 GB, SDXL's 8.5 of 13.5.
HALF, HALF_ON_CPU = 0.68, 0.5
LEFT = 0.3  # share of the activations that is left when the last gradients are computed
DECODING = 3072  # bytes per pixel: the VAE decodes in float32, picture by picture
ENCODING_IN_BANDS, DECODING_IN_BANDS = 1025, 1283  # the same in bands (runtime/vae_bands.py), in float32
ENCODING_BANDS, DECODING_BANDS = 0.1e9, 0.14e9  # bytes that the bands themselves take
GUIDED = 540  # bytes per pixel that a UNet needs in 16 bits to draw a picture with guidance
DRAWN = 0.16  # share of a picture's activations in training that an unconditional UNet needs to draw it
# Bytes per trained weight of its 16-bit copy in mixed precision. Without gradient checkpointing all are kept until
# the backward pass; with it, only those of the few layers outside checkpoints. autocast keeps a hypernetwork's.
COPIES, COPIES_BESIDE_CHECKPOINTS = 2, 0.25
COPIED_AT_MOST = 0.26e9  # bytes of those: SDXL's UNet has more layers within checkpoints, and hardly more outside
# Bytes for the largest kernel in float32, its gradient, its update and its rounding, where weights are bf16 and the
# optimizer steps it whole. What slices take (optimization/slices.py) is less than the activations leave.
STEPPED = 0.47e9
UNITS_AT_ONCE = 4  # of a sharded model: weights, the next one's, gradients, and their buffer
PROCESS = 0.7e9  # bytes for Python, PyTorch and its libraries; on a card, for its libraries' work spaces


def estimate(config: ResolvedConfig, base: Base, subjects: Subjects, draws: bool, meanwhile: bool = False) -> int:
    """Return the bytes of device memory that a resolved config's run needs at its peak, over all its stages: memory of
    one stage is reused by the next. draws: whether class pictures are still to be drawn; meanwhile: pictures are
    encoded between steps, so that the VAE is in memory beside what trains."""
    return int(max(stages(config, base, subjects, draws, meanwhile).values()))


def stages(
    config: ResolvedConfig, base: Base, subjects: Subjects, draws: bool = False, meanwhile: bool = False
) -> dict[str, float]:
    """Return the bytes that each stage of the run needs at its peak, by name, in their order."""
    part = METHODS[config.method].share(config, base)
    each = _learning_bytes(config)
    counts = base.parameter_counts()
    vae, is_before = 4 * counts["vae"], config.cache_latents and not meanwhile
    is_sharded, share = config.distribution == FSDP, 1.0
    if is_sharded:
        share /= config.processes
    learning, stage = share * part.learning * each, STAGES.get(config.distribution)
    if stage:
        learning = zero_memory.held(part.learning, each - weight_bytes(config), config.processes)
    held = part.frozen + learning - outside(config, base)
    held += share * _average(config, part) if config.use_ema else 0
    held += gathered(config, base) if is_sharded else 0
    held += (0 if is_before else vae) + _texts_that_stay(config, base, subjects)
    found: dict[str, float] = {}
    if draws:
        found["class prompts"] = (4 if config.device == "cpu" else 2) * counts["text_encoders"]
        found["class pictures"] = _class_pictures(config, base)
    if vae:
        found["latents"] = _encoding(config) + (vae if is_before else held)
        assert isinstance(base, LatentBase), "what has a VAE has text encoders"
        found["captions"] = _text_bytes(config, base)
    gradients, after = share * weight_bytes(config) * part.learning, 0.0
    if stage:
        gradients, after = zero_memory.gradients(part.learning, stage, config.processes)
    stays = config.processes > 1 and not stage  # in buckets for their exchange; else between steps there are none
    stay = gradients if stays else 0
    found["training"] = held + max(after, stay + _step(config, base, part, 0 if stay else gradients))
    if config.validation_prompts or (config.validation_steps and not vae):
        found["previews"] = held + stay + _drawing(config, base)
    return {stage: size + PROCESS for stage, size in found.items()}


def gathered(config: ResolvedConfig, base: Base) -> int:
    """Return the bytes of what is there in full of a sharded model while a block computes: its largest unit and the
    next one, its gradients, and the buffer in which they are exchanged; and all that lies outside of units, with its
    gradients."""
    if isinstance(base, LatentBase):
        numbers = unet_numbers(base)
    else:
        assert isinstance(base, PixelBase), "there are two kinds"
        numbers = base.unet_numbers()
    units = sizes(numbers)
    alone = sum(numbers.values()) - sum(units.values())
    if config.text_encoder_steps and isinstance(base, LatentBase):
        alone += sum(text["vocab_size"] * text["hidden_size"] for text in base.architecture.text_encoders)
    return 4 * (UNITS_AT_ONCE * max(units.values(), default=0) + 2 * alone)


def weight_bytes(config: ResolvedConfig) -> int:
    """Return the bytes of a trained weight, and of its gradient."""
    return 2 if config.weight_precision == "bf16" else 4


def _average(config: ResolvedConfig, part: Footprint) -> int:
    """Return the bytes of the moving average that are on the device."""
    return min(4 * part.unet, CARD_BYTES) if is_apart(torch.device(config.device)) else 4 * part.unet


def _learning_bytes(config: ResolvedConfig) -> float:
    """Return the bytes of a trained weight and its state."""
    weight = weight_bytes(config)
    return weight + state_bytes(config.optimizer, config.optimizer_args, weight)


def outside(config: ResolvedConfig, base: Base) -> float:
    """Return the bytes of the UNet that `offload` keeps in the computer's memory."""
    share = offload_share(config.offload)
    if not share or not isinstance(base, LatentBase):
        return 0
    numbers, learns = unet_numbers(base), config.method in WHOLE_METHODS
    total = sum(numbers.values())
    away = total - numbers_on_card(numbers, share, learns)
    return away * _learning_bytes(config) if learns else away / total * frozen_unet_bytes(config, base)


def _text_bytes(config: ResolvedConfig, base: LatentBase) -> int:
    """Return the bytes of the text encoders while they encode captions."""
    count = base.parameter_counts()["text_encoders"]
    if config.method in FROZEN_METHODS and (config.text_encoder_steps or config.placeholder_token):
        return frozen_text_bytes(config, base)
    return count * (weight_bytes(config) if config.text_encoder_steps else 4 if config.mixed_precision == "no" else 2)


def _texts_that_stay(config: ResolvedConfig, base: Base, subjects: Subjects) -> int:
    """Return the bytes of frozen text encoders that have to stay in memory because captions' tags vary."""
    varies = config.method in PROMPTED_METHODS and any(c.variation.varies_tags for c in subjects.concepts)
    if not varies or config.text_encoder_steps or config.placeholder_token:  # then they are counted as trained
        return 0
    return (4 if config.mixed_precision == "no" else 2) * base.parameter_counts()["text_encoders"]


def _step(config: ResolvedConfig, base: Base, part: Footprint, gradients: float) -> float:
    """Return the bytes at a step's peak: before its last backward pass, beside the gradients of those before it, or at
    its end with all gradients. gradients: the bytes of all of them, unless they are counted elsewhere."""
    kept, copies = _activations(config, base, part), 0.0
    if config.mixed_precision != "no":
        kept *= HALF_ON_CPU if config.device == "cpu" else HALF
        beside = config.gradient_checkpointing and config.method != "hypernetwork"
        if config.weight_precision != "bf16":  # else they are in 16 bits themselves
            copies = COPIES * part.learning
            copies = min(copies, COPIES_BESIDE_CHECKPOINTS * part.learning, COPIED_AT_MOST) if beside else copies
    halves = config.enable_bucket and config.with_prior_preservation  # then a batch may take two passes, one for each
    last = kept / 2 if halves else kept
    is_whole = config.weight_precision == "bf16" and not optimizer_facts(config.optimizer).is_elementwise
    stepped = STEPPED if is_whole else 0
    if config.gradient_accumulation_steps > 1:
        return gradients + max(kept + copies, stepped + LEFT * kept)
    if halves:
        return max(kept + copies, gradients + max(last + copies, stepped + LEFT * last))
    gradients = 0 if are_freed(config) else gradients
    return max(kept + copies, max(gradients, stepped) + LEFT * kept)


def _activations(config: ResolvedConfig, base: Base, part: Footprint) -> float:
    """Return the bytes of activations kept for the backward pass, in float32; with gradient checkpointing, the peak of
    both passes.

    They scale with the UNet's pixels: the base knows the amount for 64 x 64 of them.
    """
    side = config.resolution / base.factor / 64
    area = config.train_batch_size * side**2 * (2 if config.with_prior_preservation else 1)
    if config.gradient_checkpointing:
        return area * base.activations * base.checkpointed
    return area * base.activations + part.written_out


def _encoding(config: ResolvedConfig) -> float:
    """Return the bytes that the VAE needs beside its weights to encode pictures."""
    pixels = pixels_at_once(config.device, config.resolution**2)
    return ENCODING_BANDS + ENCODING_IN_BANDS * pixels if config.vae_tiling == ON else ENCODING * pixels


def _decoding(config: ResolvedConfig, base: Base) -> float:
    """Return the bytes that the VAE needs to decode a picture, with its weights."""
    vae, pixels = 4 * base.parameter_counts()["vae"], config.resolution**2
    if config.vae_tiling != ON:
        return vae + DECODING * pixels
    halved = config.mixed_precision == "bf16"
    return (vae + DECODING_IN_BANDS * pixels) / (2 if halved else 1) + DECODING_BANDS


def _drawing(config: ResolvedConfig, base: Base) -> float:
    """Return the bytes that previews need beside the models in training."""
    if base.parameter_counts()["vae"]:
        return _decoding(config, base)
    at_once = min(config.validation_num_images, max(1, PIXELS_AT_ONCE // config.resolution**2))
    return DRAWN * at_once * (config.resolution / 64) ** 2 * base.activations


def _class_pictures(config: ResolvedConfig, base: Base) -> float:
    """Return the bytes that drawing class pictures needs, whose prompts are encoded: the UNet beside the VAE that
    decodes, or in turns with it."""
    unet = (4 if config.device == "cpu" else 2) * base.parameter_counts()["unet"]
    if config.vae_tiling != ON:
        return unet + _decoding(config, base)
    return max(unet + GUIDED * config.resolution**2, _decoding(config, base))
