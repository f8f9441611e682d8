"""The engine's loss is that of a loop on diffusers and peft alone, step by step, where both get the same draws."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.reference import Reference, Step
from dreambooth_ext.engine.methods.lora import LoRATraining
from dreambooth_ext.engine.models.architecture import TOKENIZER
from dreambooth_ext.engine.training import loss as objective
from dreambooth_ext.engine.training.latent_backbone import LatentBackbone
from tests import tiny, training
from tests.seldom import seldom

STEPS = 20
PRIOR = {"with_prior_preservation": True, "class_prompt": "a photo of a person", "prior_loss_weight": 0.7}
TEXT = {"text_encoder_lr": 5e-4, "text_encoder_steps": STEPS}
COMMON = {"max_train_steps": STEPS, "train_batch_size": 2, "learning_rate": 1e-3}


@pytest.fixture
def recorder(monkeypatch):
    """What every step of a run was given, and a LoRA's matrices before the first."""
    return Recorder(monkeypatch)


class Recorder:
    def __init__(self, monkeypatch):
        self.steps: list[Step] = []
        self.first: dict[str, dict[str, torch.Tensor]] = {}
        draw, loss, prepare = objective.draw_noise, LatentBackbone.loss, LoRATraining.prepare

        def drawn(latents_bchw, *rest):
            draws = draw(latents_bchw, *rest)
            now = self.steps[-1]
            now.latents_bchw, now.noise_bchw, now.timesteps_b = latents_bchw, draws.noise_bchw, draws.timesteps_b
            return draws

        def seen(backbone, objective, batch, generator):
            nothing = torch.empty(0)
            self.steps.append(Step(nothing, nothing, nothing, batch.captions, batch.time_ids_b6))
            return loss(backbone, objective, batch, generator)

        def prepared(method, *rest):
            prepare(method, *rest)
            self.first = copy.deepcopy(method.state_dict())

        monkeypatch.setattr(objective, "draw_noise", drawn)
        monkeypatch.setattr(LatentBackbone, "loss", seen)
        monkeypatch.setattr(LoRATraining, "prepare", prepared)


def reference(folder, family, prediction_type="epsilon", **settings):
    made = tiny.diffusers_folder(folder, family, prediction_type=prediction_type)
    return Reference(made, TOKENIZER, **settings)


def assert_equal(run, recorder, loop, text_steps=STEPS):
    """Six digits, for twenty steps, of which each depends on all before it; text encoders learn in the first ones."""
    ours = training.losses(run)
    theirs = []
    for number, step in enumerate(recorder.steps):
        if number == text_steps:
            loop.freeze_text()
        theirs.append(loop.step(step))
    assert len(ours) == len(theirs) == STEPS
    assert theirs == pytest.approx(ours, rel=1e-5, abs=1e-6)
    assert max(theirs) - min(theirs) > 0.01  # it is no constant that both have


def class_pictures(folder):
    """As many as the instance pictures, another noise."""
    for number in range(3):
        training.draw(folder / "classes" / f"{number}.png", 100 + number)
    return {**PRIOR, "class_data_dir": str(folder / "classes"), "num_class_images": 3}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_all_weights_with_class_pictures_and_text_encoders(tmp_path, recorder, family):
    trainer = training.Trainer(tmp_path, family, **COMMON, **TEXT)
    run = trainer.train(**class_pictures(tmp_path))
    loop = reference(tmp_path, family, prior_loss_weight=PRIOR["prior_loss_weight"])
    loop.train_all(1e-3, 5e-4)
    assert any(len(step.captions) == 4 for step in recorder.steps)
    assert_equal(run, recorder, loop)


def test_text_encoders_that_stop_learning_in_the_middle(tmp_path, recorder):
    """What they have learned until then stays, and the captions are encoded with it from then on."""
    half = STEPS // 2
    trainer = training.Trainer(tmp_path, **{**COMMON, **TEXT, "text_encoder_steps": half})
    run = trainer.train(**class_pictures(tmp_path))
    loop = reference(tmp_path, "sd1", prior_loss_weight=PRIOR["prior_loss_weight"])
    loop.train_all(1e-3, 5e-4)
    assert_equal(run, recorder, loop, text_steps=half)


def test_all_weights_of_a_base_with_v_prediction(tmp_path, recorder):
    trainer = training.Trainer(tmp_path, "sd2", base={"prediction_type": "v_prediction"}, **COMMON, **TEXT)
    run = trainer.train()
    loop = reference(tmp_path, "sd2", "v_prediction", pad="!")
    loop.train_all(1e-3, 5e-4)
    assert_equal(run, recorder, loop)


@pytest.mark.parametrize("family", seldom(["sd1", "sdxl"], but=["sd1"]))
def test_a_lora_from_the_same_matrices_as_pefts(tmp_path, recorder, family):
    trainer = training.Trainer(tmp_path, family, **COMMON, **TEXT, method="lora", rank=4)
    run = trainer.train()
    loop = reference(tmp_path, family)
    loop.train_lora(4, 1e-3, 5e-4)
    take_over(loop, recorder.first)
    assert_equal(run, recorder, loop)


def take_over(loop, first):
    """Give peft's adapters the matrices with which ours began; each has its place."""
    models = {"unet": loop.unet, **dict(zip(("text_encoder", "text_encoder_2"), loop.encoders, strict=False))}
    names = {"lora_A.default.weight": "lora_down.weight", "lora_B.default.weight": "lora_up.weight"}
    for component, model in models.items():
        learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert 2 * len([key for key in first[component] if key.endswith("lora_up.weight")]) == len(learning)
        for name, parameter in learning.items():
            layer, _, part = name.partition(".lora_")
            ours = first[component][f"{layer}.{names['lora_' + part]}"]
            parameter.data.copy_(ours.reshape(parameter.shape))


@pytest.mark.parametrize("family", seldom(["sd1", "sdxl"], but=["sd1"]))
def test_a_word(tmp_path, recorder, family):
    settings = {"method": "textual_inversion", "placeholder_token": "sksper", "initializer_token": "person"}
    settings |= {"num_vectors": 1, "embedding_norm": 0, "prompt_template": None, "text_encoder_steps": None}
    trainer = training.Trainer(tmp_path, family, **{**COMMON, "learning_rate": 5e-2}, **settings)
    run = trainer.train()
    loop = reference(tmp_path, family)
    loop.train_word("sksper", "person", 5e-2)
    assert_equal(run, recorder, loop)


def test_a_wrong_loop_is_noticed(tmp_path, recorder):
    """The comparison itself: a loop that leaves out the class pictures' weight differs at once."""
    run = training.Trainer(tmp_path, **COMMON, **TEXT).train(**class_pictures(tmp_path))
    loop = reference(tmp_path, "sd1", prior_loss_weight=1.0)
    loop.train_all(1e-3, 5e-4)
    with pytest.raises(AssertionError):
        assert_equal(run, recorder, loop)
