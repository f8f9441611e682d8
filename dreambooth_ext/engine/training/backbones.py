"""What a run starts from, and how that becomes what a method trains: one row for models of latents, one of pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...core.config.run_config import RunConfig
from ...core.facts.methods import PROMPTED_METHODS
from ..downloads.progress_thread import Fetch
from ..models.base_model import Base, open_base
from ..models.unconditional_base import open_pixels
from . import latent_backbone, pixel_backbone


@dataclass(frozen=True)
class Start:
    open: Callable[..., Any]  # config, `Fetch` or nothing -> a `Base` or `PixelBase`
    assemble: Callable[..., Any]  # config, base, dataset, device, warn, encoding -> a `Backbone` or `PixelBackbone`


def open_prompted(config: RunConfig, fetch: Fetch | None = None) -> Base:
    prediction = None if config.prediction_type == "auto" else config.prediction_type
    return open_base(config.base_model, prediction_type=prediction, fetch=fetch)


STARTS = {
    **dict.fromkeys(PROMPTED_METHODS, Start(open_prompted, latent_backbone.assemble)),
    "unconditional": Start(open_pixels, pixel_backbone.assemble),
}
