"""Runs whose blocks live outside the device come to the same bits as runs whose blocks stay, in every way to train.

There is no card here: the device is the CPU, and blocks are copied from one part of its memory to another and back,
by the same code. Only the refusal of the CPU is taken away.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import plan, worker
from dreambooth_ext.engine.optimization.optimizer_creation import missing_optimizer
from dreambooth_ext.engine.quantisation.packings import PACKINGS
from dreambooth_ext.engine.streaming import average, conditions
from dreambooth_ext.engine.streaming.visits import Visits
from tests import adapters, training
from tests.engine.quantisation.test_packings import there
from tests.seldom import seldom
from tests.training import Trainer

FREE = {"max_grad_norm": 0}
OTHER_PACKINGS = [name for name in PACKINGS if name != "int8"]
BF16 = {"weight_precision": "bf16", "mixed_precision": "bf16"}
LORA = {"method": "lora", "rank": 4, "alpha": 4.0}


@pytest.fixture(autouse=True)
def visits(monkeypatch) -> list[str]:
    """Let a CPU stand for a card, note which units arrive, and spoil the places that they leave."""
    seen: list[str] = []
    arrive, leave, come_home = Visits.arrive, Visits.leave, Visits.come_home

    def arrived(self, unit, states=False):
        seen.append(unit.name)
        arrive(self, unit, states)

    def left(self, unit, end=leave):
        place = unit.place
        end(self, unit)
        place.memory.fill_(0xFF)  # NaN in every type
        place.free()

    monkeypatch.setattr(Visits, "arrive", arrived)
    monkeypatch.setattr(Visits, "leave", left)
    monkeypatch.setattr(Visits, "come_home", lambda self, unit: left(self, unit, come_home))
    problems = conditions.problems
    monkeypatch.setattr(conditions, "problems", lambda config: problems(config.replace(device="cuda")))
    return seen


def assert_same(trainer: Trainer, visits: list[str], share: str = "1", **settings: Any) -> Run:
    usual = trainer.train(**settings)
    assert not visits
    streamed = trainer.train(**settings, offload=share)
    assert len(visits) > 10
    training.assert_same_run(usual, streamed)
    assert training.losses(usual) == training.losses(streamed)
    assert training.difference(training.artifact(usual), training.artifact(streamed)) == ""
    return streamed


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_whole_models_of_every_family(tmp_path, visits, family, checkpointing):
    trainer = Trainer(tmp_path, family)
    assert_same(trainer, visits, **FREE, max_train_steps=3, gradient_checkpointing=checkpointing, text_encoder_steps=2)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_lora_of_every_family(tmp_path, visits, family, checkpointing):
    trainer = Trainer(tmp_path, family)
    assert_same(trainer, visits, **LORA, max_train_steps=3, gradient_checkpointing=checkpointing, text_encoder_steps=1)


@pytest.mark.parametrize("checkpointing", [False, *seldom([True])])
@pytest.mark.parametrize("optimizer", ["adamw8bit", "adafactor", "came", *seldom(["adamw", "lion", "sgd"])])
def test_every_optimizer_with_weights_in_bfloat16(trainer, visits, optimizer, checkpointing):
    if reason := missing_optimizer(optimizer, torch.device("cpu")):
        pytest.skip(reason)
    settings = {"optimizer": optimizer, "gradient_checkpointing": checkpointing, "max_train_steps": 3}
    assert_same(trainer, visits, **FREE, **BF16, **settings)


@pytest.mark.parametrize("share", ["0.2", "0.5", "0.9"])
def test_a_share(trainer, visits, share):
    assert_same(trainer, visits, share, **FREE, max_train_steps=2, gradient_checkpointing=True)


def test_averages_previews_validation_and_saves_on_the_way(trainer, visits):
    look = {"validation_prompts": ["a thing"], "validation_steps": 1, "validation_split": 0.4}
    saves = {"checkpointing_steps": 1, "save_intermediate_models": True, "checkpoints_total_limit": None}
    average = {"use_ema": True, "ema_decay": 0.9}
    run = assert_same(trainer, visits, **FREE, **look, **saves, **average, max_train_steps=3)
    drawn = sorted(run.samples.glob("*/*.png"))
    other = trainer.train(**FREE, **look, **saves, **average, max_train_steps=3)
    assert drawn and [path.read_bytes() for path in drawn] == [
        path.read_bytes() for path in sorted(other.samples.glob("*/*.png"))
    ]


def test_clipping_by_the_norm_of_the_step_before(trainer, visits):
    assert_same(trainer, visits, max_grad_norm=0.05, clip_grad_mode="previous_norm", max_train_steps=3)


def test_a_step_with_two_backward_passes(tmp_path, visits):
    """A class picture of another size: the gradients of the first pass wait at home for the second."""
    folder = tmp_path / "class"
    for number in range(3):
        training.draw(folder / f"{number}.png", 50 + number, (320, 192))
    trainer = Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", sizes=((256, 256),)))
    prior = {"class_prompt": "a photo of a person", "class_data_dir": str(folder), "num_class_images": 3}
    before = {"max_grad_norm": 0.05, "clip_grad_mode": "previous_norm"}
    assert_same(trainer, visits, **before, enable_bucket=True, resolution=256, max_train_steps=2, **prior)


@pytest.mark.parametrize("network", ["dora", "oft", "loha", "lokr", "locon"])
def test_every_kind_of_lora(trainer, visits, network):
    alpha = {} if network == "oft" else {"alpha": 2.0}
    settings = {**{key: value for key, value in LORA.items() if key != "alpha"}, **alpha}
    settings |= {"network_type": network, "max_train_steps": 2}
    assert_same(trainer, visits, **settings, gradient_checkpointing=True, mixed_precision="bf16")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["int8", *seldom(OTHER_PACKINGS)])
def test_a_base_in_fewer_bits(trainer, visits, precision, checkpointing):
    packed = {"frozen_precision": there(precision), "mixed_precision": "bf16", "target_modules": adapters.ALL}
    assert_same(trainer, visits, **LORA, **packed, max_train_steps=3, gradient_checkpointing=checkpointing)


@pytest.mark.parametrize("method", ["textual_inversion", "hypernetwork"])
def test_words_and_hypernetworks(trainer, visits, method):
    assert_same(trainer, visits, method=method, max_train_steps=2, gradient_checkpointing=True)


def test_unconditional(tmp_path, visits):
    trainer = Trainer(tmp_path, **training.pixel_settings(tmp_path))
    assert_same(trainer, visits, **FREE, max_train_steps=3)


def test_an_average_that_lives_apart(trainer, visits, monkeypatch):
    """As on a card: with and without blocks that live outside, and from one of its states on."""
    settings = {**FREE, **BF16, "use_ema": True, "ema_decay": 0.9, "validation_prompts": ["a thing"]}
    usual = trainer.train(**settings, max_train_steps=4)
    monkeypatch.setattr(average, "is_apart", lambda device: True)
    apart = trainer.train(**settings, max_train_steps=4)
    both = trainer.train(**settings, max_train_steps=2, offload="1")
    assert training.go_on(both, total=4) == worker.DONE
    for run in (apart, both):
        training.assert_same_run(usual, run)
        assert training.difference(training.artifact(usual), training.artifact(run)) == ""


# --- a run that goes on


@pytest.mark.parametrize("optimizer", ["adamw8bit", *seldom(["adamw", "adafactor"])])
@pytest.mark.parametrize("first", ["1", "off"])
def test_a_run_goes_on_with_or_without(trainer, visits, monkeypatch, optimizer, first):
    """What a training state holds does not depend on it, nor on where it was made."""
    if reason := missing_optimizer(optimizer, torch.device("cpu")):
        pytest.skip(reason)
    settings = {**FREE, **BF16, "optimizer": optimizer, "use_ema": True, "ema_decay": 0.9, "text_encoder_steps": 3}
    whole = trainer.train(**settings, max_train_steps=4)
    run = trainer.train(**settings, max_train_steps=2, offload=first)
    before, resolve = len(visits), plan.resolve
    second = "off" if first == "1" else "1"
    monkeypatch.setattr(plan, "resolve", lambda config, base: resolve(config.replace(offload=second), base))
    assert training.go_on(run, total=4) == worker.DONE
    assert (len(visits) > before) == (second == "1")
    training.assert_same_run(whole, run)
    assert training.difference(training.artifact(whole), training.artifact(run)) == ""
