"""Drawing class pictures keeps in memory what it needs: no text encoders, and where it is short one model at a time."""

from __future__ import annotations

import gc
from unittest import mock

import pytest
import torch
from transformers import CLIPTextModel

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling import class_images, sampler
from dreambooth_ext.engine.sampling.painter import load_painter

CPU = torch.device("cpu")
DRAWN = {"width": 64, "height": 64, "steps": 2, "sampler": "DDIM", "emphasis": False}


@pytest.fixture
def base(trainer):
    return open_base(trainer.base)


def config(**settings) -> RunConfig:
    return RunConfig(**{"mixed_precision": "no", "vae_tiling": "off", "clip_skip": 1, **settings})


def test_text_encoders_leave_once_the_prompts_are_encoded(base):
    painter = class_images.load(config(), base, CPU, {"a person"})
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, CLIPTextModel)]
    found = painter.paint("a person", seeds=[3], **DRAWN)
    wanted = load_painter(base, CPU, 1).paint("a person", seeds=[3], **DRAWN)
    assert found[0].tobytes() == wanted[0].tobytes()


@pytest.mark.parametrize("tiling", ["off", "on"])
def test_where_memory_is_short_unet_and_vae_take_turns(base, monkeypatch, tiling):
    gone = []
    away = sampler.away
    monkeypatch.setattr(sampler, "away", lambda model: gone.append(type(model).__name__) or away(model))
    painter = class_images.load(config(vae_tiling=tiling), base, CPU, {"a person"})
    painter.paint("a person", seeds=[3], **DRAWN)
    assert gone == (["AutoencoderKL", "UNet2DConditionModel"] if tiling == "on" else [])


def test_a_model_that_is_away_comes_back():
    model = mock.Mock(device="card")
    with pytest.raises(KeyError), sampler.away(model):
        assert model.to.mock_calls == [mock.call("cpu")]
        raise KeyError
    assert model.to.mock_calls == [mock.call("cpu"), mock.call("card")]
