"""Latents that are encoded when a step first needs them are those that are encoded before training, to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine import plan, worker
from dreambooth_ext.engine.data import latent_encoding
from dreambooth_ext.engine.data.dataset import Dataset
from dreambooth_ext.engine.data.prefetch import ReadAhead
from tests import training
from tests.engine.data.test_dataset import SCALING, draw, folder
from tests.engine.data.test_latent_cache import make_vae


def made(
    config: RunConfig, cache: Path | None = None, *, meanwhile: bool = True, vae=None
) -> tuple[Dataset, list[int]]:
    """A data set, and how many pictures went through the VAE at a time so far."""
    config = config.replace(cache_latents_to_disk=cache is not None)
    entries, problems = picture_entries.entries(config)
    assert problems == []
    dataset, sizes, vae = Dataset(config, Subjects.of(config), entries, SCALING, cache_dir=cache), [], vae or make_vae()
    vae.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    dataset.encode(vae, meanwhile=meanwhile)
    return dataset, sizes


@pytest.fixture
def config(tmp_path) -> RunConfig:
    draw(tmp_path / "pictures" / "wide.png", 9, (190, 70))
    settings = {"resolution": 64, "random_flip": True, "train_batch_size": 2, "instance_prompt": "sksper", "seed": 3}
    return RunConfig(instance_data_dir=folder(tmp_path / "pictures", 6, size=(70, 90)), **settings)


def taken(dataset: Dataset, step: int, world: int = 1, rank: int = 0) -> list[torch.Tensor]:
    dataset.fill(step, dataset.config.gradient_accumulation_steps, rank, world)
    return [batch.latents_bchw for batch in dataset.batches(step, 0, rank, world)]


@pytest.mark.parametrize("kept", ["in memory", "on disk"])
@pytest.mark.parametrize("start", [0, 5])
def test_every_batch_is_the_same_from_any_step(config, tmp_path, kept, start):
    cache = (tmp_path / "before", tmp_path / "meanwhile") if kept == "on disk" else (None, None)
    before, _ = made(config, cache[0], meanwhile=False)
    filling, sizes = made(config, cache[1])
    assert sizes == [] and filling.is_filling and not before.is_filling
    for step in range(start, start + 12):
        for one, other in zip(taken(before, step), taken(filling, step), strict=True):
            assert torch.equal(one, other)
    assert not filling.is_filling and sorted(sizes) == [2, 4, 4, 4]  # seven pictures and their mirror images


def test_a_step_encodes_what_it_needs_and_the_rest_follows(config, monkeypatch):
    monkeypatch.setitem(latent_encoding.PIXELS_AT_ONCE, "cpu", 64 * 64)
    dataset, sizes = made(config.replace(train_batch_size=1))
    assert dataset.fill(0, 1, 0, 1) == (1, 14) and sizes == [1]
    assert dataset.fill(0, 1, 0, 1) == (2, 14)  # it lacks nothing now: another one
    for step in range(1, 13):
        assert dataset.fill(step, 1, 0, 1) == (step + 2, 14)
    assert dataset.fill(13, 1, 0, 1) is None and sizes == [1] * 14


def test_the_vae_leaves_memory_with_the_last(config):
    dataset, _ = made(config)
    assert isinstance(dataset.posteriors._vae, AutoencoderKL) and dataset.posteriors._decoded
    while dataset.fill(0, 1, 0, 1):
        pass
    assert dataset.posteriors._vae is None and not dataset.posteriors._decoded


@pytest.mark.parametrize("kept", ["in memory", "on disk"])
def test_two_processes_get_what_one_gets(config, tmp_path, kept):
    cache = tmp_path / "both" if kept == "on disk" else None
    alone, _ = made(config)
    both = [made(config, cache)[0] for _ in range(2)]
    for step in range(4):
        for rank, dataset in enumerate(both):
            wanted = alone.batches(step, 0, rank, 2)
            for one, other in zip(wanted, taken(dataset, step, 2, rank), strict=True):
                assert torch.equal(one.latents_bchw, other)


def test_accumulated_batches_are_encoded_before_the_first_of_them(config):
    dataset, sizes = made(config.replace(gradient_accumulation_steps=2))
    dataset.fill(0, 2, 0, 1)
    count = len(sizes)
    dataset.batches(0, 0)
    dataset.batches(0, 1)
    assert len(sizes) == count


def test_what_was_encoded_before_a_kill_is_not_encoded_again(config, tmp_path, monkeypatch):
    monkeypatch.setitem(latent_encoding.PIXELS_AT_ONCE, "cpu", 64 * 64)
    first, sizes = made(config, tmp_path / "cache")
    wanted = taken(first, 0)
    again, more = made(config, tmp_path / "cache")
    assert len(sizes) == 2 and again.posteriors.counts == (2, 14)
    for one, other in zip(wanted, taken(again, 0), strict=True):
        assert torch.equal(one, other)
    assert len(more) == 1  # step 0 lacks nothing, so it encodes for a later one


def test_broken_pictures_are_left_out_before_the_first_step(config, tmp_path):
    whole = (tmp_path / "pictures" / "sksper (2).png").read_bytes()
    (tmp_path / "pictures" / "sksper (2).png").write_bytes(whole[: len(whole) // 2])
    (before, _), (filling, _) = made(config, meanwhile=False), made(config)
    assert len(filling.pictures) == 6
    for step in range(8):
        for one, other in zip(taken(before, step), taken(filling, step), strict=True):
            assert torch.equal(one, other)


def test_a_vae_that_fails_ends_the_run(config):
    bad = make_vae()
    torch.nn.init.constant_(bad.quant_conv.weight, float("nan"))
    dataset, _ = made(config, vae=bad)
    with pytest.raises(UserError) as caught:
        dataset.fill(0, 1, 0, 1)
    assert caught.value.problem.code == "pictures.vae_fails_in_training"


def test_a_picture_that_is_changed_before_its_turn_is_never_kept_under_the_old_name(config, tmp_path, monkeypatch):
    monkeypatch.setattr(latent_encoding, "DECODED", 0)  # nothing decoded stays
    dataset, _ = made(config, tmp_path / "cache")
    for number, path in enumerate(sorted((tmp_path / "pictures").iterdir())):
        draw(path, number + 50, (190, 70) if path.stem == "wide" else (70, 90))
    with pytest.raises(UserError) as caught:
        dataset.fill(0, 1, 0, 1)
    assert caught.value.problem.code == "pictures.changed_in_training" and not list((tmp_path / "cache").rglob("*.*"))


def test_what_was_decoded_to_look_at_it_is_not_decoded_again(config, monkeypatch):
    (kept, _), (read, _) = made(config), made(config)
    read.posteriors._decoded.clear()
    monkeypatch.setattr(kept.posteriors, "_keep", None)
    monkeypatch.setattr(latent_encoding.files, "sha256_of", None)
    with monkeypatch.context() as patch:
        patch.setattr("dreambooth_ext.engine.data.picture.Picture.pixels", None)
        latents = [taken(kept, step) for step in range(8)]
    for step, wanted in enumerate(latents):
        for one, other in zip(wanted, taken(read, step), strict=True):
            assert torch.equal(one, other)


def test_nothing_is_read_ahead_before_everything_is_there(config, tmp_path):
    dataset, _ = made(config, tmp_path / "cache")
    ahead = ReadAhead(dataset, 1, 40)
    for step in range(20):
        dataset.fill(step, 1, 0, 1)
        was_filling = dataset.is_filling
        ahead.batches(step, 0, 0, 1)
        assert bool(ahead._pending) != was_filling
    ahead.close()


# --- whole runs


@pytest.mark.parametrize("settings", [{}, {"cache_latents_to_disk": True, "random_flip": True}], ids=["memory", "disk"])
def test_a_run_is_the_same_either_way_and_says_how_far_it_is(tmp_path, monkeypatch, settings):
    monkeypatch.setitem(latent_encoding.PIXELS_AT_ONCE, "cpu", 64 * 64)
    trainer = training.Trainer(tmp_path, max_train_steps=8)
    one = trainer.train(**settings)
    assert one.state()["plan"]["encodes"] == "meanwhile"
    kinds = [event.get("stage_code", event["type"]) for event in one.events.read()]
    assert kinds.index("step") < max(i for i, kind in enumerate(kinds) if kind == "stages.caching_latents")
    shutil.rmtree(one.path.parent / "latents", ignore_errors=True)
    monkeypatch.setattr(plan, "when_encoded", lambda *arguments: "before")
    monkeypatch.setattr(latent_encoding.Posteriors, "require_all", None)
    training.go_on(other := trainer.create(**{**settings, "name": "other"}))
    training.assert_same_run(one, other)
    assert other.state()["plan"]["encodes"] == "before"


def test_the_plan_encodes_before_where_there_is_no_room_for_both(tmp_path):
    trainer = training.Trainer(tmp_path)
    config = plan.resolve(trainer.config(), base := worker.STARTS["dreambooth"].open(trainer.config()))
    subjects = Subjects.of(config)
    before, meanwhile = (plan.estimate(config, base, subjects, False, meanwhile=way) for way in (False, True))
    assert before < meanwhile
    found = [plan.when_encoded(config, base, subjects, False, room) for room in (before, meanwhile - 1, meanwhile)]
    assert found == ["before", "before", "meanwhile"]
    assert plan.when_encoded(config.replace(cache_latents=False), base, subjects, False, 2**50) == "always"
