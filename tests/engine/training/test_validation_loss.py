"""The validation loss: on pictures that are never trained on, always the same numbers, and without any effect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.runtime.seeds import generator
from dreambooth_ext.engine.training import validation_loss
from tests import training
from tests.engine.worker.test_resume import copy_at
from tests.seldom import seldom
from tests.training import Trainer

HELD = {"validation_split": 2, "validation_loss_steps": 1}


def TRAINER(folder: Path) -> dict:
    pictures = training.pictures(folder / "pictures", 5, captions=True)
    return {"instance_data_dir": pictures, "method": "finetune", "instance_prompt": None, "use_captions": True}


def measured(run) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in training.events(run, "validation")}


# --- which pictures


def config_of(tmp_path: Path, count: int, **settings) -> RunConfig:
    for index in range(count):
        path = tmp_path / f"set {index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return RunConfig(method="finetune", instance_data_dir=str(tmp_path), use_captions=False, **settings)


def held(config: RunConfig) -> set[str]:
    return {entry.path.name for entry in picture_entries.entries(config)[0] if entry.is_held}


@pytest.mark.parametrize(("split", "count"), [(0.1, 6), (0.001, 1), (7, 7), (1, 1), (0.5, 30)])
def test_share_or_number(tmp_path, split, count):
    assert len(held(config_of(tmp_path, 60, validation_split=split))) == count


def test_the_split_is_stable(tmp_path):
    config = config_of(tmp_path / "one", 60, validation_split=6)
    assert held(config) == held(config) == held(config_of(tmp_path / "moved", 60, validation_split=6))
    assert held(config) != held(config.replace(seed=1))
    before = held(config)
    for index in range(60, 70):
        (tmp_path / "one" / f"set {index % 3}" / f"{index}.png").write_bytes(b"")
    assert len(before & held(config)) >= 4  # ten more pictures of seventy: one or two of six give way, not all
    (tmp_path / "one" / "new.png").write_bytes(b"")
    assert len(before - held(config.replace(validation_split=6))) <= 2
    grown = held(config.replace(validation_split=12))
    assert held(config) <= grown


def test_a_picture_of_two_concepts_is_held_out_of_both(tmp_path):
    config_of(tmp_path, 12)
    concept = {"instance_data_dir": str(tmp_path), "instance_prompt": "sksper"}
    config = RunConfig(concepts=[concept, {**concept, "instance_prompt": "ohwx"}], validation_split=3)
    entries, problems = picture_entries.entries(config)
    assert not problems
    for path in {entry.path for entry in entries}:
        assert len({entry.is_held for entry in entries if entry.path == path}) == 1
    assert sum(entry.is_held for entry in entries) == 6


# --- kept back for the verdict


@pytest.mark.parametrize(
    ("count", "kept"), [(3, 0), (10, 0), (11, 1), (12, 1), (16, 2), (24, 3), (100, 12), (500, 32), (900, 32)]
)
def test_one_picture_in_eight_is_kept_back(tmp_path, count, kept):
    for index in range(count):
        (tmp_path / f"{index}.png").write_bytes(b"")
    config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt="sksper")
    assert len(held(config)) == kept
    assert not held(config.replace(keep_back_pictures=False))
    assert len(held(config.replace(validation_split=2))) == 2 if count > 2 else True  # the user's own number counts


def test_each_subject_and_each_folder_keeps_ten(tmp_path):
    """Concepts, subjects by their file names, kohya's folders: no one loses pictures that it cannot spare."""
    config_of(tmp_path / "three folders", 33)
    folders = RunConfig(instance_data_dir=str(tmp_path / "three folders"), instance_prompt="sksper")
    assert len(held(folders)) == 3
    (tmp_path / "words").mkdir()
    for index in range(24):
        (tmp_path / "words" / f"{'sksper' if index < 16 else 'ohwxer'} ({index}).png").write_bytes(b"")
    words = RunConfig(instance_data_dir=str(tmp_path / "words"))
    assert len(held(words)) == 2 and all("sksper" in name for name in held(words))
    assert len(held(words.replace(instance_prompt="x"))) == 3
    concept = {"instance_data_dir": str(tmp_path / "words"), "instance_prompt": "sksper"}
    both = [concept, {**concept, "instance_data_dir": str(tmp_path / "three folders"), "instance_prompt": "ohwx"}]
    entries = picture_entries.entries(RunConfig(concepts=both))[0]
    assert [sum(entry.is_held for entry in entries if entry.concept == n) for n in (0, 1)] == [3, 3]


