"""How each method opens its base and sets it up for training: latent diffusion models, or pixel models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from ...core.config.run_config import RunConfig
from ...core.config.stages import ResolvedConfig
from ...core.facts.methods import PROMPTED_METHODS
from ..data.dataset import Dataset
from ..downloads.progress_thread import Fetch
from ..models.base import Base
from ..models.base_model import LatentBase, open_base
from ..models.unconditional_base import open_pixels
from ..sampling.sampler import Progress
from . import latent_backbone, pixel_backbone
from .method import Backbone, BaseT_contra


class Opener(Protocol):
    def __call__(self, config: RunConfig, fetch: Fetch | None = None) -> Base:
        """Open the base that a config names, or create a new one. fetch: receives the progress of a download. Raises
        UserError."""


class Assembler(Protocol[BaseT_contra]):
    def __call__(
        self,
        config: ResolvedConfig,
        base: BaseT_contra,
        dataset: Dataset,
        device: torch.device,
        warn: Callable[..., None],
        encoding: Progress,
    ) -> Backbone[BaseT_contra]:
        """Set up the base's parts for training. warn: receives captions that are too long; encoding: receives the
        progress of caption encoding."""


@dataclass(frozen=True)
class Start:
    open: Opener
    assemble: Assembler


def open_prompted(config: RunConfig, fetch: Fetch | None = None) -> LatentBase:
    prediction = None if config.prediction_type == "auto" else config.prediction_type
    return open_base(config.base_model, prediction_type=prediction, fetch=fetch)


STARTS = {
    **dict.fromkeys(PROMPTED_METHODS, Start(open_prompted, latent_backbone.assemble)),
    "unconditional": Start(open_pixels, pixel_backbone.assemble),
}
