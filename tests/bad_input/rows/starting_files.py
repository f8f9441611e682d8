"""Rows: files that a run begins with, or that a picture is drawn with: LoRAs, embeddings and hypernetworks."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

from dreambooth_ext.engine.formats import embedding_file
from dreambooth_ext.engine.models.base_model import open_base
from tests import tiny
from tests.bad_input import sound
from tests.bad_input.case import Case, Verb
from tests.bad_input.sound import LAYER
from tests.bad_input.verbs import DRAW_HYPERNETWORK, DRAW_WORD, LORA_VERBS, RESIZE, WORDS, begun
from tests.engine.methods.test_hypernetwork import STATE
from tests.engine.methods.test_lora import written

LORA = sound.lora_tensors()
SMALL = {
    "linear.0.weight": torch.ones(16, 8),
    "linear.0.bias": torch.ones(16),
    "linear.1.weight": torch.ones(8, 16),
    "linear.1.bias": torch.ones(8),
}
TI = {"method": "textual_inversion", "placeholder_token": "sksper"}
HYPER = {"method": "hypernetwork"}
NEITHER = "neither a .safetensors nor a PyTorch file"
# what is in the file, the settings beside it, and what is said
FILES: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "LoRA, NaN": ("network_weights", {**LORA, f"{LAYER}.alpha": torch.tensor(torch.nan)}, {}, "invalid numbers"),
    "LoRA, sizes": ("network_weights", {**LORA, f"{LAYER}.lora_down.weight": torch.ones(2, 9)}, {}, "has another size"),
    "LoRA, spelling": (
        "network_weights",
        {**LORA, "te.lora_up.weight": torch.ones(1)},
        {},
        "in an unknown way",
    ),
    "LoRA, differences": ("network_weights", {f"{LAYER}.diff": torch.ones(64, 64, 1, 1)}, {}, "whole difference"),
    "LoRA, family": ("network_weights", "sd2", {}, "does not fit this model"),
    "LoRA, hypernetwork": ("network_weights", {16: (STATE, STATE)}, {}, "is a hypernetwork, not a LoRA"),
    "LoRA, embedding": ("network_weights", {"string_to_param": {"*": STATE}}, {}, "embedding, not a LoRA"),
    "LoRA, a list": ("network_weights", [torch.ones(2)], {}, "holds a list instead of named tensors"),
    "LoRA, rubbish": ("network_weights", b"\0" * 99, {}, NEITHER),
    "LoRA, words": (
        "network_weights",
        {**LORA, "bundle_emb.zkq.emb_params": torch.ones(1, 16) * torch.nan},
        {"placeholder_token": "zkq", "instance_prompt": "a zkq"},
        "invalid numbers",
    ),
    "word, family": ("embedding_weights", {"emb_params": torch.ones(1, 1024)}, TI, "was made for SD 2"),
    "word, LoRA": ("embedding_weights", LORA, TI, "is a LoRA, not an embedding"),
    "word, NaN": ("embedding_weights", {"emb_params": torch.ones(1, 16) * torch.nan}, TI, "invalid numbers"),
    "word, rubbish": ("embedding_weights", b"\0" * 99, TI, NEITHER),
    "hypernetwork, family": ("hypernetwork_weights", {8: (SMALL, SMALL)}, HYPER, "for contexts of"),
    "hypernetwork, LoRA": ("hypernetwork_weights", LORA, HYPER, "is a LoRA, not a hypernetwork"),
    "hypernetwork, NaN": (
        "hypernetwork_weights",
        {16: ({key: tensor * torch.nan for key, tensor in STATE.items()}, STATE)},
        HYPER,
        "holds invalid numbers",
    ),
    "hypernetwork, rubbish": ("hypernetwork_weights", b"PK\x03\x04" + b"\0" * 50, HYPER, "is damaged"),
}


def file_of(folder: Path, field: str, content: Any) -> Path:
    if content == "sd2":
        return written(folder, open_base(tiny.single_file(folder, "sd2")))
    tensors = isinstance(content, dict) and all(isinstance(tensor, torch.Tensor) for tensor in content.values())
    pickled = field == "hypernetwork_weights" or not tensors
    path = folder / ("файл.pt" if pickled else "файл.safetensors")
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif pickled:
        torch.save(content, path)
    else:
        save_file(content, path)
    return path


def carrying(text: str, size: tuple[int, int] = (8, 8)) -> Callable[[Path], Path]:
    """A picture that carries an embedding."""

    def make(folder: Path) -> Path:
        info = PngImagePlugin.PngInfo()
        info.add_text(embedding_file.PNG_KEY, base64.b64encode(text.encode()).decode())
        Image.new("1", size).save(folder / "a.png", pnginfo=info)
        return folder / "a.png"

    return make


PICTURES = {
    "of numbers": carrying('{"TORCHTENSOR": [' + "1," * 4_000_000 + "1]}"),
    "of a huge number": carrying('{"TORCHTENSOR": [' + "9" * 400 + "]}"),
    "in a huge picture": carrying("", (60_000, 5000)),
}


def making(name: str) -> Callable[[Path], Path]:
    return lambda folder: file_of(folder, *FILES[name][:2])


# Of the others, drawing and merging read the very same, or can do with them what training cannot.
DRAWN = ("LoRA, NaN", "LoRA, hypernetwork", "LoRA, rubbish")


def verbs(name: str) -> tuple[Verb, ...]:
    field, _, settings, _ = FILES[name]
    shared = {"network_weights": LORA_VERBS, "embedding_weights": (DRAW_WORD,)}.get(field, (DRAW_HYPERNETWORK,))
    if field == "network_weights" and name not in DRAWN:
        shared = (RESIZE,)
    if name == "LoRA, words":  # the guide takes the word from the same file: a run names two settings
        return shared
    return (*begun(lambda path: {"method": "lora", **settings, field: str(path)}), *shared)


CASES = [Case(name, making(name), verbs(name), field, part) for name, (field, _, _, part) in FILES.items()]
for name, make in PICTURES.items():
    CASES.append(
        Case(f"word, {name}", make, WORDS if "huge number" in name else WORDS[:1], "embedding_weights", "is damaged")
    )
