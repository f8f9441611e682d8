"""Words in a LoRA's file, told by its table of contents alone."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from dreambooth_ext import bundles, guide
from dreambooth_ext.config import RunConfig


def table(path: Path, content: object) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return str(path)


WORDS = {
    "bundle_emb.zkq.clip_l": {},
    "bundle_emb.zkq.clip_g": {},
    "lora_unet_a.alpha": {},
    "bundle_emb.Two.emb_params": {},
}


def test_words_are_found_in_their_order(tmp_path):
    assert bundles.words(table(tmp_path / "слово.safetensors", WORDS)) == ["zkq", "Two"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[1, 2]", b"3", b"[" * 100_000, b" " * (bundles.LARGEST + 1)]
)
def test_what_is_no_table_has_none(tmp_path, content):
    assert bundles.words(table(tmp_path / "a.safetensors", content)) == []


def test_what_is_no_file_has_none(tmp_path):
    assert bundles.words(None) == bundles.words("") == bundles.words("gone.safetensors") == bundles.words("\0") == []
    assert bundles.words(str(tmp_path)) == []
    (tmp_path / "short.safetensors").write_bytes(b"123")
    assert bundles.words(str(tmp_path / "short.safetensors")) == []
    if hasattr(os, "mkfifo"):  # opening it would wait for ever
        os.mkfifo(tmp_path / "pipe.safetensors")
        assert bundles.words(str(tmp_path / "pipe.safetensors")) == []


def test_the_guide_goes_on_with_them(tmp_path):
    lora = table(tmp_path / "a.safetensors", WORDS)
    config, choices = guide.complete(RunConfig(method="lora", network_weights=lora), 10)
    assert (config.placeholder_token, config.embedding_weights) == ("zkq, Two", f"{lora},{lora}")
    assert config.num_vectors is None and {"placeholder_token", "embedding_weights"} <= set(choices)
    config, _ = guide.complete(RunConfig(method="lora", network_weights=lora, placeholder_token="two"), 10)
    assert config.embedding_weights == lora
    for other in ({"placeholder_token": "zkq, new"}, {"embedding_weights": "mine.pt"}):
        config, choices = guide.complete(RunConfig(method="lora", network_weights=lora, **other), 10)
        assert "embedding_weights" not in choices
