"""Words in a LoRA's file, told by its table of contents alone."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import bundled_words
from dreambooth_ext.core.guide import completion


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
    assert bundled_words.words(table(tmp_path / "слово.safetensors", WORDS)) == ["zkq", "Two"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[1, 2]", b"3", b"[" * 100_000, b" " * (bundled_words.LARGEST + 1)]
)
def test_what_is_no_table_has_none(tmp_path, content):
    assert bundled_words.words(table(tmp_path / "a.safetensors", content)) == []


def test_what_is_no_file_has_none(tmp_path):
    assert (
        bundled_words.words(None)
        == bundled_words.words("")
        == bundled_words.words("gone.safetensors")
        == bundled_words.words("\0")
        == []
    )
    assert bundled_words.words(str(tmp_path)) == []
    (tmp_path / "short.safetensors").write_bytes(b"123")
    assert bundled_words.words(str(tmp_path / "short.safetensors")) == []
    if hasattr(os, "mkfifo"):  # opening it would wait for ever
        os.mkfifo(tmp_path / "pipe.safetensors")
        assert bundled_words.words(str(tmp_path / "pipe.safetensors")) == []


def test_the_guide_goes_on_with_them(tmp_path):
    lora = table(tmp_path / "a.safetensors", WORDS)
    config, choices = completion.fill_in(RunConfig(method="lora", network_weights=lora), 10)
    assert (config.placeholder_token, config.embedding_weights) == ("zkq, Two", f"{lora},{lora}")
    assert config.num_vectors is None and {"placeholder_token", "embedding_weights"} <= set(choices)
    config, _ = completion.fill_in(RunConfig(method="lora", network_weights=lora, placeholder_token="two"), 10)
    assert config.embedding_weights == lora
    for other in ({"placeholder_token": "zkq, new"}, {"embedding_weights": "mine.pt"}):
        config, choices = completion.fill_in(RunConfig(method="lora", network_weights=lora, **other), 10)
        assert "embedding_weights" not in choices
