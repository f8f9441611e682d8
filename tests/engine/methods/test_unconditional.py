"""Unconditional models: against diffusers' train_unconditional.py written down again, its EMA and its pipeline."""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from PIL import Image

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.verbs.generate_options import add_arguments
from dreambooth_ext.engine import deep_check, memory_estimate, worker
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.models.ddpm_folder import Pipeline
from dreambooth_ext.engine.models.unconditional_base import DEFAULT, open_pixels
from dreambooth_ext.engine.runtime.seeds import generator
from dreambooth_ext.engine.training import pixel_backbone
from dreambooth_ext.engine.training.loss import Objective
from dreambooth_ext.engine.training.noise_processes import DDPM
from dreambooth_ext.engine.verbs import generate
from tests import tiny, training
from tests.engine.verbs.test_generate import draw as command
from tests.engine.worker.test_resume import check as check_resume
from tests.training import Trainer

STATES = {"checkpointing_steps": 1, "save_intermediate_models": False}
SHOWN = {"validation_steps": 2, "validation_num_images": 3}


TRAINER = training.pixel_settings


def drawn(pipeline: Path, out: Path, *extra: str) -> list[Path]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return generate.run(parser.parse_args(["--model", str(pipeline), "--out", str(out), "--device", "cpu", *extra]))


# --- the loss


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_the_loss_is_that_of_train_unconditional(trainer, monkeypatch, prediction, schedule):
    """The script's lines, on the pictures and the noise of the first step."""
    seen = []
    original = Objective.per_picture

    def spied(objective, unet, pixels, conditioning, time_ids, draws, *others):
        assert conditioning is None and not any(others)
        seen.append((copy.deepcopy(unet), pixels.clone(), draws.get_state()))
        return original(objective, unet, pixels, conditioning, time_ids, draws, *others)

    monkeypatch.setattr(Objective, "per_picture", spied)
    settings = {"prediction_type": prediction, "ddpm_beta_schedule": schedule, "ddpm_num_steps": 300}
    run = trainer.train(**settings, max_train_steps=1, train_batch_size=3, ddpm_num_inference_steps=2)
    ((unet, clean_images, state),) = seen
    assert clean_images.shape == (3, 3, 32, 32) and clean_images.min() >= -1 and clean_images.max() <= 1
    draws = generator(7, "noise", 0, 0, 0, 0)
    assert torch.equal(draws.get_state(), state)
    timesteps, noise = [], []
    for picture in clean_images:
        timesteps.append(torch.randint(0, 300, (), generator=draws))
        noise.append(torch.randn(picture.shape, generator=draws))
    timesteps, noise = torch.stack(timesteps), torch.stack(noise)
    # from here on train_unconditional.py
    scheduler = DDPMScheduler(num_train_timesteps=300, beta_schedule=schedule, prediction_type=prediction)
    noisy_images = scheduler.add_noise(clean_images, noise, timesteps)
    with torch.no_grad():
        model_output = unet(noisy_images, timesteps).sample
    if prediction == "epsilon":
        loss = torch.nn.functional.mse_loss(model_output.float(), noise.float())
    else:
        alpha_t = scheduler.alphas_cumprod[timesteps].reshape(3, 1, 1, 1)
        snr_weights = alpha_t / (1 - alpha_t)
        loss = snr_weights * torch.nn.functional.mse_loss(model_output.float(), clean_images.float(), reduction="none")
        loss = loss.mean()
    assert training.losses(run) == [pytest.approx(float(loss), rel=1e-5)]


def test_weights_of_timesteps_mean_the_same_whatever_is_predicted():
    """Of one picture, the losses of a model of the sample and of the noise that it implies are equal everywhere."""
    known = {"num_train_timesteps": 1000, "beta_schedule": "linear"}
    for weighting in ({}, {"snr_gamma": 5.0}, {"debiased_estimation": True}):
        config = RunConfig(method="unconditional", **weighting)
        by_noise, by_sample = (DDPM(config, known, kind) for kind in ("epsilon", "sample"))
        signal = by_noise.schedule.alphas_cumprod.double()
        error_of_sample = torch.full((1000,), 0.1, dtype=torch.float64)
        error_of_noise = error_of_sample * (signal / (1 - signal)).sqrt()
        torch.testing.assert_close(
            by_sample.weights_t * error_of_sample**2, by_noise.weights_t * error_of_noise**2, rtol=1e-4, atol=0
        )


