"""The crop of a picture, its conditioning, its colours and its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from dreambooth_ext.core.data.entry import Entry
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.pictures.training_crop import Crop, centre_crop, random_crop, resized_size
from dreambooth_ext.engine.data import masks
from dreambooth_ext.engine.data.images import to_model, training_pixels
from dreambooth_ext.engine.pictures.picture_file import picture_size


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    """Red grows to the right, green downwards: every turn and mirroring shows."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 60)], -1).astype(np.uint8))


def alpha_weights(path: Path, crop: Crop, flip: bool, size: tuple[int, int]) -> torch.Tensor:
    return masks.alpha_weights(masks.mask_values(Entry(path, "", 0), crop, flip, size, by_alpha=True))[0]


# --- crops


def whole_then_cut(path: Path, target: tuple[int, int], left: int, top: int) -> np.ndarray:
    """Independent computation: resize everything, then cut."""
    image = Image.open(path).convert("RGB")
    scale = max(target[0] / image.width, target[1] / image.height)
    size = (max(target[0], round(image.width * scale)), max(target[1], round(image.height * scale)))
    image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image.crop((left, top, left + target[0], top + target[1])))


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (130, 131), (64, 64), (40, 30), (64, 1000), (333, 77)])
@pytest.mark.parametrize("target", [(64, 64), (64, 128), (128, 64)])
def test_crop_and_its_conditioning(tmp_path, size, target):
    path = tmp_path / "a.png"
    gradient(*size).save(path)
    crop = centre_crop(picture_size(path), target)
    scale = max(target[0] / size[0], target[1] / size[1])
    wide, high = round(size[0] * scale), round(size[1] * scale)
    left, top = (wide - target[0]) // 2, (high - target[1]) // 2
    assert crop.time_ids(False) == (size[1], size[0], top, left, target[1], target[0])
    pixels = training_pixels(path, crop)
    assert pixels.dtype == torch.uint8 and tuple(pixels.shape) == (3, target[1], target[0])
    difference = np.abs(pixels.permute(1, 2, 0).numpy().astype(int) - whole_then_cut(path, target, left, top))
    assert difference.max() <= 1


@pytest.mark.parametrize("left", [0, 5, 36])
def test_a_mirrored_crop_is_a_crop_of_the_mirrored_picture(tmp_path, left):
    path, mirrored = tmp_path / "a.png", tmp_path / "b.png"
    gradient(100, 64).save(path)
    gradient(100, 64).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    crop = Crop((100, 64), (64, 64), left, 0)
    _, _, top, from_left, _, _ = crop.time_ids(True)
    other = Crop((100, 64), (64, 64), from_left, top)
    assert from_left == 100 - 64 - left
    assert torch.equal(training_pixels(path, crop, flip=True), training_pixels(mirrored, other))


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB's with the places of red and green exchanged, under another name."""
    content = bytearray(srgb())
    tags = {
        bytes(content[at : at + 4]): at for at in range(132, 132 + 12 * int.from_bytes(content[128:132], "big"), 12)
    }
    red, green = tags[b"rXYZ"] + 4, tags[b"gXYZ"] + 4
    content[red : red + 4], content[green : green + 4] = content[green : green + 4], content[red : red + 4]
    return bytes(content).replace("sRGB".encode("utf-16-be"), "sped".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_colours_of_another_profile_become_srgb(tmp_path, mode, suffix):
    if (mode, suffix) == ("RGBA", ".jpg"):
        pytest.skip("JPEG knows no transparency")
    picture = Image.new(mode, (64, 64), (200, 40, 40))
    picture.save(tmp_path / f"a{suffix}", icc_profile=swapped_profile(), quality=95)
    found = training_pixels(tmp_path / f"a{suffix}", centre_crop((64, 64), (64, 64)))[:, 32, 32]
    assert torch.allclose(found.float(), torch.tensor([40.0, 200.0, 40.0]), atol=8), found


@pytest.mark.parametrize("profile", [srgb(), b"no profile", swapped_profile()[:200]], ids=["srgb", "none", "cut"])
def test_srgb_and_broken_profiles_change_nothing(tmp_path, profile):
    gradient(64, 64).save(tmp_path / "a.png", icc_profile=profile)
    gradient(64, 64).save(tmp_path / "b.png")
    crop = centre_crop((64, 64), (64, 64))
    assert torch.equal(training_pixels(tmp_path / "a.png", crop), training_pixels(tmp_path / "b.png", crop))


def test_random_crops_reach_every_place():
    places = [random_crop((70, 67), (64, 64), x / 1000, x / 1000) for x in range(1000)]
    wide, high = resized_size((70, 67), (64, 64))
    assert {c.left for c in places} == set(range(wide - 63)) and {c.top for c in places} == set(range(high - 63))


def test_extreme_proportions_need_no_huge_picture(tmp_path):
    Image.new("RGB", (20_000, 4), (9, 9, 9)).save(tmp_path / "line.png")
    crop = centre_crop((20_000, 4), (512, 512))  # resized as a whole: 2 560 000 x 512
    assert (training_pixels(tmp_path / "line.png", crop) == 9).all()


def test_a_picture_changed_meanwhile_is_named(tmp_path):
    gradient(80, 80).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png"):
        training_pixels(tmp_path / "a.png", centre_crop((64, 64), (64, 64)))


def test_model_range():
    assert to_model(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_transparency_as_weights(tmp_path):
    """As the WebUI's dataset module does it: least opaque is 0, the mean is 1; and the colours beneath are kept."""
    alpha = np.full((64, 64), 55, np.uint8)
    alpha[:, 32:] = 255
    picture = Image.new("RGB", (64, 64), (10, 200, 30))
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "a.png")
    crop = centre_crop((64, 64), (64, 64))
    weights = alpha_weights(tmp_path / "a.png", crop, False, (8, 8))
    assert weights.shape == (8, 8) and weights.min() == 0 and weights.mean().item() == pytest.approx(1)
    assert weights[:, :3].max() < 0.05 and weights[:, 5:].min() > 1.9
    assert torch.equal(alpha_weights(tmp_path / "a.png", crop, True, (8, 8)), weights.flip(1))
    assert training_pixels(tmp_path / "a.png", crop, opaque=True)[:, 0, 0].tolist() == [10, 200, 30]
    assert training_pixels(tmp_path / "a.png", crop)[:, 0, 0].tolist() != [10, 200, 30]
    for mode in ("RGB", "RGBA", "L"):  # without transparency, or the same everywhere
        Image.new(mode, (64, 64)).save(tmp_path / f"{mode}.png")
        assert torch.equal(alpha_weights(tmp_path / f"{mode}.png", crop, False, (8, 8)), torch.ones(8, 8))


def test_weights_lie_where_the_crop_does(tmp_path):
    alpha = np.zeros((64, 128), np.uint8)
    alpha[:32, 96:] = 255
    picture = Image.new("RGB", (128, 64))
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "a.png")
    right = random_crop((128, 64), (64, 64), 0.999, 0)
    weights = alpha_weights(tmp_path / "a.png", right, False, (8, 8))
    assert weights[:3, 5:].min() > 3 and weights[5:].max() < 0.1 and weights[:, :3].max() < 0.1
