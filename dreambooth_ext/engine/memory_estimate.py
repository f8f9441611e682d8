"""What a run takes of its device's memory at the peak, before anything is loaded.

What activations take was counted on full-size models (benchmarks/activations.py), on a card with mixed precision
where nothing else is said; GB are 10^9 bytes.
"""

from __future__ import annotations

from ..core.config.stages import ResolvedConfig
from ..core.data.concepts import Subjects
from ..core.facts.methods import PROMPTED_METHODS
from ..core.facts.optimizer_facts import state_bytes
from .data.latent_encoding import ENCODING, pixels_at_once
from .methods import METHODS
from .models.base import Base
from .optimization.fused_backward import is_possible
from .training.footprint import Footprint
from .training.pixel_backbone import PIXELS_AT_ONCE

# Of what a forward pass keeps in float32: mixed precision, in which a card computes norms in float32. SD 1.5's UNet
# keeps 1.26 of 1.85 GB, SDXL's 8.5 of 13.5.
HALF, HALF_ON_CPU = 0.68, 0.5
LEFT = 0.3  # of it, when the last gradients come
DECODING = 3072  # bytes a pixel: the VAE draws in float32, picture by picture
DRAWN = 0.16  # of what the UNet keeps for a picture in training: what an unconditional one takes to draw it
# Bytes for each weight that learns in a pass of mixed precision, of its 16-bit copy: without checkpoints all stay until
# the backward pass; with them, those of the few layers that none encloses. autocast keeps a hypernetwork's.
COPIES, COPIES_BESIDE_CHECKPOINTS = 2, 0.25
PROCESS = 0.7e9  # bytes for Python, PyTorch and its libraries; on a card, for its libraries' work spaces


def estimate(config: ResolvedConfig, base: Base, subjects: Subjects, draws: bool) -> int:
    """Bytes of device memory at the peak of a resolved config's run, over its stages: what one has taken, the next one
    can have. draws: whether class pictures are still to be drawn."""
    part = METHODS[config.method].share(config, base)
    learning = part.learning * (4 + state_bytes(config.optimizer, config.optimizer_args))
    held = part.frozen + learning + (4 * part.unet if config.use_ema else 0)
    vae = 4 * base.parameter_counts()["vae"]
    held += (0 if config.cache_latents else vae) + _texts_that_stay(config, base, subjects)
    peaks = [held + _step(config, base, part)]
    if vae:
        encoding = ENCODING * pixels_at_once(config.device, config.resolution**2)
        peaks.append(vae + encoding if config.cache_latents else held + encoding)
    if config.validation_prompts or (config.validation_steps and not vae):
        peaks.append(held + _drawing(config, base))  # between two steps there are no gradients
    if draws:
        peaks.append(_class_pictures(config, base))
    return int(max(peaks) + PROCESS)


def _texts_that_stay(config: ResolvedConfig, base: Base, subjects: Subjects) -> int:
    """Bytes of text encoders that never learn and cannot leave: the tags of captions are other ones each time."""
    varies = config.method in PROMPTED_METHODS and any(c.variation.varies_tags for c in subjects.concepts)
    if not varies or config.text_encoder_steps or config.placeholder_token:  # those are counted where they learn
        return 0
    return (4 if config.mixed_precision == "no" else 2) * base.parameter_counts()["text_encoders"]


def _step(config: ResolvedConfig, base: Base, part: Footprint) -> float:
    """Bytes at a step's peak: before the backward pass, or with all gradients at its end."""
    kept, copies = _activations(config, base, part), 0.0
    if config.mixed_precision != "no":
        kept *= HALF_ON_CPU if config.device == "cpu" else HALF
        beside = config.gradient_checkpointing and config.method != "hypernetwork"
        copies = part.learning * (COPIES_BESIDE_CHECKPOINTS if beside else COPIES)
    parts = config.enable_bucket and config.with_prior_preservation  # then a step may take two backward passes
    gradients = 0 if is_possible(config) and not parts else 4 * part.learning
    return max(kept + copies, gradients + LEFT * kept)


def _activations(config: ResolvedConfig, base: Base, part: Footprint) -> float:
    """Bytes that the forward pass keeps for the backward one, in float32; with checkpoints what both take at the most.

    It goes by the UNet's pixels: the base knows how much it is for 64 x 64 of them.
    """
    side = config.resolution / base.factor / 64
    area = config.train_batch_size * side**2 * (2 if config.with_prior_preservation else 1)
    if config.gradient_checkpointing:
        return area * base.activations * base.checkpointed
    return area * base.activations + part.written_out


def _drawing(config: ResolvedConfig, base: Base) -> float:
    """Bytes that previews take beside the models that train."""
    vae = 4 * base.parameter_counts()["vae"]
    if vae:
        return vae + DECODING * config.resolution**2
    at_once = min(config.validation_num_images, max(1, PIXELS_AT_ONCE // config.resolution**2))
    return DRAWN * at_once * (config.resolution / 64) ** 2 * base.activations


def _class_pictures(config: ResolvedConfig, base: Base) -> float:
    """Bytes of the base that draws them, before anything else is loaded."""
    counts = base.parameter_counts()
    unet = 4 if config.device == "cpu" else 2
    return unet * counts["unet"] + 4 * counts["text_encoders"] + _drawing(config, base)
