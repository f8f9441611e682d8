"""The VAE in bands: the same numbers as without, in less memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.fake_card import Alive
from dreambooth_ext.core.guide.demo_recipe import BASE
from dreambooth_ext.engine.models.architecture import shipped
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.runtime import vae_bands
from tests import training

SMALL = {**shipped("sd1").vae, "block_out_channels": (32, 64, 64, 128)}
ROUNDING = 1e-4  # largest difference, where numbers are about 1: an eightieth of what changes one of 256 values


def random_vae() -> AutoencoderKL:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        vae = AutoencoderKL.from_config(SMALL).eval()
        for norm in (layer for layer in vae.modules() if isinstance(layer, torch.nn.GroupNorm)):
            norm.weight.data.uniform_(0.5, 1.5)  # else all are 1, and biases 0
            norm.bias.data.normal_()
    return vae


def pair(vae: AutoencoderKL) -> tuple[AutoencoderKL, AutoencoderKL]:
    return vae, vae_bands.in_bands(copy.deepcopy(vae))


def spread(shape: tuple[int, ...], seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["random", "demo"])
def vae(request):
    return random_vae() if request.param == "random" else open_base(BASE).vae()


@pytest.mark.parametrize("rows", [2**10, 2**14, 2**16])
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 40, 104), (1, 3, 128, 64)])
@torch.no_grad()
def test_in_bands_pictures_are_encoded_to_the_same(vae, monkeypatch, rows, shape):
    monkeypatch.setattr(vae_bands, "AT_ONCE", rows)
    whole, banded = pair(vae)
    pixels = spread(shape).clamp(-1, 1)
    wanted = whole.encode(pixels).latent_dist.parameters
    found = banded.encode(pixels).latent_dist.parameters
    assert found.shape == wanted.shape and (found - wanted).abs().max() < ROUNDING * max(1, wanted.abs().max())


@pytest.mark.parametrize("rows", [2**10, 2**14, 2**16])
@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (2, 4, 5, 13)])
@torch.no_grad()
def test_in_bands_pictures_are_decoded_to_the_same(vae, monkeypatch, rows, shape):
    monkeypatch.setattr(vae_bands, "AT_ONCE", rows)
    whole, banded = pair(vae)
    latents = spread(shape)
    wanted, found = whole.decode(latents).sample, banded.decode(latents).sample
    assert found.shape == wanted.shape and (found - wanted).abs().max() < ROUNDING * max(1, wanted.abs().max())
    assert torch.equal(latents, spread(shape)), "what is given is left as it was"


@torch.no_grad()
def test_in_bfloat16_they_differ_no_more_than_the_whole_pass_does(vae):
    whole, banded = pair(vae)
    latents = spread((1, 4, 8, 8))
    wanted = whole.decode(latents).sample
    for model in (whole, banded):
        model.to(torch.bfloat16)
    differences = [(m.decode(latents.bfloat16()).sample.float() - wanted).abs().mean() for m in (whole, banded)]
    assert 0 < differences[1] < 1.2 * differences[0]


@pytest.mark.parametrize(("encodes", "share"), [(True, 0.45), (False, 0.47)])
def test_bands_take_less_than_half_the_memory(encodes, share):
    peaks = []
    with FakeTensorMode(), torch.no_grad():
        for in_bands in (False, True):
            vae = AutoencoderKL.from_config(shipped("sdxl").vae).eval()
            if in_bands:
                vae_bands.in_bands(vae)
            given = torch.randn((1, 3, 1024, 1024) if encodes else (1, 4, 128, 128))
            with Alive([*vae.parameters(), given]) as alive:
                (vae.encode if encodes else vae.decode)(given)
            peaks.append(alive.peak)
    assert peaks[1] < share * peaks[0]


def test_a_run_in_bands_trains_on_the_same_and_draws_the_same(trainer):
    settings = {"learning_rate": 1e-6, "validation_prompts": ["a person"], "validation_steps": 4}
    runs = [trainer.train(vae_tiling=tiling, **settings) for tiling in ("off", "on")]
    assert training.losses(runs[0]) == pytest.approx(training.losses(runs[1]), rel=1e-4)
    drawn = [np.asarray(Image.open(next((run.samples / "4").glob("*.png")))).astype(int) for run in runs]
    assert np.abs(drawn[0] - drawn[1]).max() <= 1
