"""What a run measures of itself: always the same numbers, beside the base's, and without any effect on the training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth_ext.core.verdict import measuring, regions
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.runtime.seeds import generator
from dreambooth_ext.engine.training import fixed_loss
from dreambooth_ext.engine.training.fixed_loss import FILE, Known
from tests import training
from tests.engine.worker.test_resume import copy_at
from tests.seldom import seldom
from tests.training import Trainer

SMALL = measuring.Sizes(learned=3, held=3, classes=2, drift=2, word=2)
PRIOR = {"class_prompt": "a photo of a person", "num_class_images": 2}
KEPT = {"validation_split": 1, "validation_loss_steps": 0}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """At each step of a short run, whatever it costs."""

    def sizes(config, budget, has_held, has_classes):
        has_text = config.method != "unconditional"
        parts = {"held": has_held, "classes": has_classes, "drift": has_text, "word": config.method in measuring.WORDED}
        return measuring.Sizes(learned=3, **{name: getattr(SMALL, name) * has for name, has in parts.items()})

    monkeypatch.setattr(measuring, "_sizes", sizes)
    monkeypatch.setattr(measuring, "_steps", lambda total, times: tuple(range(total + 1)))


def measured(run) -> dict[int, dict]:
    return {event["step"]: event for event in training.events(run, "measurement")}


# --- without effect, and exact

SETTINGS = {
    "full": {"text_encoder_steps": 2, **PRIOR},
    "lora": {"method": "lora", "network_dropout": 0.5, "use_ema": True, "ema_decay": 0.5, "text_encoder_steps": 1},
    "finetune": {
        "method": "finetune",
        "instance_prompt": None,
        "use_captions": True,
        "shuffle_tags": True,
        "random_flip": True,
        "center_crop": False,
        "offset_noise": 0.1,
        "ip_noise_gamma": 0.1,
        "train_batch_size": 2,
    },
    "hypernetwork": {"method": "hypernetwork"},
    "textual inversion": {"method": "textual_inversion", "instance_prompt": None, "prompt_template": "subject"},
    "word with a lora": {"method": "lora", "placeholder_token": "sksper", "embedding_steps": 2, "embedding_lr": 1e-2},
}


@pytest.mark.parametrize("name", seldom(SETTINGS, but=["full", "word with a lora"]))
def test_it_changes_nothing_and_resuming_is_exact(tmp_path, name):
    settings = SETTINGS[name]
    """To the bit: weights and optimizer with it and without, and after a kill, and all that is measured."""
    folder = training.pictures(tmp_path / "pictures", 5, captions=True)
    trainer = Trainer(tmp_path, instance_data_dir=folder, **KEPT)
    whole = trainer.train(checkpointing_steps=1, save_intermediate_models=False, **settings)
    without = trainer.train(**settings, measure_progress=False)
    training.assert_same_run(whole, without)
    assert training.losses(whole) == training.losses(without)
    assert training.difference(training.artifact(whole), training.artifact(without)) == ""
    assert not training.events(without, "measurement") and not (without.path / FILE).exists()
    again = copy_at(whole, 2, trainer.folder)
    before = len(training.events(again, "measurement"))
    assert training.go_on(again) == worker.DONE, training.log(again)
    training.assert_same_run(whole, again)
    strip = [{k: v for k, v in e.items() if k not in ("n", "time")} for e in training.events(again, "measurement")]
    assert before == 5 and strip[before:] == strip[3:5]
    assert sorted(measured(whole)) == [0, 1, 2, 3, 4]


def test_a_broken_first_step_measures_the_base_again(trainer):
    whole = trainer.train(max_train_steps=2, checkpointing_steps=1, **KEPT)
    again = copy_at(whole, 0, trainer.folder)
    (again.path / FILE).write_bytes(b"cut sho")
    assert training.go_on(again) == worker.DONE, training.log(again)
    assert (again.path / FILE).read_bytes() == (whole.path / FILE).read_bytes()


# --- the numbers


def test_the_base_is_one_and_learning_is_less(trainer):
    run = trainer.train(max_train_steps=30, **KEPT, **PRIOR)
    first, last = measured(run)[0], measured(run)[30]
    assert first["learned"] == {"low": 1.0, "middle": 1.0, "high": 1.0} == first["held_bins"]
    assert first["held"] == first["class"] == 1.0 and first["drift"] == 0.0 and abs(first["word"]) < 0.2
    assert all(ratio < 0.9 for ratio in last["learned"].values())
    assert last["drift"] > 0.01 and last["class"] < 1


def test_it_is_the_direct_computation(trainer, monkeypatch):
    """Of the base, by diffusers' parts, one sample after the other."""
    direct = {}
    original = worker.make_method

    def made(config, base, dataset, *others):
        method = original(config, base, dataset, *others)
        direct.update(directly(base, dataset, method))
        return method

    monkeypatch.setattr(worker, "make_method", made)
    run = trainer.train(max_train_steps=2, **KEPT)
    known = Known.read(run.path / FILE)
    assert known.losses == {name: pytest.approx(losses, rel=1e-4) for name, losses in direct.items()}
    assert [sample.caption for sample in known.drift] == list(measuring.UNRELATED[:2])
    words = [direct["learned"][1], direct["learned"][2]]
    effect = math.exp(sum(math.log(a / b) for a, b in zip(words, direct["word"], strict=True)) / 2)
    assert measured(run)[0]["word"] == pytest.approx(1 - effect, rel=1e-3)


