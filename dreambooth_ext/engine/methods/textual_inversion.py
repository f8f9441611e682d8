"""Textual Inversion: train only the vectors of a few words (Gal et al. 2022, arXiv 2208.01618)."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn
from typing_extensions import Unpack

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem
from ..data.batch import Batch
from ..formats import embedding_file
from ..formats.verified_write import Exported, nothing_learned
from ..models.base_model import LatentBase
from ..optimization.parameter_group import ParameterGroup
from ..training.footprint import Footprint
from ..training.latent_backbone import LatentBackbone
from ..training.loss import Objective
from ..training.method import FileOptions, Weights
from . import learned_words
from .common import frozen_text_bytes, frozen_unet_bytes
from .learned_words import COMPONENT, Words


class TextualInversionTraining:
    """Trains embedding vectors. `captions` and `folder` are unused: encoded captions change with the vectors, so none
    is cached."""

    def __init__(self, config: ResolvedConfig, objective: Objective, captions: list[str] | None, folder: Path):
        self.config = config
        self.objective = objective
        self.backbone: LatentBackbone
        self.words: Words
        self._step = 0

    @staticmethod
    def problems(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
        return learned_words.problems(config, base)

    @staticmethod
    def warnings(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
        return []

    @staticmethod
    def share(config: ResolvedConfig, base: LatentBase) -> Footprint:
        frozen = frozen_unet_bytes(config, base) + frozen_text_bytes(config, base)
        size = learned_words.size(config, base)
        return Footprint(0, size, frozen, size)

    def prepare(
        self,
        backbone: LatentBackbone,
        accelerator: Accelerator,
        weight_dtype: torch.dtype,
        saved: Weights | None,
        step: int,
    ) -> None:
        """Set up the words' vectors for `step`."""
        self.backbone, self._step = backbone, step
        text = backbone.prompts.stack
        self.words = Words(self.config, text, accelerator.device, saved[COMPONENT] if saved else None)
        backbone.prompts.train()
        for module in (backbone.load_unet().train(), *text.encoders):
            module.requires_grad_(False)
        backbone.place(accelerator)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the vectors as a parameter group."""
        return [self.words.group(self.config.learning_rate)]

    def averaged(self) -> list[nn.Parameter]:
        """Return the parameters that the moving average tracks."""
        return self.words.parameters()

    def enter(self, step: int) -> None:
        """Called before each step: limits the vectors' norms. No group stops learning."""
        self._step = step
        self.words.limit()

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.backbone.loss(self.objective, batch, generator) + self.words.nothing()

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return the vectors by word and text encoder."""
        return {COMPONENT: self.words.state()}

    def load_state_dict(self, weights: Weights) -> None:
        self.words.load(weights[COMPONENT])

    def about(self) -> dict[str, str]:
        """Return no metadata beyond what every model has; each word's file gets its own in `Words.export`."""
        return {}

    def export(self, base: LatentBase, path: Path, **options: Unpack[FileOptions]) -> Exported:
        """Write one file for a single word, or a file per word, named after it."""
        if not self.words.learned(options["precision"]):
            raise nothing_learned(options["precision"])
        first, *others = self.words.export(base, path, self._step, **options)
        return Exported(first.path, first.sha256, first.sidecars, tuple(others))

    def carried(self, base: LatentBase) -> PngInfo:
        """Return the word as text in a PNG, which WebUIs can read as an embedding."""
        (word,), (before,) = self.words.words, self.words.steps
        tensors = embedding_file.state(word.vectors, torch.float32)
        content = embedding_file.pickled(tensors, word.word, before + self._step, base.path.stem, None)
        info = PngInfo()
        info.add_text(embedding_file.PNG_KEY, embedding_file.picture_text(content))
        return info
