"""Prompts encode as in diffusers' own pipelines, and long ones in chunks as in the WebUI."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from dreambooth_ext.engine.conditioning.text_encoding import TextStack
from dreambooth_ext.engine.models.families import SD1, SDXL

PROMPTS = ["a photo of a cat", "", "red square, blue"]


@pytest.fixture(scope="module")
def make_tokenizer(tmp_path_factory):
    """A CLIP tokenizer of single letters: a word costs as many tokens as it has letters."""
    folder = tmp_path_factory.mktemp("tokenizer")
    letters = [chr(c) for c in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")

    def make(pad: str) -> CLIPTokenizer:
        return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token=pad, model_max_length=77)

    return make


def make_encoder(cls, width: int, tokenizer, layers: int = 4):
    torch.manual_seed(width)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return cls(config).eval()


@pytest.fixture(scope="module")
def single(make_tokenizer):
    tokenizer = make_tokenizer("<|endoftext|>")
    return tokenizer, make_encoder(CLIPTextModel, 32, tokenizer)


@pytest.fixture(scope="module")
def double(make_tokenizer):
    first, second = make_tokenizer("<|endoftext|>"), make_tokenizer("!")
    encoders = [make_encoder(CLIPTextModel, 32, first), make_encoder(CLIPTextModelWithProjection, 48, second)]
    return [first, second], encoders


def sd_pipeline(tokenizer, encoder):
    parts = dict.fromkeys(["vae", "unet", "scheduler", "safety_checker", "feature_extractor"])
    return StableDiffusionPipeline(tokenizer=tokenizer, text_encoder=encoder, requires_safety_checker=False, **parts)


@pytest.mark.parametrize("clip_skip", [None, 1, 2, 3])
@torch.no_grad()
def test_sd_encodes_as_diffusers_does(single, clip_skip):
    tokenizer, encoder = single
    skip = clip_skip - 1 if clip_skip else None  # diffusers counts the layers left out
    expected, _ = sd_pipeline(tokenizer, encoder).encode_prompt(PROMPTS, "cpu", 1, False, clip_skip=skip)
    found = TextStack([tokenizer], [encoder], SD1.text, clip_skip=clip_skip).encode(PROMPTS)
    torch.testing.assert_close(found.hidden_bsd, expected)
    assert found.pooled_bp is None


@torch.no_grad()
def test_sd2_pads_with_zero(make_tokenizer):
    tokenizer = make_tokenizer("!")
    encoder = make_encoder(CLIPTextModel, 32, tokenizer)
    expected, _ = sd_pipeline(tokenizer, encoder).encode_prompt(PROMPTS, "cpu", 1, False)
    stack = TextStack([tokenizer], [encoder], SD1.text)
    torch.testing.assert_close(stack.encode(PROMPTS).hidden_bsd, expected)
    assert stack.tokens([""])[0, 0, 2:].eq(0).all()


@torch.no_grad()
def test_sdxl_encodes_as_diffusers_does(double):
    tokenizers, encoders = double
    pipeline = StableDiffusionXLPipeline(None, *encoders, *tokenizers, unet=None, scheduler=None)
    expected, negative, pooled, negative_pooled = pipeline.encode_prompt(PROMPTS, device="cpu")
    stack = TextStack(tokenizers, encoders, SDXL.text)
    found = stack.encode(PROMPTS)
    torch.testing.assert_close(found.hidden_bsd, expected)
    torch.testing.assert_close(found.pooled_bp, pooled)
    nothing = stack.encode_negative(["", "", ""])  # SDXL's zeros for an empty negative prompt
    torch.testing.assert_close(nothing.hidden_bsd, negative)
    torch.testing.assert_close(nothing.pooled_bp, negative_pooled)
    assert stack.encode_negative(["", "dog"]).hidden_bsd[0].any()


@torch.no_grad()
def test_sdxl_clip_skip_moves_only_the_first_encoder(double):
    tokenizers, encoders = double
    usual = TextStack(tokenizers, encoders, SDXL.text).encode(PROMPTS)
    skipped = TextStack(tokenizers, encoders, SDXL.text, clip_skip=3).encode(PROMPTS)
    assert not torch.allclose(usual.hidden_bsd[..., :32], skipped.hidden_bsd[..., :32])
    assert torch.equal(usual.hidden_bsd[..., 32:], skipped.hidden_bsd[..., 32:])
    assert torch.equal(usual.pooled_bp, skipped.pooled_bp)


@torch.no_grad()
def test_long_prompts_go_in_chunks(double):
    tokenizers, encoders = double
    stack = TextStack(tokenizers, encoders, SDXL.text)
    head, tail = "a" * 75, "b" * 10
    both = stack.encode([f"{head}{tail}", "c"])
    assert both.hidden_bsd.shape == (2, 2 * 77, 80)
    # a word of 85 letters: only its last letter carries the end of a word
    ids = stack.tokens([head + tail])[0]
    assert ids[:, 0].tolist() == [tokenizers[0].bos_token_id] * 2
    assert ids[0, 76] == ids[1, 11] == tokenizers[0].eos_token_id
    first = encoders[1](stack.tokens([head + tail], 1)[:, 0], output_hidden_states=True)
    torch.testing.assert_close(both.pooled_bp[:1], first.text_embeds)
    torch.testing.assert_close(both.hidden_bsd[:1, :77, 32:], first.hidden_states[-2])
    torch.testing.assert_close(both.hidden_bsd[1:, 77:], stack.encode([""]).hidden_bsd)  # filled up with "nothing"


def test_captions_are_cut_with_a_warning(single):
    tokenizer, encoder = single
    stack = TextStack([tokenizer], [encoder], SD1.text, max_tokens=100)
    assert stack.tokens(["a" * 500]).shape == (1, 2, 77)
    assert stack.tokens(["a" * 500])[0, 1, 26] == tokenizer.eos_token_id  # 25 tokens, then the end
    warnings = stack.cuts(["a" * 500, "short", "a" * 500, "b" * 100])
    assert len(warnings) == 1 and warnings[0].code == "training.caption_cut" and "500 tokens" in warnings[0].message
    assert TextStack([tokenizer], [encoder], SD1.text).cuts(["a" * 500]) == []


def test_gradients_reach_every_encoder(double):
    tokenizers, encoders = double
    found = TextStack(tokenizers, encoders, SDXL.text).encode(["a cat"])
    (found.hidden_bsd.square().sum() + found.pooled_bp.square().sum()).backward()
    for encoder in encoders:
        assert encoder.text_model.embeddings.token_embedding.weight.grad.abs().sum() > 0
        encoder.zero_grad()


@torch.no_grad()
def test_emphasis_is_for_drawing_and_plain_text_means_the_same_with_it(double):
    tokenizers, encoders = double
    stack = TextStack(tokenizers, encoders, SDXL.text, max_tokens=75)
    plain, drawn = stack.encode(PROMPTS), stack.encode(PROMPTS, emphasis=True)
    assert torch.equal(plain.hidden_bsd, drawn.hidden_bsd) and torch.equal(plain.pooled_bp, drawn.pooled_bp)
    weighted = stack.encode(["a (cat:1.5)"], emphasis=True)
    assert not torch.equal(weighted.hidden_bsd, stack.encode(["a cat"]).hidden_bsd)
    assert torch.equal(weighted.pooled_bp, stack.encode(["a cat"]).pooled_bp)
    assert len(stack.weighted_tokens(["a" * 100])[0][0]) == 2  # no limit
    tokens, weights = stack.weighted_tokens(["a (b)", "c BREAK d"], 1)
    assert tokens.shape == weights.shape == (2, 2, 77)
    assert weights[0, 0, :4].tolist() == pytest.approx([1, 1, 1.1, 1]) and weights[0, 1].eq(1).all()
    assert torch.equal(tokens[0, 1], stack.tokens([""], 1)[0, 0])
