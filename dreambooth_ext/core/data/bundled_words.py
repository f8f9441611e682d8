"""Reads the words that a LoRA file bundles (OneTrainer's format, which the WebUI reads), without PyTorch."""

from __future__ import annotations

import struct

from ..system.files import expanded, parse_json

BUNDLE = "bundle_emb."  # begins the keys of words in a LoRA's file
LARGEST = 4 * 2**20  # bytes of a table of contents; usual are some 100 KB
MOST_TENSORS = 20_000


def words(name: str | None) -> list[str]:
    """The words in a .safetensors file, in its order; [] if the file is missing or not such a file."""
    try:
        path = expanded(name or "")
        if path.suffix.lower() != ".safetensors" or not path.is_file():
            return []
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            text = file.read(length) if length <= LARGEST else b"{}"
        is_usual = BUNDLE.encode() in text and text.count(b'"data_offsets"') <= MOST_TENSORS
        keys = parse_json(text) if is_usual else {}
    except (OSError, ValueError, struct.error):
        return []
    if not isinstance(keys, dict):
        return []
    inside = [key.removeprefix(BUNDLE).partition(".")[0] for key in keys if key.startswith(BUNDLE)]
    return list(dict.fromkeys(word for word in inside if word))