@torch.no_grad()
def directly(base, dataset, method) -> dict[str, list[float]]:
    vae, unet, prompts = base.vae(torch.float32).eval(), method.backbone.unet, method.backbone.prompts
    found: dict[str, list[float]] = {"learned": [], "held": [], "classes": [], "word": [], "drift": [0.0, 0.0]}
    shuffled = torch.randperm(2, generator=generator(7, "measured pictures")).tolist()
    pictures = {"learned": [dataset.pictures[shuffled[i]] for i in (0, 1, 0)], "held": dataset.held * 3}
    for part, chosen in pictures.items():
        for index, picture in enumerate(chosen):
            pixels = torch.from_numpy(np.array(Image.open(picture.entry.path)))
            posterior = vae.encode(pixels.permute(2, 0, 1)[None] / 127.5 - 1).latent_dist
            drawn = generator(7, "measured", part, index)
            noise = torch.randn(posterior.mean.shape[1:], generator=drawn)
            latents = (posterior.mean + posterior.std * noise) * base.architecture.vae["scaling_factor"]
            drawn = generator(7, "measured noise", part, index)
            timestep = torch.tensor([(166, 500, 833)[index]])
            torch.randint(0, 1, (), generator=drawn)
            noise = torch.randn(latents.shape[1:], generator=drawn)[None]
            noisy = method.objective.process.schedule.add_noise(latents, noise, timestep)
            for caption in ("a photo of sksper person", "a photo of person"):
                predicted = unet(noisy, timestep, encoder_hidden_states=prompts([caption]).hidden_bsd).sample
                loss = torch.nn.functional.mse_loss(predicted, noise).item()
                if caption == "a photo of sksper person":
                    found[part].append(loss)
                elif part == "learned" and index:
                    found["word"].append(loss)
    return found


# --- what is measured, and when


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, {"held", "drift", "word"}),
        (PRIOR, {"class", "drift", "word"}),
        ({"method": "finetune"}, {"held", "drift"}),
        ({"method": "hypernetwork"}, {"held", "drift"}),
    ],
)
def test_which_numbers_there_are(trainer, settings, parts):
    run = trainer.train(max_train_steps=2, **{**(KEPT if "class_prompt" not in settings else {}), **settings})
    last = measured(run)[2]
    assert {name for name in ("held", "class", "drift", "word") if last[name] is not None} == parts


def test_what_others_suffer_is_measured_at_every_third(trainer):
    found = measured(trainer.train(max_train_steps=12, **KEPT))
    steps = sorted(found)
    whole = [steps[index] for index in measuring.whole(len(steps))]
    assert len(steps) > 4 and [step for step in steps if found[step]["drift"] is not None] == whole
    assert [step for step in steps if found[step]["word"] is not None] == whole
    assert all(found[step]["held"] and found[step]["learned"] for step in steps)


def test_pixels(tmp_path):
    run = Trainer(tmp_path, **training.pixel_settings(tmp_path)).train(max_train_steps=2, **KEPT)
    assert measured(run)[2]["held"] is not None and measured(run)[2]["drift"] is None is measured(run)[2]["word"]


@pytest.mark.parametrize("family", seldom(["sd2", "sdxl"], but=["sdxl"]))
def test_other_families(tmp_path, family):
    trainer = Trainer(tmp_path, family, base={"prediction_type": "v_prediction"} if family == "sd2" else {})
    settings = {
        "max_train_steps": 3,
        "checkpointing_steps": 1,
        "save_intermediate_models": False,
        "text_encoder_steps": 2,
    }
    run = trainer.train(**settings, **KEPT, **({"zero_terminal_snr": True} if family == "sd2" else {}))
    assert 0 < measured(run)[3]["drift"] < 100
    again = copy_at(run, 1, trainer.folder)
    assert training.go_on(again) == worker.DONE, training.log(again)
    for name in ("learned", "drift", "word"):
        assert measured(again)[3][name] == measured(run)[3][name]


def test_inpainting_and_masks(tmp_path):
    trainer = Trainer(tmp_path, base={"inpainting": True})
    run = trainer.train(checkpointing_steps=1, save_intermediate_models=False, **KEPT)
    assert measured(run)[4]["drift"] is None and measured(run)[0]["held"] == 1.0
    again = copy_at(run, 2, trainer.folder)
    assert training.go_on(again) == worker.DONE, training.log(again)
    assert measured(again)[4]["learned"] == measured(run)[4]["learned"]


def test_other_pictures_end_the_measuring(trainer, tmp_path):
    run = trainer.train(checkpointing_steps=1, save_intermediate_models=False, **KEPT)
    again = copy_at(run, 2, trainer.folder)
    known = Known.read(again.path / FILE)
    known.fingerprint.sums_n2.add_(1)
    known.write(again.path / FILE)
    assert training.go_on(again) == worker.DONE, training.log(again)
    (warning,) = [event for event in training.events(again, "warning") if event["field"] == "measure_progress"]
    assert "other pictures" in warning["what"]
    assert len(training.events(again, "measurement")) == 5  # those of the first part


