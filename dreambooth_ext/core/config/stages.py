"""The three stages of a config as types: asked for, completed by the guide, resolved by the base and the machine.

`RunConfig` is what was asked for. Each later stage narrows the types of the settings that are known by then, and cannot
be created while one of them is still open (None or "auto"); `replace` keeps the stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..facts.methods import PROMPTED_METHODS
from .run_config import RunConfig

# Of the methods with captions: for the others they stay open, and mean as much as being off
_PROMPTED = ("text_encoder_steps", "use_captions", "offset_noise", "with_prior_preservation")
_OFF: Mapping[str, Any] = {
    "text_encoder_lr": 0.0,
    "embedding_lr": 0.0,
    "text_encoder_steps": 0,
    "use_captions": False,
    "offset_noise": 0.0,
    "with_prior_preservation": False,
}
_AUTOMATIC = (
    *("prediction_type", "optimizer", "device", "mixed_precision", "attention"),
    *("clip_grad_mode", "weight_precision", "frozen_precision", "vae_tiling", "compile", "offload", "distribution"),
)


@dataclass(frozen=True, kw_only=True)
class CompletedConfig(RunConfig):
    """A config with everything that follows from subject type and picture count; saved as the run's config.json."""

    learning_rate: float | str

    def __post_init__(self) -> None:
        if left := missing(self):
            raise ValueError(f"not completed: {', '.join(left)}")


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(CompletedConfig):
    """A config with the answers of the base and the machine, too. Settings that the method does not use are off."""

    resolution: int
    clip_skip: int
    zero_terminal_snr: bool
    gradient_checkpointing: bool
    cache_latents: bool
    text_encoder_lr: float | str
    embedding_lr: float | str
    text_encoder_steps: int
    use_captions: bool
    offset_noise: float
    with_prior_preservation: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        left = [name for name in ResolvedConfig.__annotations__ if getattr(self, name) is None]
        if left := left + [name for name in _AUTOMATIC if getattr(self, name) == "auto"]:
            raise ValueError(f"not resolved: {', '.join(left)}")


def missing(config: RunConfig) -> list[str]:
    """The settings that the guide always fills in and that are still None here."""
    known = ("learning_rate", *(_PROMPTED if config.method in PROMPTED_METHODS else ()))
    has_length = config.max_train_steps is not None or config.num_train_epochs is not None
    return [name for name in known if getattr(config, name) is None] + ([] if has_length else ["max_train_steps"])


def asked(config: RunConfig, **changes: Any) -> RunConfig:
    """A plain `RunConfig` with changes, which may set completed settings back to None."""
    return RunConfig(**_values(config) | changes)


def completed(config: RunConfig, **filled_in: Any) -> CompletedConfig:
    """The config with the values that the guide filled in. Raises ValueError if a required one is missing."""
    return CompletedConfig(**_values(config) | filled_in)


def resolved(config: CompletedConfig, **answers: Any) -> ResolvedConfig:
    """The config with the answers of base and machine. Raises ValueError if one is missing."""
    values = _values(config)
    off = {name: value for name, value in _OFF.items() if values[name] is None}
    return ResolvedConfig(**values | off | answers)


def _values(config: RunConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}