def test_what_is_kept_back_is_not_validated_and_not_trained_on(tmp_path):
    trainer = Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", 12))
    run = trainer.train(max_train_steps=12)
    assert run.state()["plan"]["pictures"] == 11 and run.state()["plan"]["held"] == 1
    assert not measured(run)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"validation_split": 60}, "validation_split"),
        ({"validation_split": 2.5}, "validation_split"),
        ({"validation_loss_steps": 5}, "validation_loss_steps"),
    ],
)
def test_what_cannot_be_held_out(tmp_path, settings, field):
    config = config_of(tmp_path, 60, **settings)
    found = picture_entries.problems(config) + picture_entries.entries(config)[1]
    assert [problem.field for problem in found] == [field]


# --- the loss


def test_it_is_the_direct_computation(trainer, monkeypatch):
    """Before the first step, by diffusers' parts, one picture and one draw after the other."""
    losses = []
    original = worker.make_method

    def made(config, base, dataset, *others):
        method = original(config, base, dataset, *others)
        losses.extend(directly(base, dataset, method))
        return method

    monkeypatch.setattr(worker, "make_method", made)
    run = trainer.train(max_train_steps=2, **HELD)
    assert len(losses) == 2 * validation_loss.DRAWS
    assert measured(run)[0] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert len(set(measured(run).values())) == 3


@torch.no_grad()
def directly(base, dataset, method) -> list[float]:
    vae, unet, prompts = base.vae(torch.float32).eval(), method.backbone.unet, method.backbone.prompts
    losses = []
    for index, picture in enumerate(dataset.held):
        pixels = torch.from_numpy(np.array(Image.open(picture.entry.path)))
        posterior = vae.encode(pixels.permute(2, 0, 1)[None] / 127.5 - 1).latent_dist
        noise = torch.randn(posterior.mean.shape[1:], generator=generator(7, "held out", index))
        latents = (posterior.mean + posterior.std * noise) * base.architecture.vae["scaling_factor"]
        hidden = prompts([picture.entry.caption]).hidden_bsd
        for draw in range(validation_loss.DRAWS):
            drawn = generator(7, "validation", index, draw)
            timestep = torch.randint(0, 1000, (), generator=drawn)[None]
            noise = torch.randn(latents.shape[1:], generator=drawn)[None]
            noisy = method.objective.process.schedule.add_noise(latents, noise, timestep)
            predicted = unet(noisy, timestep, encoder_hidden_states=hidden).sample
            losses.append(torch.nn.functional.mse_loss(predicted, noise).item())
    return losses


def test_held_out_pictures_are_never_trained_on(trainer, monkeypatch):
    keys = set()
    original = worker.Dataset.batches

    def batches(self, *arguments):
        made = original(self, *arguments)
        keys.update(key for batch in made for key in batch.keys)
        return made

    monkeypatch.setattr(worker.Dataset, "batches", batches)
    run = trainer.train(max_train_steps=6, **HELD)
    entries = picture_entries.entries(run.config)[0]
    assert keys == {str(entry.path) for entry in entries if not entry.is_held} and len(keys) == 3
    assert run.state()["plan"]["pictures"] == 3


SETTINGS = {
    "finetune": {},
    "text encoder too": {"text_encoder_steps": 3},
    "lora": {"method": "lora", "instance_prompt": "sksper", "network_dropout": 0.5},
    "everything random": {
        "shuffle_tags": True,
        "tag_dropout": 0.3,
        "caption_dropout": 0.2,
        "random_flip": True,
        "center_crop": False,
        "use_ema": True,
        "train_batch_size": 2,
        "offset_noise": 0.1,
    },
}