def test_a_run_of_an_earlier_version_is_not_measured(trainer):
    run = trainer.train(checkpointing_steps=1, save_intermediate_models=False, **KEPT)
    again = copy_at(run, 2, trainer.folder)
    (again.path / FILE).unlink()
    assert training.go_on(again) == worker.DONE
    assert len(training.events(again, "measurement")) == 5 and not training.events(again, "warning")


def test_too_little_memory_is_a_warning(trainer, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(fixed_loss.FixedLoss, "_losses", full)
    run = trainer.train(max_train_steps=2, **KEPT)
    warnings = [event for event in training.events(run, "warning") if event["field"] == "measure_progress"]
    assert len(warnings) == 1 and "memory" in warnings[0]["what"] and len(training.losses(run)) == 2


@pytest.mark.parametrize(("broken", "left"), [(2, [0, 1, 3, 4]), (0, [])])
def test_an_overflow_leaves_one_measurement_out_and_the_bases_all(trainer, monkeypatch, broken, left):
    original = fixed_loss.FixedLoss._losses
    counts = iter(range(99))

    def once(self, *arguments):
        found = original(self, *arguments)
        if next(counts) == broken:
            found["learned"][0] = math.inf
        return found

    monkeypatch.setattr(fixed_loss.FixedLoss, "_losses", once)
    assert sorted(measured(trainer.train(**KEPT))) == left


def test_tensorboard_has_the_curves(trainer):
    event_file = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = trainer.train(report_to="tensorboard", **KEPT)
    found = event_file.EventAccumulator(str(run.path / "tensorboard")).Reload()
    for tag, number in (
        ("measured/learned/high", lambda e: e["learned"]["high"]),
        ("measured/drift", lambda e: e["drift"]),
    ):
        curve = {item.step: item.value for item in found.Scalars(tag)}
        assert curve == pytest.approx(
            {step: number(event) for step, event in measured(run).items() if number(event) is not None}
        )


# --- the end that it finds


def over_from(monkeypatch, step: int, is_sure: bool = True) -> None:
    """Let the regions say from `step` on that the run overfits, or has become flat."""

    def of(measurements):
        seen = step if measurements and measurements[-1]["step"] >= step else None
        return regions.Regions(good=1, overfitting=seen if is_sure else None, flat=seen, is_sure=is_sure)

    monkeypatch.setattr(regions, "of", of)


@pytest.mark.parametrize(("is_sure", "why"), [(True, "kept back"), (False, "nothing new")])
def test_it_stops_when_good(trainer, monkeypatch, is_sure, why):
    """At the first measurement that says so, as a run that was that long from the start, and says why."""
    over_from(monkeypatch, 3, is_sure)
    run = trainer.train(max_train_steps=6, stop_when_good=True, **KEPT)
    assert run.state()["status"] == "done" and run.state()["total"] == 3 and len(training.losses(run)) == 3
    (warning,) = [event for event in training.events(run, "warning") if event["field"] == "stop_when_good"]
    assert "stopped at step 3 of 6" in warning["what"] and why in warning["what"]
    (artifact,) = run.artifact_events()
    assert artifact["final"] and artifact["step"] == 3
    same = trainer.train(max_train_steps=3, **KEPT)
    training.assert_same_run(run, same)
    assert training.difference(training.artifact(run), training.artifact(same)) == ""


def test_it_goes_on_where_nobody_asked_for_an_end(trainer, monkeypatch):
    over_from(monkeypatch, 3)
    assert len(training.losses(trainer.train(max_train_steps=5, **KEPT))) == 5


def test_trained_longer_it_goes_on(trainer, monkeypatch):
    over_from(monkeypatch, 3)
    run = trainer.train(max_train_steps=6, stop_when_good=True, **KEPT)
    assert training.go_on(run, total=6) == worker.DONE, training.log(run)
    assert len(training.losses(run)) == 6 and run.state()["total"] == 6
    training.assert_same_run(run, trainer.train(max_train_steps=6, **KEPT))


@pytest.mark.parametrize("kill_at", [2, 3])
def test_killed_before_its_last_model_it_stops_all_the_same(trainer, monkeypatch, kill_at):
    over_from(monkeypatch, 3)
    about = {"checkpointing_steps": 1, "save_intermediate_models": False}
    run = trainer.train(max_train_steps=6, stop_when_good=True, **about, **KEPT)
    again = copy_at(run, kill_at, trainer.folder)
    if kill_at == 2:  # before the measurement that says so
        lines = (again.path / "events.jsonl").read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if b'"measurement", "step": 3' not in line]
        (again.path / "events.jsonl").write_bytes(b"".join(kept))
        again.write_state(total=6)
    assert training.go_on(again) == worker.DONE, training.log(again)
    training.assert_same_run(run, again)
    assert again.state()["total"] == 3
