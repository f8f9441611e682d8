"""A run that was interrupted anywhere and goes on comes to the same bits as one that was not, on the CPU in float32."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dreambooth_ext.core.facts.optimizer_facts import OPTIMIZERS
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import plan, worker
from dreambooth_ext.engine.optimization.optimizer_creation import missing_optimizer
from tests import training
from tests.seldom import seldom
from tests.training import Trainer

CAPTIONED = {
    "method": "finetune",
    "instance_prompt": None,
    "use_captions": True,
    "shuffle_tags": True,
    "keep_tokens": 1,
    "caption_dropout": 0.3,
    "random_flip": True,
}
PRIOR = {"class_prompt": "a photo of a person", "num_class_images": 2}


def copy_at(run: Run, step: int, folder: Path) -> Run:
    """The run as it was when its worker was killed right after the training state of `step`."""
    other = Run(folder / "runs" / f"{run.id}-at-{step}")
    shutil.copytree(run.path, other.path)
    for state in other.checkpoints.iterdir():
        if int(state.name) > step:
            shutil.rmtree(state)
    shutil.rmtree(other.path / "frozen", ignore_errors=True)
    for artifact in other.artifacts.iterdir():
        artifact.unlink() if artifact.is_file() else shutil.rmtree(artifact)
    other.write_state(status="training", step=step)
    return other


def check(trainer: Trainer, at: tuple[int, ...], **settings: Any) -> Run:
    """Train without a break, and again from the states after the steps `at`: everything has to be equal."""
    whole = trainer.train(checkpointing_steps=1, save_intermediate_models=False, **settings)
    for step in at:
        again = copy_at(whole, step, trainer.folder)
        assert training.go_on(again) == worker.DONE, training.log(again)
        training.assert_same_run(whole, again)
        assert training.difference(training.artifact(whole), training.artifact(again)) == ""
        new = training.losses(again)[len(training.losses(whole)) :]
        assert new == training.losses(whole)[step:]
    return whole


def test_from_any_step_with_class_pictures_and_both_models(trainer):
    check(trainer, (1, 3), text_encoder_steps=4, **PRIOR)


def test_around_the_step_where_the_text_encoder_is_frozen(trainer):
    """Before it, exactly there, and after it."""
    check(trainer, (1, 2, 3), text_encoder_steps=2)


def test_frozen_text_encoder_that_has_to_stay_for_shuffled_tags(tmp_path):
    trainer = Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", captions=True))
    check(trainer, (2, 3), text_encoder_steps=2, **CAPTIONED)


def test_buckets_flips_and_epochs_that_end_in_the_middle(tmp_path):
    sizes = ((256, 256), (320, 192), (192, 320))
    folder = training.pictures(tmp_path / "pictures", 5, sizes=sizes, captions=True)
    trainer = Trainer(tmp_path, instance_data_dir=folder)
    settings = {"enable_bucket": True, "resolution": 256, "train_batch_size": 2, "max_train_steps": 3}
    check(trainer, (2,), **CAPTIONED, **settings)


def test_random_crops_of_pictures_that_are_not_cached(tmp_path):
    trainer = Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", sizes=((90, 70),)))
    check(trainer, (2,), center_crop=False, random_flip=True)


def test_latents_cached_on_disk(trainer):
    check(trainer, (2,), cache_latents_to_disk=True)


@pytest.mark.parametrize(
    "optimizer",
    seldom([name for name in OPTIMIZERS if name != "adamw"], but=["adafactor", "adamw8bit", "prodigy_schedulefree"]),
)
def test_every_optimizer(trainer, optimizer):
    if reason := missing_optimizer(optimizer, torch.device("cpu")):
        pytest.skip(reason)
    rate = 1.0 if OPTIMIZERS[optimizer].finds_rate else 1e-3
    arguments = {"momentum": 0.9} if optimizer == "sgd" else {}
    settings = {"optimizer": optimizer, "learning_rate": rate, "text_encoder_steps": 3, "optimizer_args": arguments}
    check(trainer, (2,), **settings)


def test_averages_schedules_accumulation_and_every_kind_of_noise(trainer):
    check(
        trainer,
        (3,),
        use_ema=True,
        ema_decay=0.9,
        lr_scheduler="cosine",
        lr_warmup_steps=2,
        gradient_accumulation_steps=2,
        train_batch_size=2,
        offset_noise=0.1,
        ip_noise_gamma=0.1,
        snr_gamma=5,
        loss_type="huber",
    )


def test_adamw_that_forgets_the_text_encoder_keeps_counting_steps(trainer):
    """A rate schedule in text, rates of each part apart."""
    check(trainer, (1,), text_encoder_steps=2, learning_rate="1e-3:2, 1e-4", text_encoder_lr=2e-3)


def test_inpainting(tmp_path):
    check(Trainer(tmp_path, base={"inpainting": True}), (2,))


def test_sdxl_with_both_text_encoders(tmp_path):
    check(Trainer(tmp_path, "sdxl"), (1,), text_encoder_steps=2, max_train_steps=3)


def test_v_prediction(tmp_path):
    trainer = Trainer(tmp_path, "sd2", base={"prediction_type": "v_prediction"})
    check(trainer, (2,), zero_terminal_snr=True)


def test_a_finished_run_goes_on_as_one_that_was_longer_from_the_start(trainer):
    longer = trainer.train(max_train_steps=5, text_encoder_steps=4)
    run = trainer.train(max_train_steps=3, text_encoder_steps=4)
    assert training.go_on(run, total=5) == worker.DONE
    training.assert_same_run(longer, run)
    assert training.difference(training.artifact(longer), training.artifact(run)) == ""
    assert run.state()["total"] == 5
    assert run.config.max_train_steps == 3  # config.json never changes


def test_a_finished_run_without_more_steps_is_written_again_and_unchanged(trainer):
    run = trainer.train(max_train_steps=2)
    before = training.artifact(run)
    assert training.go_on(run) == worker.DONE
    assert training.difference(training.artifact(run), before) == ""
    assert len(training.losses(run)) == 2


def test_no_going_back(trainer):
    run = trainer.train(max_train_steps=3)
    assert training.go_on(run, total=2) == worker.BAD_INPUT
    assert training.events(run, "error")[-1]["field"] == "max_train_steps"


def test_the_same_seed_is_the_same_run_and_another_is_not(trainer):
    one, same, other = (trainer.train(max_train_steps=2, seed=seed) for seed in (1, 1, 2))
    training.assert_same_run(one, same)
    assert training.difference(training.weights(one), training.weights(other)) != ""


def test_a_full_disk_does_not_count_what_the_run_has_written_itself(trainer, monkeypatch):
    """A run that just fitted must fit again when it is resumed."""
    run = trainer.train(max_train_steps=2)
    need = next(event["plan"]["disk"] for event in training.events(run, "status") if "plan" in event)
    monkeypatch.setattr(worker.plan, "MARGIN", 0)
    monkeypatch.setattr(worker.files, "free_bytes", lambda path: need - run.size() + 4096)
    monkeypatch.setattr("dreambooth_ext.engine.formats.verified_write.free_bytes", lambda path: 2**40)
    assert training.go_on(run, total=3) == worker.DONE, training.log(run)


@pytest.mark.parametrize(("before", "now"), [("adamw8bit", "adamw"), ("adamw", "adamw8bit")])
def test_auto_stays_what_it_was_when_the_run_began(trainer, monkeypatch, before, now):
    """It means another optimizer in another version or on another machine, which could not read these states."""
    if reason := missing_optimizer("adamw8bit", torch.device("cpu")):
        pytest.skip(reason)
    whole = trainer.train(optimizer=before, max_train_steps=4)
    monkeypatch.setattr(plan, "choose_optimizer", lambda method, device: before)
    run = trainer.train(optimizer="auto", max_train_steps=2)
    monkeypatch.setattr(plan, "choose_optimizer", lambda method, device: now)
    assert training.go_on(run, total=4) == worker.DONE, training.log(run)
    training.assert_same_run(whole, run)
    assert run.config.optimizer == "auto" and run.state()["plan"]["optimizer"] == before
    assert trainer.train(optimizer="auto").state()["plan"]["optimizer"] == now
