"""Texts that were made to take for ever are read at once."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from transformers import CLIPTokenizer

from dreambooth_ext.core.checks import base_header
from dreambooth_ext.core.data import bundled_words
from dreambooth_ext.engine.conditioning import prompt_syntax
from dreambooth_ext.engine.conditioning.text_encoding import TextStack
from dreambooth_ext.engine.models.architecture import TOKENIZER
from dreambooth_ext.engine.models.families import FAMILIES, SD1
from dreambooth_ext.host.importers import read
from tests.bad_input.case import timed
from tests.bad_input.rows.descriptions import put
from tests.bad_input.rows.tensor_files import MANY
from tests.bad_input.table import TABLE
from tests.bad_input.verbs import CHECK_BASE


def test_spaces_in_an_imported_name_take_no_time():
    text = json.dumps({"pretrained_model_name_or_path": "a" + " " * 200_000 + "b", "unet_lr": 1e-4, "network_dim": 4})
    assert timed(lambda: read.read(text).source)


def test_a_word_without_end_takes_no_time():
    """The tokenizer's work goes by the square of a word's length."""
    tokenizer = CLIPTokenizer(*(str(TOKENIZER / name) for name in ("vocab.json", "merges.txt")))
    stack = TextStack([tokenizer], [torch.nn.Identity()], SD1.text, max_tokens=75)
    word = "".join(chr(97 + 7 * number**2 % 26) for number in range(60_000))
    assert "is cut to 75" in timed(lambda: stack.cuts([word]))[0].message
    assert stack.tokens([word]).shape == (1, 1, 77)
    for prompt in ("a photo of sksper", "x" * 200, "x" * 201, "一" * 300):
        assert stack.count(prompt) == len(tokenizer(prompt, add_special_tokens=False).input_ids) + (prompt == "x" * 201)


@pytest.mark.parametrize(
    "content", ['[1, "bundle_emb.x"]', '"bundle_emb."', '{"bundle_emb.x.y":' + "[" * 10**5, "{" + MANY[:-1]]
)
def test_words_of_a_lora_that_is_none(tmp_path, content):
    text = content.replace('"t1"', '"bundle_emb.x.y"').encode()
    path = put(tmp_path / "a.safetensors", struct.pack("<Q", len(text)) + text)
    assert timed(lambda: bundled_words.words(str(path))) == []


@pytest.mark.parametrize("text", ["(a", "a(", "\\(", "(a:1.1)", "a BREAK ", "[", "a)", " " * 9 + "b"])
def test_a_prompt_of_brackets_takes_no_time(text):
    assert timed(lambda: prompt_syntax.parse(text * (100_000 // len(text))))


@pytest.mark.parametrize("case", [case for case in TABLE if CHECK_BASE in case.verbs], ids=lambda case: case.name)
def test_a_bases_family_is_told_at_once_or_not(tmp_path, case):
    """In the host's own process, at each change of the form."""
    given = case.make(tmp_path)
    assert timed(lambda: base_header.family_of(str(given))) in ("", *FAMILIES)
