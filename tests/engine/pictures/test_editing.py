"""Edited pictures and carried masks, against a direct computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageCms

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.pictures.edit import Edit
from dreambooth_ext.engine.pictures import editing

SIZE = (90, 60)
ORIENTATION = 0x0112


def noise(size=SIZE, mode="RGB", seed=0) -> Image.Image:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    return Image.fromarray(values, mode)


def smooth(size=SIZE) -> Image.Image:
    """A picture whose value at every point is known: red grows to the right, green downwards."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    return Image.fromarray(np.stack([2 * x, 3 * y, 0 * x], -1).round().astype(np.uint8))


def rendered(tmp_path, image, edit, name="a.png", **options) -> Image.Image:
    image.save(tmp_path / name, **options)
    told = editing.render(str(tmp_path / name), edit.as_dict(), str(tmp_path / f"out-{name}"))
    with Image.open(tmp_path / f"out-{name}") as made:
        made.load()
    assert tuple(told["size"]) == made.size and made.format == Image.open(tmp_path / name).format
    return made


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_turns_and_crops_keep_every_pixel(tmp_path, turns, mode):
    image = noise(mode=mode)
    turned = np.rot90(np.asarray(image), -turns)
    crop = (5, 7, 45, 52)
    assert np.array_equal(rendered(tmp_path, image, Edit(turns)), turned)
    assert np.array_equal(rendered(tmp_path, image, Edit(turns, 0, crop)), turned[7:52, 5:45])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_edits_are_of_the_upright_picture(tmp_path, orientation):
    """Each EXIF orientation of the same scene gives the same picture, which is told to be upright."""
    scene = noise()
    lies = {
        2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    stored = Image.fromarray(np.ascontiguousarray(lies.get(orientation, lambda a: a)(np.asarray(scene))))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    made = rendered(tmp_path, stored, Edit(1, 0, (2, 3, 50, 80)), "a.png", exif=exif)
    assert np.array_equal(made, np.rot90(np.asarray(scene), -1)[3:80, 2:50])
    assert made.getexif().get(ORIENTATION, 1) == 1


@pytest.mark.parametrize("angle", [-37.5, -4, 0.5, 12, 45])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_straightening_against_the_formula(tmp_path, angle, turns):
    edit = Edit(turns, angle)
    made = np.asarray(rendered(tmp_path, smooth(), edit), float)
    left, top, right, bottom = edit.box(SIZE)
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    wide, high = edit.frame(SIZE)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u = (x - wide / 2) * cos + (y - high / 2) * sin + wide / 2  # turned back by the angle
    v = -(x - wide / 2) * sin + (y - high / 2) * cos + high / 2
    for _ in range(turns):  # and by the quarters
        wide, high = high, wide
        u, v = v, high - u
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(made[..., 0] - 2 * u)[inner].max() < 2.5 and np.abs(made[..., 1] - 3 * v)[inner].max() < 2.5


def test_a_jpeg_stays_one_with_its_profile(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = rendered(tmp_path, smooth(), Edit(0, 0, (0, 0, 40, 40)), "a.jpg", icc_profile=profile, quality=100)
    assert made.info["icc_profile"] == profile
    assert np.abs(np.asarray(made, float) - np.asarray(smooth().crop((0, 0, 40, 40)), float)).mean() < 1.5


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("CMYK", "jpg"), ("1", "png"), ("P", "png"), ("I;16", "png"), ("L", "jpg"), ("RGB", "webp"), ("RGB", "bmp"),
     ("LA", "png"), ("P", "bmp")],
)  # fmt: skip
@pytest.mark.parametrize("angle", [0, 10])
def test_every_kind_of_picture(tmp_path, mode, ending, angle):
    image = Image.new(mode, SIZE, 40000) if mode == "I;16" else noise().convert("L" if mode in ("1", "P") else "RGB")
    image = image if mode == "I;16" else image.convert(mode)
    made = rendered(tmp_path, image, Edit(1, angle), f"a.{ending}")
    assert made.size == Edit(1, angle).size(SIZE)
    if mode == "I;16":
        assert made.getpixel((20, 20)) == 40000


