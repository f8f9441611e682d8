"""A mask goes through every crop, flip, bucket and size as its picture does, and its weights are the formula's."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.data.entry import Entry
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.pictures.training_crop import centre_crop
from dreambooth_ext.engine.data import masks
from dreambooth_ext.engine.data.dataset import Dataset
from dreambooth_ext.engine.data.masks import loss_weights, mask_values

SIZES = [(200, 120), (90, 160), (64, 64), (300, 96)]


def ramp(size: tuple[int, int]) -> np.ndarray:
    """(h, w), a smooth hill that is neither symmetric nor the same in both directions."""
    y, x = np.mgrid[: size[1], : size[0]]
    x, y = (x + 0.5) / size[0], (y + 0.5) / size[1]
    return np.rint(255 * (0.6 * x + 0.4 * y**2)).astype(np.uint8)


def masked_set(folder: Path, sizes=SIZES, scale: float = 1.0) -> str:
    """Pictures whose red is what their masks are."""
    for number, size in enumerate(sizes):
        grey = Image.fromarray(ramp(size))
        Image.merge("RGB", (grey, Image.new("L", size, 40), Image.new("L", size, 90))).save(
            folder / f"s ({number}).png"
        )
        mask = grey.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BILINEAR)
        mask.save(folder / f"s ({number})-masklabel.png")
    return str(folder)


def dataset(config: RunConfig, warned: list | None = None) -> Dataset:
    entries, problems = picture_entries.entries(config)
    assert problems == []
    made = Dataset(config, Subjects.of(config), entries, 0.18215)
    made.encode(None, warn=(warned if warned is not None else []).append)
    return made


def blocks(red_hw: torch.Tensor, side: int) -> np.ndarray:
    """The mean of each block of pixels, (h / side, w / side)."""
    high, wide = (length // side for length in red_hw.shape)
    return red_hw.numpy().reshape(high, side, wide, side).mean(axis=(1, 3))


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("crops", ["centre", "random"])
@pytest.mark.parametrize("buckets", [False, True])
def test_masks_are_cut_as_their_pictures_are(tmp_path, scale, crops, buckets):
    """Against the pixels of the batch itself: what a latent pixel covers of the picture, it covers of the mask."""
    config = RunConfig(
        instance_data_dir=masked_set(tmp_path, scale=scale),
        instance_prompt="s",
        resolution=128,
        enable_bucket=buckets,
        center_crop=crops == "centre",
        random_flip=True,
        cache_latents=False,
        masked_loss=True,
        unmasked_weight=0.0,
        normalize_masked_area_loss=False,
    )
    made = dataset(config)
    seen: dict[str, set] = {}
    for step in range(24):
        for batch in made.batches(step):
            red = (batch.pixels_bchw[:, 0] + 1) * 127.5
            for index, key in enumerate(batch.keys):
                wanted = blocks(red[index], 8)
                found = batch.masks_b1hw[index, 0].numpy() * 255
                assert found.shape == wanted.shape
                # Lanczos at the border of the file; a hill of 255 levels over 200 pixels has 10 in a latent pixel
                assert np.abs(found - wanted).max() < 6, (key, batch.time_ids_b6[index])
                seen.setdefault(key, set()).add(tuple(batch.time_ids_b6[index].tolist()))
    shapes = {batch.masks_b1hw.shape[2:] for step in range(24) for batch in made.batches(step)}
    assert (len(shapes) > 1) == buckets
    places = [len(places) for places in seen.values()]
    assert max(places) > 4 if crops == "random" else max(places) <= 2


def test_a_flipped_mask_is_the_mirrored_one(tmp_path):
    masked_set(tmp_path, [(64, 64)])
    entry = Entry(tmp_path / "s (0).png", "", 0, mask=str(tmp_path / "s (0)-masklabel.png"))
    crop = centre_crop((64, 64), (64, 64))
    plain, flipped = (mask_values(entry, crop, flip, (8, 8), False) for flip in (False, True))
    assert torch.equal(plain.flip(-1), flipped) and not torch.equal(plain, flipped)


def test_models_of_pixels_have_a_weight_for_each_pixel(tmp_path):
    config = RunConfig(
        method="unconditional",
        train_data_dir=masked_set(tmp_path, [(64, 64)]),
        resolution=32,
        masked_loss=True,
        unmasked_weight=0.0,
        normalize_masked_area_loss=False,
    )
    (batch,) = dataset(config).batches(0)
    assert batch.masks_b1hw.shape == (1, 1, 32, 32) and batch.base_masks_b1hw is None
    red = (batch.pixels_bchw[:, 0] + 1) / 2
    assert (batch.masks_b1hw[:, 0] - red).abs().max() < 0.01


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_has_its_own_orientation(tmp_path, orientation):
    """The picture is upright after its EXIF tag, and the mask after its own: here it has none."""
    size = (96, 64) if orientation < 5 else (64, 96)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.fromarray(ramp(size)).convert("RGB")
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation in undo else upright
    stored.save(tmp_path / "a.jpg", exif=exif, quality=100)
    Image.fromarray(ramp(size)).save(tmp_path / "a_mask.png")
    config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt="s", resolution=64, cache_latents=False,
                       masked_loss=True, unmasked_weight=0.0, normalize_masked_area_loss=False)  # fmt: skip
    (batch,) = dataset(config).batches(0)
    wanted = blocks((batch.pixels_bchw[0, 0] + 1) * 127.5, 8)
    assert np.abs(batch.masks_b1hw[0, 0].numpy() * 255 - wanted).max() < 8


# --- weights


@pytest.mark.parametrize("least", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("base", [0.0, 0.5, 3.0])
def test_weights_are_onetrainers(least, normalised, base):
    """modules/util/loss/masked_loss.py, written down a second time."""
    values = torch.randint(0, 256, (1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    values[0, :4] = 0
    inside, outside = loss_weights(values, least, normalised, base)
    m = np.maximum(values.double().numpy() / 255, least)
    o = 1 - m
    if normalised:
        m, o = m / m.mean(), o / o.mean()
    assert np.allclose(inside, m, atol=1e-6)
    assert (outside is None) == (base == 0)
    if base:
        assert np.allclose(outside, base * o, atol=1e-6)


def test_pictures_without_a_mask_count_as_a_whole(tmp_path):
    masked_set(tmp_path, [(64, 64), (64, 64)])
    (tmp_path / "s (1)-masklabel.png").unlink()
    config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt="s", resolution=64, train_batch_size=2,
                       cache_latents=False, masked_loss=True, masked_prior_preservation_weight=1.0)  # fmt: skip
    (batch,) = dataset(config).batches(0)
    whole = [key.endswith("s (1).png") for key in batch.keys].index(True)
    assert torch.equal(batch.masks_b1hw[whole], torch.ones(1, 8, 8)) and not batch.base_masks_b1hw[whole].any()
    other = 1 - whole
    assert batch.masks_b1hw[other].mean().item() == pytest.approx(1) == batch.base_masks_b1hw[other].mean().item()
    (tmp_path / "s (0)-masklabel.png").unlink()
    Image.new("L", (64, 64), 255).save(tmp_path / "s (0)-masklabel.png")
    assert dataset(config).batches(0)[0].base_masks_b1hw is None  # no second pass of the UNet for nothing


def test_class_pictures_count_as_a_whole(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "class").mkdir()
    masked_set(tmp_path / "own", [(64, 64)])
    masked_set(tmp_path / "class", [(64, 64)])
    config = RunConfig(instance_data_dir=str(tmp_path / "own"), instance_prompt="s", resolution=64, class_prompt="c",
                       class_data_dir=str(tmp_path / "class"), cache_latents=False, masked_loss=True)  # fmt: skip
    (batch,) = dataset(config).batches(0)
    assert len(batch) == 2 and torch.equal(batch.masks_b1hw[1], torch.ones(1, 8, 8))
    assert not torch.equal(batch.masks_b1hw[0], torch.ones(1, 8, 8))


def test_transparency_is_the_mask_of_pictures_that_have_none(tmp_path):
    masked_set(tmp_path, [(64, 64), (64, 64)])
    (tmp_path / "s (1)-masklabel.png").unlink()
    with Image.open(tmp_path / "s (1).png") as picture:
        picture.putalpha(Image.new("L", (64, 64), 51))
        picture.save(tmp_path / "s (1).png")
    config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt="s", resolution=64, train_batch_size=2,
                       cache_latents=False, masked_loss=True, normalize_masked_area_loss=False)  # fmt: skip
    for by_alpha, wanted in ((False, 1.0), (True, 0.2)):
        (batch,) = dataset(config.replace(alpha_as_loss_weight=by_alpha)).batches(0)
        clear = [key.endswith("s (1).png") for key in batch.keys].index(True)
        assert torch.allclose(batch.masks_b1hw[clear], torch.full((1, 8, 8), wanted))


def transparent_set(folder: Path, sizes=SIZES) -> str:
    """Pictures whose red is what their opacity is."""
    folder.mkdir()
    for number, size in enumerate(sizes):
        grey = Image.fromarray(ramp(size))
        bands = (grey, Image.new("L", size, 40), Image.new("L", size, 90), grey)
        Image.merge("RGBA", bands).save(folder / f"s {number}.png")
    return str(folder)


@pytest.mark.parametrize(("crops", "buckets"), [("centre", True), ("random", False)])
def test_alpha_mask_of_kohyas_data_sets(tmp_path, crops, buckets):
    """A subset's transparency is its mask, another's is not; cut as the pixels, whose colours stay as they are stored.

    The weights are sd-scripts' (apply_masked_loss): opacity from 0 to 1, its mean over each latent pixel.
    """
    for name in ("clear", "plain"):
        transparent_set(tmp_path / name)
    subsets = [{"image_dir": "clear", "alpha_mask": True, "flip_aug": True, "class_tokens": "s"},
               {"image_dir": "plain", "class_tokens": "s"}]  # fmt: skip
    (tmp_path / "set.json").write_text(json.dumps({"datasets": [{"enable_bucket": buckets, "subsets": subsets}]}))
    config = RunConfig(dataset_config=str(tmp_path / "set.json"), resolution=128, enable_bucket=buckets,
                       center_crop=crops == "centre", cache_latents=False, masked_loss=True, unmasked_weight=0.0,
                       normalize_masked_area_loss=False)  # fmt: skip
    made = dataset(config)
    seen: dict[str, set] = {}
    for step in range(24):
        for batch in made.batches(step):
            for index, key in enumerate(batch.keys):
                found = batch.masks_b1hw[index, 0].numpy() * 255
                if Path(key).parent.name == "plain":
                    assert (found == 255).all()
                    continue
                red = (batch.pixels_bchw[index, 0] + 1) * 127.5
                assert np.abs(found - blocks(red, 8)).max() < 6, (key, batch.time_ids_b6[index])
                seen.setdefault(Path(key).name, set()).add(tuple(batch.time_ids_b6[index].tolist()))
    assert len(seen) == len(SIZES) and max(len(places) for places in seen.values()) > 1


def test_a_picture_that_is_transparent_all_over_is_left_out(tmp_path):
    transparent_set(tmp_path / "own", [(64, 64)])
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(tmp_path / "own" / "nothing.png")
    config = RunConfig(instance_data_dir=str(tmp_path / "own"), instance_prompt="s", resolution=64,
                       cache_latents=False, masked_loss=True, alpha_as_loss_weight=True)  # fmt: skip
    warned: list = []
    assert [picture.entry.path.name for picture in dataset(config, warned).pictures] == ["s 0.png"]
    assert "nothing.png" in str(warned[0].message)


def test_masks_of_usual_crops_are_read_once_up_to_a_limit(tmp_path, monkeypatch):
    masked_set(tmp_path, [(64, 64)] * 3)
    config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt="s", resolution=64, train_batch_size=3,
                       cache_latents=False, masked_loss=True)  # fmt: skip
    read = []
    original = masks.mask_values
    monkeypatch.setattr(masks, "mask_values", lambda entry, *rest: read.append(entry.path) or original(entry, *rest))
    made = dataset(config)
    read.clear()  # each was looked at before
    first = [made.batches(step)[0].masks_b1hw for step in range(3)]
    assert len(read) == 3
    monkeypatch.setattr(masks, "KEPT", 64)
    made = dataset(config)
    read.clear()
    assert all(torch.equal(a, made.batches(step)[0].masks_b1hw) for step, a in enumerate(first))
    assert len(read) == 1 + 3 * 2


# --- masks that are no good


def one(folder: Path, **settings) -> RunConfig:
    return RunConfig(instance_data_dir=str(folder), instance_prompt="s", resolution=64, cache_latents=False,
                     masked_loss=True, **settings)  # fmt: skip


def bad_masks(folder: Path) -> dict[str, bytes]:
    def png(image: Image.Image) -> bytes:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return stream.getvalue()

    good = png(Image.fromarray(ramp((64, 64))))
    return {
        "other proportions": png(Image.new("L", (64, 96), 255)),
        "black": png(Image.new("L", (64, 64))),
        "transparent": png(Image.new("LA", (64, 64), (255, 0))),
        "cut short": good[: len(good) // 2],
        "no picture": b"mask" * 50,
        "empty": b"",
        "another format": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
        "a bomb": bomb(),
    }


def bomb() -> bytes:
    """A PNG's header that says 60 000 x 60 000."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + bytes(16)


