"""The base as a judge: its losses by hand, features that do not change it, one noise for all pictures."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.engine.verdict.base_judge import TIMES, BaseJudge, finest
from tests import tiny, training


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl"])
def judge(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    known = {"prediction_type": "v_prediction"} if request.param == "sd2" else {}
    base = open_base(tiny.single_file(folder, request.param, **known))
    return BaseJudge(load_painter(base, torch.device("cpu")), 64)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    training.pictures(folder, 3)
    return [Image.open(path) for path in sorted(folder.glob("*.png"))]


def test_losses_are_those_of_the_denoiser(judge, pictures):
    latents_nchw = judge.latents(pictures)
    found = judge.losses(latents_nchw, ["a cat", "a red (dog:1.2)"])
    painter, expected = judge.painter, torch.zeros(3)
    schedule = DDPMScheduler.from_config(dict(painter.scheduler_config))
    text = painter.text.encode(["a red (dog:1.2)"], emphasis=True)
    for draw, time in enumerate(TIMES):
        step = torch.tensor([int(time * 1000)])
        noise_1chw = torch.randn(latents_nchw[:1].shape, generator=torch.Generator().manual_seed(draw))
        for index in range(3):
            one_1chw = latents_nchw[index : index + 1]
            added = None
            if text.pooled_bp is not None:
                sizes = torch.tensor([[64, 64, 0, 0, 64, 64]], dtype=torch.float)
                added = {"text_embeds": text.pooled_bp, "time_ids": sizes}
            noised = schedule.add_noise(one_1chw, noise_1chw, step)
            with torch.no_grad():
                output = painter.unet(
                    noised, step, encoder_hidden_states=text.hidden_bsd, added_cond_kwargs=added
                ).sample
            is_v = schedule.config.prediction_type == "v_prediction"
            target = schedule.get_velocity(one_1chw, noise_1chw, step) if is_v else noise_1chw
            expected[index] += torch.nn.functional.mse_loss(output, target) / len(TIMES)
    assert torch.allclose(found[:, 1], expected, rtol=1e-3), (found[:, 1], expected)
    assert found.shape == (3, 2)


def test_features_are_of_the_picture_alone(judge, pictures):
    latents_nchw = judge.latents(pictures)
    together, alone = judge.features(latents_nchw), judge.features(latents_nchw[1:2])
    assert together.dim() == 3 and torch.allclose(together[1:2], alone, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    assert not any(module._forward_hooks for module in judge.painter.unet.modules())


def test_features_are_taken_where_places_are_not_too_many():
    """SD 1.5 at 512: the second block on the way up, as DIFT takes it. SDXL at 1024: the middle block."""
    of_sd15 = {number: torch.empty(1, 1, side, side) for number, side in enumerate((8, 16, 32, 64, 64))}
    of_sdxl = {number: torch.empty(1, 1, side, side) for number, side in enumerate((32, 64, 128, 128))}
    assert finest(of_sd15) is of_sd15[2] and finest(of_sdxl) is of_sdxl[0]
