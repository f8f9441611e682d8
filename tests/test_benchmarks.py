"""The counting that the estimate of memory rests on: sizes of tensors, by a card's rules, without computing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks import cards, count, growth, scale
from benchmarks.cases import CASES, LONGEST
from benchmarks.fake_card import Alive, card_rules, fake_card, full_size
from benchmarks.run import trainers_of
from dreambooth_ext.engine import memory_estimate
from dreambooth_ext.engine.data import latent_encoding
from tests.seldom import seldom

pytestmark = pytest.mark.skipif(torch.__version__ < (2, 5), reason="its fake tensors know too little")
CLOSE = 0.08  # how far the estimate may be off


def test_what_is_alive_is_counted_until_it_is_gone():
    with fake_card() as alive:
        one = torch.zeros(1000)
        assert alive.now == alive.peak == 4000
        two = one.double()
        del one
        assert alive.now == 8000 and alive.peak == 12000
        alive.restart()
        assert alive.peak == 8000 and two[0].item() == 1.0


def test_norms_compute_in_float32_as_on_a_card():
    norm = nn.GroupNorm(1, 4)
    inputs = torch.ones(1, 4, 2, 2, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(inputs).dtype == torch.bfloat16
        with card_rules():
            assert norm(inputs).dtype == torch.float32 == nn.LayerNorm(2)(inputs).dtype


@pytest.mark.parametrize(
    ("in_bands", "encodes", "once", "bytes_a_pixel"),
    [
        (False, True, 0, latent_encoding.ENCODING),
        (False, False, 0, memory_estimate.DECODING),
        (True, True, memory_estimate.ENCODING_BANDS, memory_estimate.ENCODING_IN_BANDS),
        (True, False, memory_estimate.DECODING_BANDS, memory_estimate.DECODING_IN_BANDS),
    ],
)
def test_what_the_vae_takes_a_pixel(in_bands, encodes, once, bytes_a_pixel):
    config = cards.resolved("Full", "sd1").replace(vae_tiling="on" if in_bands else "off", mixed_precision="no")
    for side in (512, 1024):
        with fake_card():
            vae = count.vae_bands.for_drawing(full_size("sd1").vae(), config)
            given = torch.zeros(1, 3, side, side) if encodes else torch.zeros(1, 4, side // 8, side // 8)
            with Alive([*vae.parameters(), given]) as alive, torch.no_grad():
                (vae.encode if encodes else vae.decode)(given)
        assert alive.peak == pytest.approx(once + bytes_a_pixel * side**2, rel=CLOSE)


@pytest.mark.parametrize("name", seldom(count.CASES, but=["sd1-lora"]))
def test_every_stage_takes_what_is_estimated(name):
    """Counted with the engine's own code, on models of full size."""
    for stage, (counted, estimated) in count.compared(name).items():
        assert estimated == pytest.approx(counted, rel=CLOSE), stage


def test_all_cases_of_a_card_fit_into_eight_minutes():
    of_card = [case for case in CASES if case.device == "cuda"]
    assert all(case.seconds for case in of_card) and any(case.compiled for case in of_card)
    assert sum(case.seconds * len(trainers_of(case)) for case in of_card) <= LONGEST <= 480


def test_growth_is_drawn():
    points = [{"value": n, "step": 0.1 * n, "before": 1.0, "whole": 2.0, "peak": 1e8 * n} for n in (1, 2, 4)]
    drawn = growth.draw("train_batch_size", points, "batch")
    assert set(drawn) == {"time", "memory"} and all(text.count("<path") for text in drawn.values())
    assert "the whole run" in growth.draw("max_train_steps", points, "steps")["time"]


@pytest.mark.parametrize("number", [2, 8, 16])
def test_a_ring_sends_what_the_bill_says(number):
    """Played: each passes a piece on to the next, first to sum them, then to spread the sums."""
    holds = torch.rand(number, number, dtype=torch.float64)  # by card and piece, of 100 bytes
    expected, sent = holds.sum(0).expand(number, -1).clone(), 0
    for step in range(2 * (number - 1)):
        before = holds.clone()
        for card in range(number):
            piece, after = (card - step) % number, (card + 1) % number
            is_summing = step < number - 1
            holds[after, piece] = before[card, piece] + (before[after, piece] if is_summing else 0)
        sent += 100  # by each
    torch.testing.assert_close(holds, expected)
    assert scale.exchanged(100 * number, number) == pytest.approx(sent) and scale.exchanged(100, 1) == 0


@pytest.mark.slow
def test_the_bill_in_the_documentation_is_today_s():
    assert scale.table() in scale.DOCUMENT.read_text(encoding="utf-8")