@pytest.mark.parametrize("kind", list(bad_masks(Path())))
def test_a_bad_mask_is_named_and_its_picture_left_out(tmp_path, kind):
    masked_set(tmp_path, [(64, 64), (64, 64)])
    (tmp_path / "s (1)-masklabel.png").write_bytes(bad_masks(tmp_path)[kind])
    warned: list = []
    made = dataset(one(tmp_path), warned)
    assert [picture.entry.path.name for picture in made.pictures] == ["s (0).png"]
    (warning,) = [str(problem) for problem in warned if problem.code == "pictures.left_out"]
    assert "s (1)-masklabel.png" in warning
    with pytest.raises(UserError):
        for name in ("s (0)-masklabel.png",):
            (tmp_path / name).write_bytes(bad_masks(tmp_path)[kind])
        dataset(one(tmp_path))


@pytest.mark.parametrize("size", [(64, 64), (640, 641), (33, 32), (1000, 995), (8, 8)])
def test_masks_of_other_sizes_are_scaled(tmp_path, size):
    masked_set(tmp_path, [(64, 64)])
    Image.fromarray(ramp(size)).save(tmp_path / "s (0)-masklabel.png")
    (batch,) = dataset(one(tmp_path, unmasked_weight=0.0, normalize_masked_area_loss=False)).batches(0)
    wanted = blocks((batch.pixels_bchw[0, 0] + 1) * 127.5, 8)
    assert np.abs(batch.masks_b1hw[0, 0].numpy() * 255 - wanted).max() < 12


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_masks_of_every_kind_of_picture(tmp_path, mode):
    masked_set(tmp_path, [(64, 64)])
    grey = Image.new("L", (64, 64))
    grey.paste(255, (0, 0, 32, 64))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    made = deep if mode == "I;16" else grey.convert(mode)
    suffix = ".jpg" if mode == "CMYK" else ".png"
    (tmp_path / "s (0)-masklabel.png").unlink()
    made.save(tmp_path / f"s (0)-masklabel{suffix}")
    (batch,) = dataset(one(tmp_path, unmasked_weight=0.0, normalize_masked_area_loss=False)).batches(0)
    left, right = batch.masks_b1hw[0, 0, :, :3], batch.masks_b1hw[0, 0, :, 5:]
    assert left.min() > 0.95 and right.max() < 0.05


def test_a_mask_that_changes_its_shape_during_a_run_is_named(tmp_path):
    masked_set(tmp_path, [(64, 64)])
    made = dataset(one(tmp_path, center_crop=False))
    Image.new("L", (64, 128), 255).save(tmp_path / "s (0)-masklabel.png")
    with pytest.raises(UserError, match="masklabel"):
        made.batches(0)
