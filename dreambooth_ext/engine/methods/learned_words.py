"""The words that a run trains (textual inversion): their vectors during training, and the embedding files they
become."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from ...core.config.stages import ResolvedConfig
from ...core.data import prompt_templates
from ...core.errors import Problem, UserError
from ...core.system.files import expanded
from ..conditioning.learned_tokens import Embedding, initial_vectors, limit_norms, usual_norm
from ..conditioning.text_encoding import TextStack
from ..formats import embedding_file
from ..formats.embedding_file import Stored, export_embedding
from ..formats.verified_write import PRECISIONS, Exported
from ..models.base_model import LatentBase
from ..optimization.parameter_group import ParameterGroup
from ..training.method import FileOptions

COMPONENT = "embeddings"  # of a training state


class Words:
    """The words of `config` with their vectors on `device`, registered with `text`. The vectors are new, or those of
    embedding files, or the `saved` ones of a training state."""

    def __init__(
        self, config: ResolvedConfig, text: TextStack, device: torch.device, saved: Mapping[str, Tensor] | None = None
    ):
        self.config = config
        self.words, self.steps = begun(config, text)  # steps: how long they were trained before this run
        self.before = [[vectors.clone() for vectors in word.vectors] for word in self.words]
        self.longest = [config.embedding_norm * usual_norm(encoder) for encoder in text.encoders]
        for word in self.words:
            word.vectors = [nn.Parameter(vectors.to(device)) for vectors in word.vectors]
        if saved:
            self.load(saved)
        text.learn(self.words)

    def parameters(self) -> list[nn.Parameter]:
        return [vectors for word in self.words for vectors in word.vectors]

    def group(self, rate: float | str) -> ParameterGroup:
        """Return the optimizer's parameter group. Weight decay is off, since it would only pull the vectors towards
        0."""
        return {"name": "embedding", "rate": rate, "params": self.parameters(), "weight_decay": 0.0}

    def nothing(self) -> Tensor:
        """Return a zero that depends on all vectors, so that words cut off a long caption get gradients of 0 instead of
        none."""
        return sum(0 * vectors.sum() for vectors in self.parameters())

    def freeze(self) -> None:
        """Stop training: the vectors keep their values and get no gradients."""
        for vectors in self.parameters():
            vectors.requires_grad_(False)

    def limit(self) -> None:
        """Shorten vectors that are longer than `embedding_norm` times the vocabulary's mean norm."""
        for word in self.words if self.config.embedding_norm else []:
            for vectors, longest in zip(word.vectors, self.longest, strict=True):
                limit_norms(vectors, longest)

    def state(self) -> dict[str, Tensor]:
        """Return the vectors by word and text encoder, for a training state."""
        parts = ((i, k, vectors) for i, word in enumerate(self.words) for k, vectors in enumerate(word.vectors))
        return {f"{i}.{k}": vectors.detach() for i, k, vectors in parts}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        for i, word in enumerate(self.words):
            for k, vectors in enumerate(word.vectors):
                vectors.copy_(state[f"{i}.{k}"])

    def learned(self, precision: str) -> bool:
        """Whether training has changed any vector, at the precision of a file."""
        dtype = PRECISIONS[precision]
        pairs = [
            pair
            for word, old in zip(self.words, self.before, strict=True)
            for pair in zip(word.vectors, old, strict=True)
        ]
        return not all(torch.equal(now.detach().to("cpu", dtype), before.to(dtype)) for now, before in pairs)

    def export(self, base: LatentBase, path: Path, step: int, **options: Unpack[FileOptions]) -> list[Exported]:
        """Write an embedding file per word. path: the run's model; if textual inversion trains a single word, its file
        is `path`."""
        alone = len(self.words) == 1 and self.config.method == "textual_inversion"
        ending = path.stem.removeprefix(self.config.name)  # "_<step>"
        made = []
        for word, before in zip(self.words, self.steps, strict=True):
            place = path if alone else path.with_name(f"{word.word}{ending}{path.suffix}")
            metadata = {**options["metadata"], embedding_file.STEPS_KEY: str(before + step)}
            own: FileOptions = {**options, "metadata": metadata}
            made.append(export_embedding(base, word.vectors, place, steps=before + step, **own))
        return made


def begun(config: ResolvedConfig, text: TextStack) -> tuple[list[Embedding], list[int]]:
    """Return the words with their initial vectors, and the steps that each has been trained for before."""
    words = prompt_templates.tokens(config)
    if config.embedding_weights:
        pairs = list(zip(words, stored_words(config), strict=True))
        stored = [each for _, each in pairs]
        return [Embedding(word, each.embedding.vectors) for word, each in pairs], [each.steps for each in stored]
    models = list(zip(text.tokenizers, text.encoders, strict=True))
    made = [
        Embedding(word, [initial_vectors(*model, initial, config.num_vectors or 1) for model in models])
        for word, initial in zip(words, prompt_templates.initial_words(config), strict=True)
    ]
    return made, [0] * len(made)


def size(config: ResolvedConfig, base: LatentBase) -> int:
    """Return the number of trained parameters."""
    count = (config.num_vectors or 1) * len(prompt_templates.tokens(config))
    if config.embedding_weights:
        count = sum(len(each.embedding) for each in stored_words(config))
    return count * sum(widths(base))


def problems(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
    """Return the problems of the words with this base: other widths, or an initial word without tokens."""
    found = []
    for path, word in places(config):
        try:
            embedding_file.check_widths(_read(path, word), expanded(path), widths(base), "embedding_weights")
        except UserError as error:
            found.append(error.problem)
    for text in prompt_templates.initial_words(config) if not config.embedding_weights else []:
        if not base.tokenizers()[0](text, add_special_tokens=False).input_ids:
            found.append(Problem("embedding.no_initial_word", "initializer_token"))
    return found


def widths(base: LatentBase) -> list[int]:
    """Return the width of the vectors for each of the base's text encoders."""
    return [config["hidden_size"] for config in base.architecture.text_encoders]


def places(config: ResolvedConfig) -> list[tuple[str, str]]:
    """Return the embedding file and the word of each word to continue."""
    return list(zip(prompt_templates.continued(config), prompt_templates.tokens(config), strict=False))


def stored_words(config: ResolvedConfig) -> list[Stored]:
    """Read the words to continue from their files."""
    return [_read(*place) for place in places(config)]


def _read(path: str, word: str) -> Stored:
    return embedding_file.read(expanded(path), "embedding_weights", word)
