"""Runs on a base in 8 or 4 bits: they learn, go on to the same bits, draw, and refuse what this machine cannot do."""

from __future__ import annotations

import weakref

import pytest
import torch

from dreambooth_ext.core.facts.lora_types import LORA_TYPES
from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.engine import plan, worker
from dreambooth_ext.engine.models.base_model import LatentBase, open_base
from dreambooth_ext.engine.networks import lora_network
from dreambooth_ext.engine.quantisation.frozen_layers import Packed
from dreambooth_ext.engine.quantisation.packings import PACKINGS
from tests import adapters, training
from tests.engine.quantisation.test_packings import there
from tests.engine.worker.test_resume import check
from tests.seldom import seldom
from tests.training import Trainer

LORA = {"method": "lora", "rank": 4, "target_modules": adapters.ALL, "learning_rate": 1e-2}
WORD = {"method": "textual_inversion", "placeholder_token": "zkz", "num_vectors": 2, "learning_rate": 1e-2}
WORD |= {"instance_prompt": None}
METHODS = {"lora": LORA, "word": WORD, "hypernetwork": {"method": "hypernetwork"}}


QUICK = [("lora", name) for name in PACKINGS] + [("word", "int8"), ("hypernetwork", "int8")]
OTHERS = [(kind, name) for kind in METHODS for name in PACKINGS if (kind, name) not in QUICK]


@pytest.mark.parametrize(("kind", "name"), [*QUICK, *seldom(OTHERS)])
def test_it_goes_on_to_the_same_bits(trainer, kind, name):
    check(trainer, (1, 2), **METHODS[kind], frozen_precision=there(name), max_train_steps=3)


@pytest.mark.parametrize("kind", seldom(LORA_TYPES, but=["lora", "dora"]))
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


# --- text encoders


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_text_encoders_with_adapters_have_16_bits_and_norms_and_embeddings_32(tmp_path, methods, family):
    trainer = Trainer(tmp_path, family)
    run = trainer.train(**LORA, text_encoder_steps=4, max_train_steps=3, mixed_precision="bf16")
    exact = open_base(trainer.base).text_encoders()
    for encoder, before in zip(methods[0].backbone.prompts.stack.encoders, exact, strict=True):
        layers = dict(lora_network.named_layers(before))
        for key, parameter in encoder.named_parameters():
            dtype = torch.bfloat16 if key.rpartition(".")[0] in layers else torch.float32
            assert parameter.dtype == dtype and torch.equal(parameter, before.get_parameter(key).to(dtype))
    text = [tensor for key, tensor in training.weights(run).items() if key.startswith("text_encoder/")]
    assert text and {tensor.dtype for tensor in text} == {torch.float32}


@pytest.mark.parametrize("settings", [LORA, {**LORA, "text_encoder_steps": 1}, METHODS["hypernetwork"], {}])
def test_the_unet_is_read_when_text_encoders_that_do_not_learn_have_left(trainer, monkeypatch, settings):
    """On a small card there is no room for both; a run that goes on has them leave as well."""
    there, encoders = [], []
    load, fill = LatentBase.text_encoders, LatentBase.fill_unet

    def made(base: LatentBase, *arguments):
        found = load(base, *arguments)
        encoders[:] = map(weakref.ref, found)
        return found

    def filled(base: LatentBase, unet: torch.nn.Module, *arguments):
        there.append(any(encoder() is not None for encoder in encoders))
        assert all(parameter.is_meta for parameter in unet.parameters())
        fill(base, unet, *arguments)

    monkeypatch.setattr(LatentBase, "text_encoders", made)
    monkeypatch.setattr(LatentBase, "fill_unet", filled)
    run = trainer.train(**settings, max_train_steps=2)
    assert training.go_on(run, total=3) == worker.DONE
    assert there == [bool(settings.get("text_encoder_steps")), False]


@pytest.mark.parametrize("varied", [False, True])
def test_what_text_encoders_have_learned_is_kept_when_they_stop(trainer, methods, varied):
    """Also where they stay in memory, because captions vary: their adapters are beside weights of 16 bits."""
    settings = {**LORA, "text_encoder_steps": 1, "mixed_precision": "bf16", "use_captions": varied}
    training.pictures(trainer.folder / "pictures", captions=True)
    trainer.train(**settings, **({"shuffle_tags": True} if varied else {}), max_train_steps=2)
    prompts = methods[0].backbone.prompts
    assert (prompts.text is not None) == varied
    if varied:
        with torch.no_grad():
            after = prompts.stack.encode(["a red thing"]).hidden_bsd
            methods[0]._switch.is_off = True
            before = prompts.stack.encode(["a red thing"]).hidden_bsd
        assert not torch.equal(before, after)
