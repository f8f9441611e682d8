"""The shown caption is the trained one: tokens as CLIPTokenizer's, texts as the dataset's, the cut as the encoder's."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from dreambooth_ext.core.captions.as_trained import Preview
from dreambooth_ext.core.captions.clip_vocabulary import BUNDLED, VOCABULARIES
from dreambooth_ext.core.captions.variation import PythonDraw, trained_text
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.engine.conditioning.learned_tokens import Embeddings
from dreambooth_ext.engine.conditioning.text_encoding import TextStack
from dreambooth_ext.engine.models.families import SD1

from .test_dataset import dataset, draw

LONG = "a red sofa, evening light, " * 30
CAPTIONS = {
    "1.png": "red sofa, evening, tree",
    "2.png": LONG,
    "3.png": "",
    "4.png": "portrait of zkz, outdoors, rain",
    "5.png": "ein Bär mit Hut, é, 日本, it's 1999!",
}


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(str(BUNDLED / "vocab.json"), str(BUNDLED / "merges.txt"))


@settings(max_examples=1500, deadline=None)
@given(st.text(max_size=40) | st.text("abc ABC'.,!?12éÉßİΣσ日本ПриветÅ😀\u200b\u0301\u0308\t\nstrevmld", max_size=40))
@example("it's we've I'LL <x> (a:1.2) don't")
def test_tokens_are_those_of_training(tokenizer, text):
    if "<|" in text:
        return
    found = VOCABULARIES.of().tokens(text)
    assert [token.number for token in found] == tokenizer(text, add_special_tokens=False).input_ids
    assert all(0 <= token.start < token.end <= len(text) for token in found)
    assert [token.text for token in found] == tokenizer.tokenize(text)


@pytest.fixture
def pictures(tmp_path):
    for number, (name, text) in enumerate(CAPTIONS.items()):
        draw(tmp_path / "pictures" / name, number)
        if text:
            (tmp_path / "pictures" / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    return str(tmp_path / "pictures")


RUNS = [
    {"instance_prompt": "a photo of zkz person", "use_captions": True},
    {"instance_prompt": "a photo of zkz person"},
    {"instance_prompt": "[filewords], by zkz", "shuffle_tags": True, "keep_tokens": 1},
    {"instance_prompt": "zkz", "use_captions": True, "tag_dropout": 0.5, "caption_dropout": 0.3, "shuffle_tags": True},
    {"method": "textual_inversion", "placeholder_token": "zkz", "prompt_template": "style", "num_vectors": 5,
     "use_captions": True},
]  # fmt: skip


@pytest.mark.parametrize("values", RUNS)
def test_shown_texts_are_those_that_the_dataset_delivers(pictures, values):
    config = RunConfig(instance_data_dir=pictures, resolution=64, cache_latents=False, **values)
    made = dataset(config)
    preview = Preview(config, Subjects.of(config), VOCABULARIES.of())
    delivered: dict[str, set[str]] = {}
    for step in range(400):
        for batch in made.batches(step):
            for key, caption in zip(batch.keys, batch.captions, strict=True):
                delivered.setdefault(key, set()).add(caption)
    entries = picture_entries.entries(config)[0]
    for entry in entries:
        shown = preview.of(entry)
        known = delivered[str(entry.path)]
        if len(known) == 1:
            assert (shown["text"], shown["examples"]) == (known.copy().pop(), [])
        if entry.path.name not in ("2.png", "5.png"):  # they have more orders than can be tried
            draws = [PythonDraw(number) for number in range(3000)]
            pool = {trained_text(entry, preview.variations[0], one.below(10**6) / 10**6, one) for one in draws}
            assert {one["text"] for one in shown["examples"]} <= pool
            assert known <= pool
        pieces = [shown["text"][one["from"] : one["to"]] for one in shown["spans"]]
        assert "".join(pieces) == shown["text"]


def test_spans_tell_prompt_and_tags_apart(pictures):
    config = RunConfig(instance_data_dir=pictures, instance_prompt="a photo of zkz person", use_captions=True)

    def shown(number: int, **values) -> list[tuple[str, str]]:
        changed = RunConfig(**{**config.as_dict(), **values})
        entry = picture_entries.entries(changed)[0][number]
        known = Preview(changed, Subjects.of(changed), VOCABULARIES.of()).of(entry)
        return [(one["kind"], known["text"][one["from"] : one["to"]]) for one in known["spans"]]

    assert shown(0) == [("prompt", "a photo of zkz person, "), ("caption", CAPTIONS["1.png"])]
    assert shown(2) == [("prompt", "a photo of zkz person")]
    assert shown(3) == [("caption", CAPTIONS["4.png"])]
    assert shown(0, shuffle_tags=True, keep_tokens=2) == [
        ("kept", "a photo of zkz person, red sofa"),
        ("loose", ", evening, tree"),
    ]


@pytest.mark.parametrize("most", [75, 150])
def test_the_cut_is_where_the_text_encoder_stops(pictures, tokenizer, most):
    config = RunConfig(
        instance_data_dir=pictures, instance_prompt="a photo of zkz", use_captions=True, max_token_length=most
    )
    preview = Preview(config, Subjects.of(config), VOCABULARIES.of())
    tokenizer.add_special_tokens({"pad_token": "<|endoftext|>"})
    stack = TextStack.__new__(TextStack)
    stack.tokenizers, stack.max_tokens, stack.embeddings, stack.form = [tokenizer], most, Embeddings([tokenizer]), SD1
    cut = 0
    for entry in picture_entries.entries(config)[0]:
        shown = preview.of(entry)
        text = shown["text"]
        assert shown["count"] == stack.count(text) == len(shown["tokens"])
        read = [n for n in stack.tokens([text])[0].flatten().tolist() if n not in (49406, 49407)]
        assert read == tokenizer(text[: shown["read"]], add_special_tokens=False).input_ids
        assert (shown["read"] < len(text)) == (shown["count"] > most) == bool(stack.cuts([text]))
        cut += shown["count"] > most
    assert cut == 1


def test_a_trained_word_counts_with_its_vectors(pictures):
    config = RunConfig(
        method="textual_inversion", placeholder_token="zkzword", num_vectors=74, instance_data_dir=pictures
    )
    preview = Preview(config, Subjects.of(config), VOCABULARIES.of())
    assert preview.counted("by zkzword").as_dict() == {
        "text": "by zkzword", "count": 75, "read": 10, "tokens": [[0, 2], [3, 10]]
    }  # fmt: skip
    assert preview.counted("art by zkzword tree").read == len("art by")
