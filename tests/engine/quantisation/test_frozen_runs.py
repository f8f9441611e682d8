"""Runs on a base in 8 or 4 bits: they learn, go on to the same bits, draw, and refuse what this machine cannot do."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.core.facts.lora_types import LORA_TYPES
from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.engine import plan, worker
from dreambooth_ext.engine.quantisation.frozen_layers import Packed
from dreambooth_ext.engine.quantisation.packings import PACKINGS
from tests import adapters, training
from tests.engine.quantisation.test_packings import there
from tests.engine.worker.test_resume import check
from tests.training import Trainer

LORA = {"method": "lora", "rank": 4, "target_modules": adapters.ALL, "learning_rate": 1e-2}
WORD = {"method": "textual_inversion", "placeholder_token": "zkz", "num_vectors": 2, "learning_rate": 1e-2}
WORD |= {"instance_prompt": None}
METHODS = {"lora": LORA, "word": WORD, "hypernetwork": {"method": "hypernetwork"}}


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("kind", METHODS)
def test_it_goes_on_to_the_same_bits(trainer, kind, name):
    check(trainer, (1, 2), **METHODS[kind], frozen_precision=there(name), max_train_steps=3)


@pytest.mark.parametrize("kind", LORA_TYPES)
def test_every_type_of_lora_learns_on_it(tmp_path, kind):
    trainer = Trainer(tmp_path, "sdxl")
    settings = {**LORA, "network_type": kind, "text_encoder_steps": 2, "gradient_checkpointing": True}
    check(trainer, (1,), **settings, frozen_precision=there("nf4"), mixed_precision="bf16", max_train_steps=2)


def test_the_base_is_packed_and_what_is_learned_differs_a_little(trainer, methods):
    usual = trainer.train(**LORA)
    assert not any(isinstance(module, Packed) for module in methods[0].backbone.unet.modules())
    one = torch.cat([tensor.flatten() for tensor in training.weights(usual).values()])
    likeness = {}
    for name in PACKINGS:
        run = trainer.train(**LORA, frozen_precision=there(name))
        assert any(isinstance(module, Packed) for module in methods[-1].backbone.unet.modules())
        other = torch.cat([tensor.flatten() for tensor in training.weights(run).values()])
        likeness[name] = torch.nn.functional.cosine_similarity(one, other, dim=0).item()
    assert 1 > likeness["int8"] > likeness["nf4"] > 0.7


def test_previews_are_drawn_with_it_and_change_nothing(trainer):
    settings = {**LORA, "frozen_precision": "int8", "max_train_steps": 2}
    drawn = trainer.train(**settings, validation_prompts=["a photo of sksper person"], validation_steps=1)
    assert len(list(drawn.samples.glob("*/*.png"))) == 3
    training.assert_same_run(drawn, trainer.train(**settings))


def test_what_does_not_work_here_is_refused_before_anything_is_loaded(trainer, monkeypatch):
    reason = Message("device.package_fails", package="bitsandbytes", error="no library")
    monkeypatch.setattr(plan, "missing_packing", lambda name, device: reason if name == "nf4" else None)
    run = trainer.train(**LORA, frozen_precision="nf4", ends=worker.BAD_INPUT)
    assert run.state()["problem"]["code"] == "plan.frozen_precision_fails"
    assert "bitsandbytes does not work here: no library" in training.log(run)


def test_what_a_run_began_with_it_goes_on_with(trainer):
    """Also where "auto" would mean something else by then."""
    run = trainer.train(**LORA, frozen_precision="auto", max_train_steps=1)
    assert run.state()["plan"]["frozen_precision"] == "bf16"
