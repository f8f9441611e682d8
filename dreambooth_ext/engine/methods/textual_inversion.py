"""Textual inversion: the vectors of a few words learn, and nothing else (Gal et al. 2022, arXiv 2208.01618)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from ... import templates
from ...config import RunConfig
from ...errors import Problem, UserError
from ...files import expanded
from .. import embedding_file
from ..backbone import Backbone
from ..base import Base
from ..batch import Batch
from ..embedding_file import Stored
from ..embeddings import Embedding, initial_vectors, limit_norms, usual_norm
from ..export import PRECISIONS, Exported, export_embedding, nothing_learned
from ..objective import Objective
from ..share import Share
from .full import Weights
from .lora import halve_layers

COMPONENT = "embeddings"  # of a training state


class TextualInversion:
    """`captions`, `folder`: nothing is kept of what a text encoder makes, for it changes with the words."""

    def __init__(self, config: RunConfig, objective: Objective, captions: list[str] | None, folder: Path):
        self.config = config
        self.objective = objective
        self.backbone: Backbone
        self.words: list[Embedding] = []
        self._before: list[list[Tensor]] = []  # the vectors that the words began with
        self._steps: list[int] = []  # that the words had been trained for before this run
        self._longest: list[float] = []  # length of a vector, for each text encoder
        self._step = 0

    @staticmethod
    def problems(config: RunConfig, base: Base) -> list[Problem]:
        found, wanted = [], widths(base)
        for path in map(expanded, templates.continued(config)):
            try:
                embedding_file.check_widths(_read(path), path, wanted, "embedding_weights")
            except UserError as error:
                found.append(error.problem)
        for text in templates.initial_words(config) if not config.embedding_weights else []:
            if not base.tokenizers()[0](text, add_special_tokens=False).input_ids:
                found.append(Problem("initializer_token", "has no word in it.", "Give one that the base knows."))
        return found

    @staticmethod
    def share(config: RunConfig, base: Base) -> Share:
        counts = base.parameter_counts()
        frozen = (4 if config.mixed_precision == "no" else 2) * (counts["unet"] + counts["text_encoders"])
        vectors = (config.num_vectors or 1) * max(1, len(templates.tokens(config)))
        if config.embedding_weights:
            vectors = sum(len(_read(expanded(path)).embedding) for path in templates.continued(config))
        size = vectors * sum(widths(base))
        return Share(0, size, frozen, size)

    def prepare(
        self,
        backbone: Backbone,
        accelerator: Accelerator,
        weight_dtype: torch.dtype,
        saved: Weights | None,
        step: int,
    ) -> None:
        """Give the words their vectors, as they are before `step`: rows of the vocabulary, those of files, or the
        `saved` ones of a training state."""
        self.backbone, self._step = backbone, step
        text = backbone.prompts.text
        self.words = self._begun(text)
        self._before = [[vectors.clone() for vectors in word.vectors] for word in self.words]
        self._longest = [self.config.embedding_norm * usual_norm(encoder) for encoder in text.encoders]
        for word in self.words:
            word.vectors = [nn.Parameter(vectors.to(accelerator.device)) for vectors in word.vectors]
        if saved:
            self.load_state_dict(saved)
        text.learn(self.words)
        backbone.prompts.train()
        for module in (backbone.unet.train(), *text.encoders):
            module.requires_grad_(False)
            halve_layers(module, weight_dtype)
        backbone.place(accelerator)

    def _begun(self, text) -> list[Embedding]:
        config, words = self.config, templates.tokens(self.config)
        if config.embedding_weights:
            stored = [_read(expanded(path)) for path in templates.continued(config)]
            self._steps = [each.steps for each in stored]
            return [Embedding(word, each.embedding.vectors) for word, each in zip(words, stored, strict=True)]
        self._steps = [0] * len(words)
        models = list(zip(text.tokenizers, text.encoders, strict=True))
        return [
            Embedding(word, [initial_vectors(*model, initial, config.num_vectors) for model in models])
            for word, initial in zip(words, templates.initial_words(config), strict=True)
        ]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The vectors. A weight decay would only draw them to 0."""
        return [
            {"name": "embedding", "rate": self.config.learning_rate, "params": self.averaged(), "weight_decay": 0.0}
        ]

    def averaged(self) -> list[nn.Parameter]:
        """What the moving average follows."""
        return [vectors for word in self.words for vectors in word.vectors]

    def enter(self, step: int) -> list[str]:
        """Called before each step; keeps the vectors' length within its limit. No group stops learning."""
        self._step = step
        for word in self.words if self.config.embedding_norm else []:
            for vectors, longest in zip(word.vectors, self._longest, strict=True):
                limit_norms(vectors, longest)
        return []

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The added zero gives gradients to words that were cut off with the end of a long caption."""
        untouched = sum(0 * vectors.sum() for vectors in self.averaged())
        return self.backbone.loss(self.objective, batch, generator) + untouched

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The vectors, by word and text encoder."""
        parts = ((i, k, vectors) for i, word in enumerate(self.words) for k, vectors in enumerate(word.vectors))
        return {COMPONENT: {f"{i}.{k}": vectors.detach() for i, k, vectors in parts}}

    @torch.no_grad()
    def load_state_dict(self, weights: Weights) -> None:
        for i, word in enumerate(self.words):
            for k, vectors in enumerate(word.vectors):
                vectors.copy_(weights[COMPONENT][f"{i}.{k}"])

    def about(self) -> dict[str, str]:
        """What the file says of itself beyond what every model says: see `export`, for each has its own."""
        return {}

    def export(self, base: Base, path: Path, **about: Any) -> Exported:
        """One file for a single word; else one for each, by its own name."""
        dtype = PRECISIONS[about["precision"]]
        pairs = [pair for word, old in zip(self.words, self._before, strict=True) for pair in zip(word.vectors, old)]
        if all(torch.equal(now.detach().to("cpu", dtype), before.to(dtype)) for now, before in pairs):
            raise nothing_learned(about["precision"])
        ending = path.name.removeprefix(self.config.name)  # "_<step>.pt"
        metadata, made = about.pop("metadata"), []
        for word, before in zip(self.words, self._steps, strict=True):
            steps = before + self._step
            place = path if len(self.words) == 1 else path.with_name(word.word + ending)
            own = {**metadata, embedding_file.STEPS_KEY: str(steps)}
            made.append(export_embedding(base, word.vectors, place, steps=steps, metadata=own, **about))
        # the rest are reported with the first
        made[0] = Exported(made[0].path, made[0].sha256, made[0].sidecars, tuple(made[1:]))
        return made[0]


    def carried(self, base: Base) -> PngInfo:
        """The word as text in a picture, from which WebUIs read it."""
        (word,), (before,) = self.words, self._steps
        tensors = embedding_file.state(word.vectors, torch.float32)
        content = embedding_file.pickled(tensors, word.word, before + self._step, base.path.stem, None)
        info = PngInfo()
        info.add_text(embedding_file.PNG_KEY, embedding_file.picture_text(content))
        return info


def widths(base: Base) -> list[int]:
    """Of the vectors for each of the base's text encoders."""
    return [config["hidden_size"] for config in base.architecture.text_encoders]


def _read(path: Path) -> Stored:
    return embedding_file.read(path, "embedding_weights")