def test_what_is_transparent_stays_so(tmp_path):
    image = noise(mode="RGBA")
    values = np.array(image)
    values[:, :45, 3], values[:, 45:, 3] = 0, 255
    made = np.asarray(rendered(tmp_path, Image.fromarray(values), Edit(0, 5)))
    assert made.shape[-1] == 4 and made[:, :20, 3].max() == 0 and made[:, -20:, 3].min() == 255
    assert made[:, :20, :3].std() > 20  # its colours are still there
    palette = noise().convert("P")
    assert rendered(tmp_path, palette, Edit(0, 5), transparency=3).mode == "RGBA"
    assert "transparency" in rendered(tmp_path, palette, Edit(1), transparency=3).info


@pytest.mark.parametrize("content", [b"", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_broken_pictures_are_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png"):
        editing.render(str(tmp_path / "a.png"), Edit(1).as_dict(), str(tmp_path / "b.png"))
    assert not (tmp_path / "b.png").exists()


def test_an_edit_that_does_not_fit(tmp_path):
    noise().save(tmp_path / "a.png")
    with pytest.raises(UserError, match="beyond"):
        editing.render(str(tmp_path / "a.png"), Edit(0, 0, (0, 0, 91, 60)).as_dict(), str(tmp_path / "b.png"))


# --- masks


@pytest.mark.parametrize("frame", [Edit(), Edit(1), Edit(2, 0, (10, 5, 80, 55)), Edit(3, 0, (3, 4, 50, 70))])
@pytest.mark.parametrize("turns", range(4))
def test_masks_go_where_their_pixels_go(frame, turns):
    """What is turned and cropped alike stays beside its picture, to the pixel."""
    picture = noise(mode="L")
    edit = Edit(turns, 0, (12, 9, 48, 45))
    mask = editing.edited(picture, frame)
    moved, wanted = editing.carried(mask, frame, edit, SIZE), editing.edited(picture, edit)
    whole = editing.edited(Image.new("L", SIZE, 1), edit)
    seen = editing.carried(editing.edited(Image.new("L", SIZE, 200), frame), frame, edit, SIZE)
    assert moved.size == wanted.size == whole.size == seen.size
    inside = np.asarray(_where(frame, edit))
    assert np.array_equal(np.asarray(moved)[inside], np.asarray(wanted)[inside]) and inside.any()
    assert (np.asarray(seen) == 200).all()  # beyond the mask's edge its nearest value holds


def _where(frame: Edit, edit: Edit) -> np.ndarray:
    """Which pixels of the edited picture were in the frame."""
    wide, high = SIZE
    number = np.arange(wide * high, dtype=np.int32).reshape(high, wide)
    cut = {}
    for name, one in (("frame", frame), ("edit", edit)):
        turned = np.rot90(number, -one.turns)
        left, top, right, bottom = one.crop or (0, 0, *turned.shape[::-1])
        cut[name] = turned[top:bottom, left:right]
    return np.isin(cut["edit"], cut["frame"])


@pytest.mark.parametrize("angle", [-20, 7])
def test_masks_are_straightened_like_pictures(angle):
    ellipse = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    ellipse[20:40, 30:60] = 255
    mask = Image.fromarray(ellipse)
    moved = np.asarray(editing.carried(mask, Edit(), Edit(1, angle), SIZE), float)
    wanted = np.asarray(editing.edited(mask, Edit(1, angle)), float)
    assert np.abs(moved - wanted).mean() < 4  # bilinear, and bicubic
    back = np.asarray(editing.carried(Image.fromarray(moved.astype(np.uint8)), Edit(1, angle), Edit(), SIZE), float)
    assert np.abs(back - ellipse).mean() < 12


def test_a_smaller_mask_is_scaled_to_its_picture(tmp_path):
    mask = Image.new("L", (45, 30))
    mask.paste(255, (0, 0, 22, 30))
    moved = np.asarray(editing.carried(mask, Edit(), Edit(0, 0, (0, 0, 88, 60)), SIZE))
    assert moved.shape == (60, 88) and moved[:, :40].min() == 255 and moved[:, 50:].max() == 0
    mask.save(tmp_path / "m.png")
    editing.mask(str(tmp_path / "m.png"), [90, 60], str(tmp_path / "out.png"))
    assert Image.open(tmp_path / "out.png").size == (90, 60) and Image.open(tmp_path / "out.png").mode == "L"


def test_a_huge_mask_of_a_small_crop_needs_no_huge_memory():
    frame = Edit(0, 0, (0, 0, 16, 16))
    moved = editing.carried(Image.new("L", (3000, 3000), 255), frame, Edit(), (3000, 2000))
    assert moved.size == (3000, 2000) and np.asarray(moved).min() == 255