def test_a_long_schedule_is_trained_to_its_end(trainer, monkeypatch):
    found = []
    original = Objective.per_picture

    def spied(objective, *arguments, **options):
        found.append(objective.process.timesteps)
        return original(objective, *arguments, **options)

    monkeypatch.setattr(Objective, "per_picture", spied)
    trainer.train(ddpm_num_steps=4000, max_train_steps=1)
    trainer.train(ddpm_num_steps=4000, max_train_steps=1, min_timestep=10, max_timestep=500)
    assert found == [range(4000), range(10, 500)]


# --- what learns


def test_the_default_is_diffusers_own():
    """train_unconditional.py's UNet2DModel, called as there."""
    base = open_pixels(RunConfig(method="unconditional", resolution=64))
    with torch.device("meta"):
        model = UNet2DModel(
            sample_size=64,
            in_channels=3,
            out_channels=3,
            layers_per_block=2,
            block_out_channels=(128, 128, 256, 256, 512, 512),
            down_block_types=(*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
        )
    assert base._shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert base.parameter_counts()["unet"] == sum(p.numel() for p in model.parameters()) == 113_673_219
    assert base.multiple == 32 and base.resolution == 64
    with torch.device("meta"):
        same = UNet2DModel.from_config({**DEFAULT, "sample_size": 64})
    assert dict(same.config) == dict(model.config) | {
        key: list(value) for key, value in model.config.items() if isinstance(value, tuple)
    }


def test_new_weights_follow_from_the_seed(trainer):
    def weights(seed: int) -> dict:
        return open_pixels(trainer.config(seed=seed)).unet().state_dict()

    before = torch.get_rng_state()
    assert training.difference(weights(1), weights(1)) == ""
    assert training.difference(weights(1), weights(2)) != ""
    assert torch.equal(torch.get_rng_state(), before)


def test_everything_learns(trainer):
    before = open_pixels(trainer.config()).unet().state_dict()
    run = trainer.train(max_train_steps=3)
    after = training.weights(run)
    still = {key for key, tensor in before.items() if torch.equal(tensor, after[f"unet/{key}"])}
    assert still == set()


def test_the_moving_average_is_diffusers_with_inverse_gamma_and_power(trainer):
    average = {"use_ema": True, "ema_decay": 0.9, "ema_inv_gamma": 2.0, "ema_power": 0.5}
    run = trainer.train(**STATES, **average, max_train_steps=4)
    unet = open_pixels(trainer.config()).unet()
    ema = EMAModel(unet.parameters(), decay=0.9, use_ema_warmup=True, inv_gamma=2.0, power=0.5)
    names = [name for name, _ in unet.named_parameters()]
    for step in range(1, 5):
        weights = training.weights(run, step)
        unet.load_state_dict({key.removeprefix("unet/"): value for key, value in weights.items()})
        ema.step(unet.parameters())
        assert ema.cur_decay_value == pytest.approx(max(0, min(0.9, 1 - (1 + (step - 1) / 2) ** -0.5)))
    model = training.artifact(run)
    for name, expected in zip(names, ema.shadow_params, strict=True):
        torch.testing.assert_close(model[name], expected, rtol=1e-6, atol=1e-7)
    assert training.difference(model, {name: weights[f"unet/{name}"] for name in names}) != ""


def test_gradient_checkpointing_is_the_same_training_within_rounding(trainer):
    plain = trainer.train(max_train_steps=2)
    run = trainer.train(max_train_steps=2, gradient_checkpointing=True)
    assert training.losses(run) == pytest.approx(training.losses(plain), rel=1e-5)


# --- going on


def test_exact_resume(trainer):
    check_resume(trainer, (1, 3), use_ema=True, random_flip=True, center_crop=False, train_batch_size=2)


def test_exact_resume_of_sample_models_with_warm_up_and_previews(trainer):
    check_resume(
        trainer,
        (2,),
        prediction_type="sample",
        ddpm_beta_schedule="squaredcos_cap_v2",
        lr_scheduler="cosine",
        lr_warmup_steps=2,
        gradient_accumulation_steps=2,
        **SHOWN,
    )


def test_a_finished_model_goes_on_in_another_run(trainer):
    first = trainer.train(max_train_steps=2, ddpm_beta_schedule="squaredcos_cap_v2", prediction_type="sample")
    folder = first.artifacts / "taught"
    settings = {"base_model": str(folder), "model_config": None, "ddpm_beta_schedule": "squaredcos_cap_v2"}
    base = open_pixels(trainer.config(**settings))
    assert base.prediction_type == "sample"
    assert training.difference(base.unet().state_dict(), training.artifact(first)) == ""
    run = trainer.train(**settings, max_train_steps=1)
    assert training.difference(training.artifact(run), training.artifact(first)) != ""
    refused = trainer.create(**{**settings, "ddpm_beta_schedule": "linear"})
    assert training.go_on(refused) == worker.BAD_INPUT
    (error,) = training.events(refused, "error")
    assert error["field"] == "ddpm_beta_schedule" and "squaredcos_cap_v2" in error["remedy"]


# --- what comes out


def test_the_folder_is_diffusers_pipeline_and_draws_the_same(trainer, tmp_path):
    run = trainer.train(max_train_steps=2, ddpm_beta_schedule="squaredcos_cap_v2")
    folder = run.artifacts / "taught"
    assert sorted(path.name for path in folder.iterdir()) == ["model_index.json", "scheduler", "unet"]
    pipeline = DDPMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.scheduler.config.beta_schedule == "squaredcos_cap_v2" and pipeline.unet.config.sample_size == 32
    paths = drawn(folder, tmp_path / "out", "--num-images", "3", "--seed", "5", "--steps", "7", "--batch-size", "2")
    assert [path.name for path in paths] == ["0_5.png", "0_6.png", "0_7.png"]
    for seed, path in zip((5, 6, 7), paths, strict=True):
        (expected,) = pipeline(generator=torch.Generator().manual_seed(seed), num_inference_steps=7).images
        ours = np.asarray(Image.open(path)).astype(int)
        assert np.abs(ours - np.asarray(expected).astype(int)).max() <= 1
    text = Image.open(paths[1]).text["parameters"]
    assert text.startswith("Steps: 7, Sampler: DDPM,") and "Seed: 6, Size: 32x32, Model: taught" in text
    alone = drawn(folder, tmp_path / "alone", "--seed", "5", "--steps", "7")
    (expected,) = pipeline(generator=torch.Generator().manual_seed(5), num_inference_steps=7).images
    assert np.array_equal(np.asarray(Image.open(alone[0])), np.asarray(expected))


def test_the_artifact_says_what_it_is(trainer):
    run = trainer.train(max_train_steps=2, checkpointing_steps=1, save_precision="fp16")
    middle, last = training.events(run, "artifact")
    assert (middle["file"], last["file"]) == ("taught_1", "taught") and last["kind"] == "unconditional"
    folder = run.artifacts / "taught"
    assert last["size"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert {tensor.dtype for tensor in training.artifact(run).values()} == {torch.float16}
    header = (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    about = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    assert about["format"] == "pt" and about["modelspec.architecture"] == "ddpm-unconditional"
    settings = json.loads(about["dreambooth_ext.settings"])
    assert settings["train_data_dir"] == "pictures" and settings["ddpm_beta_schedule"] == "linear"


def test_the_plan_counts_the_previews_that_are_drawn_at_once(tmp_path):
    """Counted for the default model: 0.34 GB for 16 pictures of 64 (benchmarks/count.py)."""
    config = RunConfig(**{**training.PIXELS, "resolution": 64, "validation_steps": 1, "validation_num_images": 64})
    config = config.replace(device="cuda:0", mixed_precision="no", gradient_checkpointing=False, cache_latents=False)
    base = open_pixels(config)
    assert memory_estimate._drawing(config, base) == pytest.approx(0.34e9, rel=0.05)
    for changes, share in (({"validation_num_images": 4}, 1 / 4), ({"resolution": 256}, 1), ({"resolution": 512}, 4)):
        found = memory_estimate._drawing(config.replace(**changes), base)
        assert found == pytest.approx(share * memory_estimate._drawing(config, base), rel=0.01)


def test_previews_are_drawn_some_at_a_time(trainer, tmp_path, monkeypatch):
    """64 at once would take more than the training; each is the same picture as alone."""
    run = trainer.train(max_train_steps=1)
    pipeline = Pipeline(run.artifacts / "taught", "model")
    unet, scheduler, seeds, told = pipeline.unet(), pipeline.scheduler(), list(range(7)), []
    sizes = []
    unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    monkeypatch.setattr(pixel_backbone, "PIXELS_AT_ONCE", 3 * 32 * 32)
    together = pixel_backbone.sample_pixels(unet, scheduler, seeds, 32, 2, lambda done, of: told.append((done, of)))
    assert sizes == [3, 3, 3, 3, 1, 1]
    assert told == [(3, 14), (6, 14), (9, 14), (12, 14), (13, 14), (14, 14)]
    monkeypatch.setattr(pixel_backbone, "PIXELS_AT_ONCE", 1)
    for one, other in zip(together, pixel_backbone.sample_pixels(unet, scheduler, seeds, 32, 2), strict=True):
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max() <= 1


def test_previews_are_grids(trainer):
    run = trainer.train(**SHOWN)
    samples = training.events(run, "sample")
    assert [(event["step"], event["prompt"], event["seed"]) for event in samples] == [(2, "", 0), (4, "", 0)]
    with Image.open(samples[0]["path"]) as sheet:
        assert sheet.size == (64, 64)  # two columns, two rows
        assert np.asarray(sheet)[32:, 32:].max() == 0  # three pictures leave a place
    one = trainer.train(validation_steps=4, validation_seed=1)
    with Image.open(training.events(one, "sample")[0]["path"]) as alone, Image.open(samples[1]["path"]) as sheet:
        beside = np.asarray(sheet)[:32, 32:].astype(int)  # the grid's second has seed 1, too
        assert np.abs(np.asarray(alone).astype(int) - beside).max() <= 1


def test_drawing_takes_no_words(trainer, tmp_path):
    folder = trainer.train(max_train_steps=1).artifacts / "taught"
    for extra, field in [
        (("--prompt", "a cat"), "prompt"),
        (("--cfg-scale", "3"), "cfg_scale"),
        (("--width", "64"), "width"),
        (("--sampler", "Euler a"), "sampler"),
    ]:
        with pytest.raises(UserError) as error:
            drawn(folder, tmp_path / "out", *extra)
        assert error.value.problem.field == field
    with pytest.raises(UserError) as error:
        drawn(tiny.single_file(tmp_path), tmp_path / "out")
    assert error.value.problem.field == "prompt"
    assert command(tiny.single_file(tmp_path), tmp_path / "out")  # with words, as ever


# --- what is wrong is said


@pytest.mark.parametrize(
    "wrong, field",
    [
        ({"instance_prompt": "a cat"}, "instance_prompt"),
        ({"cache_latents": True}, "cache_latents"),
        ({"rank": 4}, "rank"),
        ({"validation_prompts": ["a"]}, "validation_prompts"),
        ({"resolution": 36}, "resolution"),
        ({"ddpm_num_inference_steps": 2000}, "ddpm_num_inference_steps"),
        ({"ddpm_num_steps": 100, "min_timestep": 200, "ddpm_num_inference_steps": 5}, "min_timestep"),
        ({"ema_power": 0.5}, "ema_power"),
        ({"ddpm_beta_schedule": "cosine"}, "ddpm_beta_schedule"),
        ({"prediction_type": "x"}, "prediction_type"),
        ({"train_data_dir": "/no/such"}, "train_data_dir"),
        ({"train_data_dir": ""}, "train_data_dir"),
        ({"dataset_name": "a/b"}, "dataset_name"),
        ({"dataset_name": "../b", "train_data_dir": ""}, "dataset_name"),
        ({"model_config": "/no/such.json"}, "model_config"),
        ({"base_model": "/no/such"}, "base_model"),
        ({"hub_model_id": "me/mine"}, "hub_model_id"),
        ({"push_to_hub": True, "hub_model_id": "a/b/c"}, "hub_model_id"),
    ],
)
def test_settings_that_do_not_fit_are_refused(trainer, wrong, field):
    config, found = parse({**trainer.settings, **wrong})
    found = found or config_checks.check(config)[3]
    assert field in {problem.field for problem in found}, list(map(str, found))


def test_the_sample_is_only_predicted_without_a_base(tmp_path):
    config, _ = parse({**Trainer(tmp_path).settings, "prediction_type": "sample"})
    assert [problem.field for problem in config_checks.check(config)[3]] == ["prediction_type"]


@pytest.mark.parametrize(
    "content, words",
    [
        ({"in_channels": 1}, "channels"),
        ({"num_class_embeds": 10}, "by class"),
        ({"block_out_channels": [8]}, "no model can be built"),
        ({"down_block_types": ["Nonsense", "DownBlock2D"]}, "no model can be built"),
        ({"_class_name": "UNet2DConditionModel"}, "not the configuration of a UNet2DModel"),
        ("[]", "not the configuration of a UNet2DModel"),
        ("{", "cannot be read"),
    ],
)
def test_configurations_that_cannot_be(trainer, tmp_path, content, words):
    if isinstance(content, str):
        path = tmp_path / "odd.json"
        path.write_text(content, encoding="utf-8")
    else:
        path = tiny.pixel_config(tmp_path / "odd", **content)
    run = trainer.create(model_config=str(path))
    assert training.go_on(run) == worker.BAD_INPUT
    (error,) = training.events(run, "error")
    assert error["field"] == "model_config" and words in error["what"], error


def test_pictures_have_to_halve_evenly(trainer):
    run = trainer.create(model_config=None, resolution=48)
    assert training.go_on(run) == worker.BAD_INPUT
    (error,) = training.events(run, "error")
    assert error["field"] == "resolution" and error["remedy"] == "Use 64."


def damaged(folder: Path, out: Path, change: str) -> Path:
    shutil.copytree(folder, out)
    weights = out / "unet" / "diffusion_pytorch_model.safetensors"
    if change == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif change == "none":
        weights.unlink()
    else:
        (out / change).write_text("{", encoding="utf-8")
    return out


@pytest.mark.parametrize("change", ["cut", "none", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_damaged_folder_is_told(trainer, tmp_path, change):
    folder = trainer.train(max_train_steps=1).artifacts / "taught"
    bad = damaged(folder, tmp_path / "bad", change)
    with pytest.raises(UserError) as error:
        drawn(bad, tmp_path / "out", "--steps", "1")
    assert error.value.problem.field == "model"


def test_a_checkpoint_is_no_unconditional_model(trainer, tmp_path):
    run = trainer.create(base_model=str(tiny.single_file(tmp_path)), model_config=None)
    assert training.go_on(run) == worker.BAD_INPUT
    assert training.events(run, "error")[0]["field"] == "base_model"


def test_an_unconditional_model_is_no_base(trainer, tmp_path):
    folder = trainer.train(max_train_steps=1).artifacts / "taught"
    with pytest.raises(UserError) as error:
        open_base(folder)
    assert error.value.problem.field == "base_model"
    assert Pipeline(folder, "model").size == 32


# --- the plan


def test_the_check_knows_the_model_and_the_pictures(trainer, tmp_path):
    config = trainer.config()
    answer = deep_check.inspect(config.as_dict(), tmp_path / "runs")
    assert answer["problems"] == [] and answer["plan"]["pictures"] == 3
    assert answer["plan"]["family"] == "Unconditional model" and answer["plan"]["text_encoder_steps"] == 0


def test_the_plans_disk_is_what_a_run_writes(trainer):
    run = trainer.train(checkpointing_steps=2, use_ema=True)
    plan = run.state()["plan"]
    written = sum(p.stat().st_size for f in ("checkpoints", "artifacts") for p in (run.path / f).rglob("*.*"))
    assert 0.7 * written < plan["disk"] < 2.5 * written
