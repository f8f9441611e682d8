"""Put a LoRA, an embedding or a hypernetwork into a loaded model, and take it out again to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core.errors import UserError
from ..formats import hypernetwork_file, lora_file
from ..networks import hypernetwork, lora_network
from ..networks.lora_network import TEXT_PARTS
from .painter import Painter, read_embeddings


@contextmanager
def put_into(painter: Painter, kind: str, path: Path, weight: float) -> Iterator[None]:
    """The painter draws with this file as long as the context lasts; afterwards its weights are the same as before.

    kind: "lora", "textual_inversion" or "hypernetwork". weight: of a LoRA, or a hypernetwork's strength.
    Raises UserError, naming "model", for a file that does not fit the painter's model.
    """
    put = {"lora": _put_lora, "textual_inversion": _put_embedding, "hypernetwork": _put_hypernetwork}[kind]
    with ExitStack() as undo:
        try:
            put(painter, path, weight, undo)
        except UserError as error:
            raise UserError(error.problem.code, "model", **error.problem.values) from error
        yield


def _put_lora(painter: Painter, path: Path, weight: float, undo: ExitStack) -> None:
    models = {"unet": painter.unet, **dict(zip(TEXT_PARTS, painter.text.encoders, strict=False))}
    network = lora_file.read(path, models, "lora")
    learn(painter, [], [path], undo)
    for component, made in network.items():
        for name in made:
            layer = models[component].get_submodule(name)
            kept = {key: tensor.to("cpu", copy=True) for key, tensor in layer.state_dict().items()}
            undo.callback(_restore, layer, kept)
        lora_network.merge(models[component], made, weight)


@torch.no_grad()
def _restore(layer: nn.Module, kept: Mapping[str, Tensor]) -> None:
    for key, tensor in layer.state_dict().items():
        tensor.copy_(kept[key])


def _put_embedding(painter: Painter, path: Path, weight: float, undo: ExitStack) -> None:
    learn(painter, [path], [], undo)


def _put_hypernetwork(painter: Painter, path: Path, weight: float, undo: ExitStack) -> None:
    made = hypernetwork_file.read(path, "hypernetwork").network().to(painter.unet.device).eval().requires_grad_(False)
    handles = hypernetwork.attach(painter.unet, made, weight)
    if not handles:
        raise UserError("hypernetwork.changes_nothing", "hypernetwork", file=path.name)
    for handle in handles:
        undo.callback(handle.remove)


def learn(painter: Painter, embeddings: list[Path], loras: list[Path], undo: ExitStack) -> None:
    """Know the words of these files in the place of those that the painter knows."""
    known = painter.text.embeddings.words
    painter.text.learn(read_embeddings(embeddings, painter.text, loras))
    undo.callback(painter.text.learn, known)
