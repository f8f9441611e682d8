"""Which pictures a step trains on: everything once an epoch, the same for the same (seed, step), disjoint by rank."""

from __future__ import annotations

import collections
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.data.entry import Entry
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.pictures.training_crop import centre_crop
from dreambooth_ext.engine.data.dataset import Dataset
from dreambooth_ext.engine.data.picture import Picture

SCALING = 0.18215


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
    )


def draw(path: Path, number: int, size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def folder(path: Path, count: int, word: str = "sksper", size: tuple[int, int] = (64, 64)) -> str:
    for i in range(count):
        draw(path / f"{word} ({i + 1}).png", i, size)
    return str(path)


def dataset(config: RunConfig, vae=None, **options) -> Dataset:
    entries, problems = picture_entries.entries(config)
    assert problems == []
    made = Dataset(config, Subjects.of(config), entries, SCALING, **options)
    made.encode(vae)
    return made


def arranged(sizes: list[tuple[int, int]], repeats: int = 1, classes: int = 0, **values) -> Dataset:
    """A dataset whose order can be looked at; there are no files behind it."""
    config = RunConfig(resolution=512, enable_bucket=True, class_prompt="a" if classes else None, **values)
    entries = [Entry(Path(f"{i}.png"), f"{i}", 0, repeats=repeats) for i in range(len(sizes))]
    entries += [Entry(Path(f"class {i}.png"), "a", 0, is_class=True) for i in range(classes)]
    made = Dataset(config, Subjects.of(config), entries, SCALING)
    sizes = sizes + [(512, 512)] * classes
    found = [Picture(e, centre_crop(s, made.target(s)), "") for e, s in zip(entries, sizes, strict=True)]
    made.arrange(found)
    return made


def order(made: Dataset, epoch: int = 0) -> list[list[int]]:
    plan = made.order.epoch(epoch)
    return [[plan.pictures[place] for place in batch] for batch in plan.batches]


# --- the order

SIZES = st.sampled_from([(512, 512), (800, 600), (600, 800), (1000, 300), (300, 1000)])


@settings(max_examples=80, deadline=None)
@given(st.lists(SIZES, min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 3), st.integers(0, 5))
def test_every_picture_once_an_epoch(sizes, batch_size, repeats, epoch):
    made = arranged(sizes, repeats, train_batch_size=batch_size)
    batches = order(made, epoch)
    assert collections.Counter(i for b in batches for i in b) == dict.fromkeys(range(len(sizes)), repeats)
    assert len(batches) == made.order.batches_per_epoch
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len({made.pictures[i].crop.target for i in batch}) == 1
    short = collections.Counter(made.pictures[b[0]].crop.target for b in batches if len(b) < batch_size)
    assert all(count == 1 for count in short.values())  # only a bucket's last one


def test_epochs_differ_and_seeds_differ():
    made, other = arranged([(512, 512)] * 20), arranged([(512, 512)] * 20, seed=7)
    assert order(made, 0) != order(made, 1)
    assert order(made, 0) != order(other, 0)
    assert order(made, 0) == order(arranged([(512, 512)] * 20), 0)


@pytest.mark.parametrize(
    ("count", "batch", "micros", "world"), [(13, 2, 1, 2), (10, 3, 2, 1), (7, 2, 3, 2), (5, 4, 1, 3)]
)
def test_ranks_and_micro_steps_share_an_epoch_without_gaps(tmp_path, vae, count, batch, micros, world):
    made = dataset(
        RunConfig(
            instance_data_dir=folder(tmp_path, count),
            resolution=64,
            train_batch_size=batch,
            gradient_accumulation_steps=micros,
            keep_back_pictures=False,
        ),
        vae,
    )
    wanted, epochs = made.order.batches_per_epoch, 3
    assert made.order.steps(epochs, world) == math.ceil(epochs * wanted / (micros * world))
    row = []
    for step in range(made.order.steps(epochs, world)):
        for micro in range(micros):
            row += [made.batches(step, micro, rank, world)[0].keys for rank in range(world)]
    for epoch in range(epochs):  # within an epoch no two ranks ever hold the same picture
        keys = [k for b in row[epoch * wanted : (epoch + 1) * wanted] for k in b]
        assert len(keys) == len(set(keys)) == count
    assert made.order.epoch_of(0, world) == 0 and made.order.epochs(wanted, world) == micros * world
    assert made.order.planned_epochs(wanted, world) == micros * world


@pytest.mark.parametrize(("before", "after"), [(1, 2), (3, 1), (2, 3)])
def test_another_number_of_processes_goes_on_where_the_last_one_stopped(tmp_path, vae, before, after):
    """No batch is passed over, and none comes again."""
    config = RunConfig(instance_data_dir=folder(tmp_path, 7), resolution=64, gradient_accumulation_steps=2)
    first, second, alone = (dataset(config, vae) for _ in range(3))
    second.order.go_on(5, first.order.consumed(5, before))

    def row(made: Dataset, steps: range, world: int) -> list[list[str]]:
        places = itertools.product(steps, range(2), range(world))
        return [made.batches(step, micro, rank, world)[0].keys for step, micro, rank in places]

    found = row(first, range(5), before) + row(second, range(5, 9), after)
    assert found == row(alone, range(len(found) // 2), 1)
    assert second.order.epochs(9, after) == len(found) / 7 and second.order.epoch_of(9, after) == len(found) // 7


def test_any_step_at_once_is_the_same(tmp_path, vae):
    config = RunConfig(
        instance_data_dir=folder(tmp_path, 7), resolution=64, train_batch_size=2, random_flip=True, caption_dropout=0.3
    )
    first, second = dataset(config, vae), dataset(config, vae)
    row = [first.batches(step)[0] for step in range(12)]
    for step in (11, 3, 0, 7, 3):
        again = second.batches(step)[0]
        assert again.keys == row[step].keys and again.captions == row[step].captions
        assert torch.equal(again.latents_bchw, row[step].latents_bchw)
        assert torch.equal(again.time_ids_b6, row[step].time_ids_b6)


# --- latents and pixels


def test_latents_are_a_new_sample_of_the_posterior_each_time(tmp_path, vae):
    made = dataset(RunConfig(instance_data_dir=folder(tmp_path, 1), resolution=64), vae)
    pixels = torch.from_numpy(np.array(Image.open(tmp_path / "sksper (1).png"))).permute(2, 0, 1)[None] / 127.5 - 1
    posterior = vae.encode(pixels).latent_dist
    drawn = torch.cat([made.batches(step)[0].latents_bchw for step in range(300)])
    assert drawn.shape[1:] == (4, 8, 8) and not torch.equal(drawn[0], drawn[1])
    noise = (drawn / SCALING - posterior.mean) / posterior.std
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02


def test_latents_sampled_once_or_in_the_middle(tmp_path, vae):
    config = RunConfig(instance_data_dir=folder(tmp_path, 2), resolution=64, train_batch_size=2)

    def drawn(sampling: str) -> list[dict[str, torch.Tensor]]:
        made = dataset(config.replace(latent_sampling=sampling), vae)
        batches = [made.batches(step)[0] for step in range(3)]
        return [dict(zip(batch.keys, batch.latents_bchw / SCALING, strict=True)) for batch in batches]

    once, middle = drawn("once"), drawn("deterministic")
    noises = []
    for path in once[0]:
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 127.5 - 1
        posterior = vae.encode(pixels).latent_dist
        for step in range(3):
            assert torch.equal(once[step][path], once[0][path])
            torch.testing.assert_close(middle[step][path][None], posterior.mean)
        noises.append((once[0][path] - posterior.mean) / posterior.std)
    assert all(abs(noise.std() - 1) < 0.2 for noise in noises) and (noises[0] - noises[1]).abs().max() > 1


@pytest.mark.parametrize("cached", [True, False])
def test_transparency_weighs_the_loss(tmp_path, vae, cached):
    config = RunConfig(instance_data_dir=folder(tmp_path, 2), resolution=64, train_batch_size=2, random_flip=True)
    path = tmp_path / "sksper (1).png"
    with Image.open(path) as picture:
        alpha = Image.new("L", picture.size)
        alpha.paste(255, (32, 0, 64, 64))
        picture.putalpha(alpha)
        picture.save(path)
    assert dataset(config, vae).batches(0)[0].masks_b1hw is None
    made = dataset(config.replace(alpha_as_loss_weight=True, cache_latents=cached), vae if cached else None)
    sides = set()
    for step in range(8):
        batch = made.batches(step)[0]
        masks = dict(zip(batch.keys, batch.masks_b1hw, strict=True))
        clear = masks.pop(str(path))
        assert clear.shape == (1, 8, 8) and clear.mean().item() == pytest.approx(1)
        assert all(torch.equal(mask, torch.ones(1, 8, 8)) for mask in masks.values())
        right = clear[..., 5:].mean() > clear[..., :3].mean()
        flipped = not torch.equal(clear, made.samples.masks.weights(*mask_of(made, path), False)[0])
        assert right != flipped  # the mask is mirrored with its picture
        sides.add(bool(right))
    assert sides == {True, False}


def mask_of(made, path):
    (picture,) = (picture for picture in made.pictures if picture.entry.path == path)
    return picture, picture.crop


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (150, 90)])
def test_cached_latents_are_those_of_the_pixels(tmp_path, vae, flip, size):
    config = RunConfig(instance_data_dir=folder(tmp_path, 3, size=size), resolution=64, random_flip=flip)
    cached = dataset(config, vae)
    plain = dataset(config.replace(cache_latents=False))
    mirrored = 0
    for step in range(9):
        a, b = cached.batches(step)[0], plain.batches(step)[0]
        assert a.pixels_bchw is None and b.latents_bchw is None
        assert a.keys == b.keys and torch.equal(a.time_ids_b6, b.time_ids_b6)
        assert torch.equal(a.weights_b, b.weights_b)
        dist = vae.encode(b.pixels_bchw).latent_dist
        noise = (a.latents_bchw / SCALING - dist.mean) / dist.std
        assert noise.abs().max() < 6 and abs(noise.std() - 1) < 0.2  # the same picture, crop and side
        stored = torch.from_numpy(np.array(Image.open(a.keys[0]))).permute(2, 0, 1)[None]
        if size == (64, 64):
            mirrored += not torch.allclose(b.pixels_bchw, stored / 127.5 - 1)
    if size == (64, 64):
        assert (mirrored > 0) == flip and mirrored < 9


def test_the_cache_equals_an_encoding_at_once(tmp_path, vae):
    config = RunConfig(instance_data_dir=folder(tmp_path, 20), resolution=64, keep_back_pictures=False)
    made = dataset(config, vae)
    for picture in made.pictures:
        pixels = torch.from_numpy(np.array(Image.open(picture.entry.path))).permute(2, 0, 1)[None] / 127.5 - 1
        wanted = vae.encode(pixels).latent_dist.parameters[0]
        assert torch.allclose(made.samples.posteriors.get(picture, False), wanted, atol=1e-5)


def test_random_crops_differ_and_carry_their_conditioning(tmp_path):
    path = tmp_path / "sksper (1).png"
    x = np.tile(np.arange(128, dtype=np.uint8), (64, 1))
    Image.fromarray(np.stack([x] * 3, -1)).save(path)  # a pixel's value is its column
    config = RunConfig(instance_data_dir=str(tmp_path), resolution=64, center_crop=False, random_flip=True)
    made = dataset(config)
    seen = set()
    for step in range(30):
        batch = made.batches(step)[0]
        columns = ((batch.pixels_bchw[0, 0, 0] + 1) * 127.5).round()
        height, width, top, left, *target = batch.time_ids_b6[0].tolist()
        assert (height, width, top, target) == (64, 128, 0, [64, 64])
        flipped = columns[0] > columns[-1]
        assert left == (127 - columns[0] if flipped else columns[0])  # in the mirrored picture, columns run from 127
        seen.add((left, bool(flipped)))
    assert len(seen) > 15 and {flipped for _, flipped in seen} == {True, False}


def test_buckets_keep_proportions(tmp_path, vae):
    draw(tmp_path / "sksper (1).png", 1, (300, 100))
    draw(tmp_path / "sksper (2).png", 2, (100, 300))
    made = dataset(RunConfig(instance_data_dir=str(tmp_path), resolution=128, enable_bucket=True), vae)
    shapes = {tuple(made.batches(step)[0].latents_bchw.shape[2:]) for step in range(2)}
    assert shapes == {(8, 24), (24, 8)}  # 192 x 64: three to one


# --- prior preservation


def prior(tmp_path: Path, classes: int, size=(64, 64), **values) -> RunConfig:
    return RunConfig(
        instance_data_dir=folder(tmp_path / "mine", 5),
        instance_prompt="sksper person",
        class_data_dir=folder(tmp_path / "class", classes, "class", size),
        class_prompt="a person",
        resolution=64,
        train_batch_size=2,
        prior_loss_weight=0.7,
        **values,
    )


@pytest.mark.parametrize("classes", [1, 3, 12])
def test_prior_pairs(tmp_path, vae, classes):
    made = dataset(prior(tmp_path, classes), vae)
    used = collections.Counter()
    for step in range(made.order.batches_per_epoch * 4):
        (batch,) = made.batches(step)
        half = len(batch) // 2
        assert batch.captions == ["sksper person"] * half + ["a person"] * half
        assert batch.weights_b[:half].sum() == pytest.approx(1)
        assert batch.weights_b[half:].sum() == pytest.approx(0.7)
        used.update(batch.keys[half:])
    assert len(used) == classes and max(used.values()) - min(used.values()) <= 1  # each as often as any other


def test_class_pictures_of_another_size_are_a_batch_of_their_own(tmp_path, vae):
    made = dataset(prior(tmp_path, 4, (256, 64), enable_bucket=True).replace(resolution=128), vae)
    instance, of_class = made.batches(0)
    assert instance.captions == ["sksper person"] * 2 and of_class.captions == ["a person"] * 2
    assert instance.weights_b.sum() == pytest.approx(1) and of_class.weights_b.sum() == pytest.approx(0.7)
    assert instance.latents_bchw.shape[2:] == (16, 16) and of_class.latents_bchw.shape[2:] == (8, 32)
    assert of_class.time_ids_b6[0].tolist() == [64, 256, 0, 0, 64, 256]  # its own, not the instance's


def test_each_concept_goes_with_its_own_class(tmp_path, vae):
    concepts = [
        {
            "instance_data_dir": folder(tmp_path / name, 4),
            "instance_prompt": f"sks{name}",
            "class_data_dir": folder(tmp_path / f"class {name}", 3),
            "class_prompt": f"a {name}",
            "repeats": 2,
        }
        for name in ("dog", "man")
    ]
    made = dataset(RunConfig(concepts=concepts, resolution=64, train_batch_size=3), vae)
    seen = collections.Counter()
    for step in range(made.order.batches_per_epoch):
        (batch,) = made.batches(step)
        half = len(batch) // 2
        assert [c.replace("sks", "a ") for c in batch.captions[:half]] == batch.captions[half:]
        seen.update(batch.keys[:half])
    assert len(seen) == 8 and set(seen.values()) == {2}


def test_a_concept_without_a_class_has_no_class_loss(tmp_path, vae):
    concepts = [
        {"instance_data_dir": folder(tmp_path / "a", 1), "instance_prompt": "sksa"},
        {
            "instance_data_dir": folder(tmp_path / "b", 1),
            "instance_prompt": "sksb",
            "class_data_dir": folder(tmp_path / "c", 1),
            "class_prompt": "a b",
        },
    ]
    made = dataset(RunConfig(concepts=concepts, resolution=64, train_batch_size=2), vae)
    (batch,) = made.batches(0)
    assert sorted(batch.captions[:2]) == ["sksa", "sksb"] and batch.captions[2:] == ["a b"]
    assert batch.weights_b.tolist() == [0.5, 0.5, 0.5]


# --- captions


def test_tags_are_shuffled_anew_but_leading_ones_stay(tmp_path, vae):
    instance = folder(tmp_path, 2)
    prompt = "sksper, a, b, c, d, e"
    made = dataset(
        RunConfig(instance_data_dir=instance, instance_prompt=prompt, resolution=64, shuffle_tags=True, keep_tokens=1),
        vae,
    )
    found = [made.batches(step)[0].captions[0] for step in range(20)]
    assert len(set(found)) > 10
    assert all(c.startswith("sksper, ") and sorted(c.split(", ")) == sorted(prompt.split(", ")) for c in found)
    assert made.all_captions() is None


def test_caption_dropout_drops_its_share_but_never_class_captions(tmp_path, vae):
    made = dataset(prior(tmp_path, 2, caption_dropout=0.25), vae)
    batches = [made.batches(step)[0] for step in range(400)]
    instance = [c for b in batches for c in b.captions[: len(b) // 2]]
    of_class = [c for b in batches for c in b.captions[len(b) // 2 :]]
    assert 0.2 < instance.count("") / len(instance) < 0.3 and "" not in of_class
    assert made.all_captions() == ["sksper person", "a person", ""]


def test_all_captions(tmp_path, vae):
    instance = folder(tmp_path, 2)
    config = RunConfig(instance_data_dir=instance, instance_prompt="sksper, a", resolution=64)
    assert dataset(config, vae).all_captions() == ["sksper, a"]
    assert dataset(config.replace(shuffle_tags=True, keep_tokens=1), vae).all_captions() == ["sksper, a"]


# --- broken pictures


@pytest.mark.parametrize("cached", [True, False])
def test_broken_pictures_are_named_and_left_out(tmp_path, vae, cached):
    instance = folder(tmp_path, 5)
    whole = (tmp_path / "sksper (2).png").read_bytes()
    (tmp_path / "sksper (2).png").write_bytes(whole[: len(whole) // 2])  # a sound header: found when decoded
    (tmp_path / "sksper (4).png").write_bytes(b"nothing")
    config = RunConfig(instance_data_dir=instance, resolution=64, cache_latents=cached, random_flip=True)
    made, warned, shown = Dataset(config, Subjects.of(config), picture_entries.entries(config)[0], SCALING), [], []
    made.encode(vae, "cpu", lambda done, total: shown.append((done, total)), warned.append)
    assert len(warned) == 2 and "sksper (4).png" in str(warned[0]) and "sksper (2).png" in str(warned[1])
    assert sorted(Path(k).name for s in range(3) for k in made.batches(s)[0].keys) == [
        "sksper (1).png",
        "sksper (3).png",
        "sksper (5).png",
    ]
    assert shown[-1][0] == shown[-1][1]


def test_none_left_is_an_error(tmp_path, vae):
    for i in range(3):
        (tmp_path / f"sksper ({i}).jpg").write_bytes(b"nothing")
    with pytest.raises(UserError) as caught:
        dataset(RunConfig(instance_data_dir=str(tmp_path), resolution=64), vae)
    assert caught.value.problem.field == "instance_data_dir"


def test_prior_preservation_without_class_pictures_is_an_error(tmp_path, vae):
    config = RunConfig(instance_data_dir=folder(tmp_path, 1), class_prompt="a person", resolution=64)
    with pytest.raises(UserError, match="class pictures"):
        dataset(config, vae)


def test_small_pictures_are_mentioned(tmp_path, vae):
    warned = []
    config = RunConfig(instance_data_dir=folder(tmp_path, 2, size=(40, 90)), resolution=64)
    Dataset(config, Subjects.of(config), picture_entries.entries(config)[0], SCALING).encode(vae, warn=warned.append)
    assert len(warned) == 1 and "2 of 2" in str(warned[0])


def test_undefined_latents_are_named(tmp_path, vae):
    config = RunConfig(instance_data_dir=folder(tmp_path, 1), resolution=64)
    bad = AutoencoderKL.from_config(vae.config)
    torch.nn.init.constant_(bad.quant_conv.weight, float("nan"))
    warned = []
    with pytest.raises(UserError):
        Dataset(config, Subjects.of(config), picture_entries.entries(config)[0], SCALING).encode(
            bad, warn=warned.append
        )
    assert warned[0].code == "pictures.vae_fails"


def test_a_half_precision_vae_encodes_in_float32(tmp_path, vae):
    half = AutoencoderKL.from_config(vae.config)
    half.load_state_dict(vae.state_dict())
    made = dataset(RunConfig(instance_data_dir=folder(tmp_path, 1), resolution=64), half.half())
    assert made.batches(0)[0].latents_bchw.isfinite().all() and half.dtype == torch.float32
