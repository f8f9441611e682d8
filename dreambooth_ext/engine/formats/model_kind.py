"""Tell what a model file is, whatever its name: a checkpoint, a LoRA, an embedding or a hypernetwork."""

from __future__ import annotations

from pathlib import Path

from ..models import detection
from ..tensors.tensor_file import container, open_tensors
from ..tensors.torch_pickle import load_pickle
from .embedding_file import is_picture

KINDS = {"kind.lora": "lora", "kind.embedding": "textual_inversion", "kind.hypernetwork": "hypernetwork"}


def kind_of_model(path: Path, field: str) -> str:
    """One of `core.facts.methods.MODEL_KINDS`' values: "checkpoint", "lora", "textual_inversion" or "hypernetwork".

    A file of another kind is called a checkpoint: whoever opens it as one says what it is instead. Raises UserError
    for a file that cannot be read.
    """
    if path.is_dir():
        return "checkpoint"
    if is_picture(path):
        return "textual_inversion"
    if container(path, field) == "pickle":
        content = load_pickle(path, field=field)
    else:
        file = open_tensors(path, field=field)
        content = dict.fromkeys(file)
        file.close()
        if len(content) == 1:  # an embedding's only tensor may have any name
            return "textual_inversion"
    found = detection.kind_of(content)
    return KINDS.get(found.code, "checkpoint") if found else "checkpoint"