@pytest.mark.parametrize("name", seldom(SETTINGS, but=["lora", "everything random"]))
def test_measuring_changes_nothing_and_resuming_is_exact(trainer, name):
    settings = SETTINGS[name]
    """To the bit: the weights with it and without, and after a kill, and the losses that are measured."""
    whole = trainer.train(checkpointing_steps=1, save_intermediate_models=False, **{**HELD, **settings})
    without = trainer.train(**{**HELD, **settings, "validation_loss_steps": 0})
    training.assert_same_run(whole, without)
    assert not training.events(without, "validation")
    again = copy_at(whole, 2, trainer.folder)
    before = len(training.events(again, "validation"))
    assert training.go_on(again) == worker.DONE, training.log(again)
    training.assert_same_run(whole, again)
    losses = [event["loss"] for event in training.events(again, "validation")]
    assert len(losses) == before + 2 and losses[before:] == losses[before - 2 : before]
    assert sorted(measured(whole)) == [0, 1, 2, 3, 4]


def test_how_often(trainer):
    run = trainer.train(max_train_steps=7, validation_split=1, validation_loss_steps=3)
    assert sorted(measured(run)) == [0, 3, 6, 7]
    usual = validation_loss.Validation(RunConfig(validation_split=1), type("Held", (), {"held": [1]})(), 1000)
    assert [step for step in range(1001) if usual.is_due(step)] == list(range(0, 1001, 50))


# --- the turn

FALLING = [1.0, 0.9, 0.8, 0.7, 0.65, 0.62, 0.61, 0.6]


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        (FALLING, None),
        ([*FALLING, 0.65, 0.7, 0.75, 0.8], 7),
        ([*FALLING, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], None),
        ([*FALLING, 0.9, 0.6, 0.6, 0.6, 0.6, 0.6], None),  # one outlier
        ([0.6, 0.61, 0.603, 0.604, 0.605, 0.606, 0.605], None),  # by less than a hundredth
        ([0.5, 0.5, 0.5, 0.7, 0.8, 0.9], 2),
        ([0.5, 0.5, 0.7, 0.8, 0.9], None),  # too few
        ([], None),
    ],
)
def test_the_rule(losses, best):
    """Three measurements are averaged; three such means in a row lie above the lowest by a hundredth."""
    assert validation_loss.turned(list(enumerate(losses))) == best


def test_it_warns_once_and_goes_on(trainer, monkeypatch):
    losses = iter([*FALLING, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0])
    monkeypatch.setattr("dreambooth_ext.engine.training.measurements.measure", lambda *arguments: next(losses))
    run = trainer.train(max_train_steps=13, checkpointing_steps=12, save_intermediate_models=False, **HELD)
    (warning,) = [event for event in training.events(run, "warning") if event["field"] == "validation_split"]
    assert "at step 7" in warning["what"] and "step 7" in warning["remedy"]
    assert len(training.losses(run)) == 13
    again = copy_at(run, 12, trainer.folder)
    monkeypatch.setattr("dreambooth_ext.engine.training.measurements.measure", lambda *arguments: 1.1)
    assert training.go_on(again) == worker.DONE
    assert len([event for event in training.events(again, "warning") if event["field"] == "validation_split"]) == 1


def test_tensorboard_has_the_curve(trainer):
    event_file = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = trainer.train(report_to="tensorboard", **HELD)
    found = event_file.EventAccumulator(str(run.path / "tensorboard")).Reload()
    curve = {item.step: item.value for item in found.Scalars("validation_loss")}
    assert curve == pytest.approx(measured(run))


def test_events_are_json(trainer):
    run = trainer.train(max_train_steps=1, **HELD)
    lines = (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["type"] for line in lines].count("validation") == 2
