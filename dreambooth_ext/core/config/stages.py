"""What is known of a config at each stage: asked for, completed by the guide, resolved by the base and the machine.

`RunConfig` is what was asked for. Each later stage narrows the annotations of the settings that are known by then, and
refuses to be made while one of them is still open; `replace` keeps the stage.
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
_AUTOMATIC = ("prediction_type", "optimizer", "device", "mixed_precision", "attention")


@dataclass(frozen=True, kw_only=True)
class CompletedConfig(RunConfig):
    """What follows from the subject type and the number of pictures is filled in; a run keeps it in config.json."""

    learning_rate: float | str

    def __post_init__(self) -> None:
        if left := missing(self):
            raise ValueError(f"not completed: {', '.join(left)}")


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(CompletedConfig):
    """The base and the machine have answered, too. What the method has no use for is off."""

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
    """The settings that the guide always fills in and that are open here."""
    known = ("learning_rate", *(_PROMPTED if config.method in PROMPTED_METHODS else ()))
    has_length = config.max_train_steps is not None or config.num_train_epochs is not None
    return [name for name in known if getattr(config, name) is None] + ([] if has_length else ["max_train_steps"])


def asked(config: RunConfig, **changes: Any) -> RunConfig:
    """The config with changes that may open settings again."""
    return RunConfig(**_values(config) | changes)


def completed(config: RunConfig, **filled_in: Any) -> CompletedConfig:
    """With what the guide filled in. Raises ValueError where it left something open that it always fills in."""
    return CompletedConfig(**_values(config) | filled_in)


def resolved(config: CompletedConfig, **answers: Any) -> ResolvedConfig:
    """With the answers of base and machine. Raises ValueError where one is missing."""
    values = _values(config)
    off = {name: value for name, value in _OFF.items() if values[name] is None}
    return ResolvedConfig(**values | off | answers)


def _values(config: RunConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}
