"""The counting that the estimate of memory rests on: sizes of tensors, by a card's rules, without computing."""

from __future__ import annotations

import pytest
import torch

from benchmarks import activations, growth
from benchmarks.cases import CASES, LONGEST
from benchmarks.run import trainers_of
from dreambooth_ext.engine import memory_estimate
from dreambooth_ext.engine.data import latent_encoding
from dreambooth_ext.engine.models.architecture import shipped

pytestmark = pytest.mark.skipif(torch.__version__ < (2, 5), reason="its fake tensors know too little")
SMALL = {**shipped("sd1").unet, "block_out_channels": (32, 64, 64, 64), "attention_head_dim": 4, "sample_size": 16}


def numbers(config: dict) -> int:
    unet, learning = activations.make_unet(config, checkpointing=False, half=False, lora=False)
    assert len(learning) == len(list(unet.parameters()))
    return sum(parameter.numel() for parameter in learning)


def test_a_step_is_counted():
    count = numbers(SMALL)
    whole = activations.count(SMALL, 16)
    assert whole["gradients"] == 4 * count and whole["peak"] > whole["after forward"] > 0
    checkpointed = activations.count(SMALL, 16, checkpointing=True)
    assert checkpointed["after forward"] < whole["after forward"] / 2
    fused = activations.count(SMALL, 16, checkpointing=True, fused=True)
    assert fused["peak"] < checkpointed["peak"] - 2 * count
    twice = activations.count(SMALL, 16, batch=2)
    assert twice["after forward"] == pytest.approx(2 * whole["after forward"], rel=0.05)


def test_autocasts_copies_are_counted():
    """Two bytes for nearly each number, until the forward pass ends."""
    ways = {"checkpointing": True, "half": True, "fused": True}
    kept, gone = (activations.count(SMALL, 16, cache=cache, **ways)["after forward"] for cache in (True, False))
    assert 1.2 * numbers(SMALL) < kept - gone <= 2 * numbers(SMALL)


def test_norms_compute_in_float32_as_on_a_card():
    norm = torch.nn.GroupNorm(1, 4)
    inputs = torch.ones(1, 4, 2, 2, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(inputs).dtype == torch.bfloat16
        with activations.card_rules():
            assert norm(inputs).dtype == torch.float32 == torch.nn.LayerNorm(2)(inputs).dtype


def test_a_lora_keeps_its_base_in_16_bits_and_learns_little():
    counted = activations.count(SMALL, 16, half=True, lora=True)
    assert 0 < counted["gradients"] < 4 * numbers(SMALL) / 2


@pytest.mark.parametrize(
    ("encoding", "bytes_a_pixel"),
    [(True, latent_encoding.ENCODING), (False, memory_estimate.DECODING)],
    ids=["encode", "decode"],
)
def test_what_the_vae_takes_a_pixel(encoding, bytes_a_pixel):
    for resolution in (256, 512):
        counted = activations.count_vae(shipped("sd1").vae, resolution, encoding=encoding)
        assert counted["peak"] == pytest.approx(bytes_a_pixel * resolution**2, rel=0.05)


def test_all_cases_of_a_card_fit_into_eight_minutes():
    of_card = [case for case in CASES if case.device == "cuda"]
    assert all(case.seconds for case in of_card) and any(case.compiled for case in of_card)
    assert sum(case.seconds * len(trainers_of(case)) for case in of_card) <= LONGEST <= 480


def test_growth_is_drawn():
    points = [{"value": n, "step": 0.1 * n, "before": 1.0, "whole": 2.0, "peak": 1e8 * n} for n in (1, 2, 4)]
    drawn = growth.draw("train_batch_size", points, "batch")
    assert set(drawn) == {"time", "memory"} and all(text.count("<path") for text in drawn.values())
    assert "the whole run" in growth.draw("max_train_steps", points, "steps")["time"]
