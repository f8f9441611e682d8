"""Every kind of picture file becomes the right pixels, or is named in a message."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.pictures.picture_file import open_picture, picture_size

NAME = "мой кот (1)"  # spaces and non-Latin letters everywhere


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    """Red grows to the right, green downwards: every turn and mirroring shows."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 60)], -1).astype(np.uint8))


def close(image: Image.Image, wanted: Image.Image, tolerance: float = 3) -> bool:
    assert image.mode == "RGB" and image.size == wanted.size
    return np.abs(np.asarray(image, np.float32) - np.asarray(wanted, np.float32)).mean() < tolerance


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".JPG"])
def test_formats(tmp_path, suffix):
    path = tmp_path / (NAME + suffix)
    gradient().save(path)
    assert close(open_picture(path), gradient())
    assert picture_size(path) == (48, 32)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_orientation(tmp_path, orientation, suffix):
    # How the camera turned it: 6 says "turn me clockwise", so what is stored was turned the other way (ROTATE_90).
    turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = gradient() if turned is None else gradient().transpose(Image.Transpose(turned))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / (NAME + suffix)
    stored.save(path, exif=exif, **({"quality": 95} if suffix != ".png" else {}))
    assert close(open_picture(path), gradient(), 4)
    assert picture_size(path) == (48, 32)


def test_malformed_exif_is_ignored(tmp_path):
    path = tmp_path / "a.jpg"
    gradient().save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert close(open_picture(path), gradient())


def test_alpha_becomes_white(tmp_path):
    picture = gradient().convert("RGBA")
    picture.putalpha(Image.fromarray(np.tile(np.array([0] * 24 + [255] * 24, np.uint8), (32, 1))))
    for suffix in (".png", ".webp"):
        picture.save(tmp_path / ("a" + suffix), **({"lossless": True} if suffix == ".webp" else {}))
        found = np.asarray(open_picture(tmp_path / ("a" + suffix)))
        assert (found[:, :24] == 255).all()
        assert (found[:, 24:] == np.asarray(gradient())[:, 24:]).all()


def test_half_transparent_is_blended(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(tmp_path / "a.png")
    assert (np.asarray(open_picture(tmp_path / "a.png")) == 204).all()  # 255 * (1 - 51 / 255)


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (4, 2), 0)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png", transparency=0)
    found = open_picture(tmp_path / "a.png")
    assert found.getpixel((0, 0)) == (255, 255, 255) and found.getpixel((1, 0)) == (200, 100, 50)


def test_transparent_colour_of_rgb_and_grey(tmp_path):
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "rgb.png", transparency=(1, 2, 3))
    Image.new("L", (2, 2), 7).save(tmp_path / "l.png", transparency=7)
    for name in ("rgb.png", "l.png"):
        assert open_picture(tmp_path / name).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "colour", "wanted"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("LA", (90, 255), (90, 90, 90)),
        ("LA", (90, 0), (255, 255, 255)),
        ("P", 0, (0, 0, 0)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("I;16", 65535, (255, 255, 255)),
    ],
)
def test_modes_of_png(tmp_path, mode, colour, wanted):
    Image.new(mode, (3, 3), colour).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").getpixel((1, 1)) == wanted


def test_cmyk(tmp_path):
    gradient().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert close(open_picture(tmp_path / "a.jpg"), gradient(), 6)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    path = tmp_path / ("a" + suffix)
    black = Image.new("RGB", (48, 32))
    gradient().save(path, save_all=True, append_images=[black, black], duration=100)
    assert close(open_picture(path), gradient(), 5)


def content(suffix: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, suffix)
    return stream.getvalue()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"not a picture",
        b"GIF89a" + b"\0" * 100,
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        content()[:200],
        content()[: len(content()) // 2],
        content("PNG")[: len(content("PNG")) // 2],
        content("PNG")[:40],
        content("WEBP")[: len(content("WEBP")) // 2],
        content("BMP")[: len(content("BMP")) // 2],
        content("PNG")[:500] + b"\xff" * 500 + content("PNG")[1000:],
    ],
    ids=range(11),
)
def test_damaged_files_are_named(tmp_path, damaged):
    path = tmp_path / (NAME + ".jpg")
    path.write_bytes(damaged)
    with pytest.raises(UserError) as caught:
        open_picture(path)
    assert NAME in str(caught.value) and caught.value.problem.remedy


def test_missing_file_and_folder_are_named(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name in ("gone.jpg", "folder.png"):
        with pytest.raises(UserError, match=name):
            open_picture(tmp_path / name)


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.bmp"
    header = b"BM" + (54).to_bytes(4, "little") + b"\0" * 4 + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    size = (30_000).to_bytes(4, "little") * 2
    path.write_bytes(header + size + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + b"\0" * 24)
    with pytest.raises(UserError, match=r"bomb.bmp.*million pixels"):
        picture_size(path)


def test_thousands_of_passes_are_noticed_in_a_jpeg_with_further_pictures(tmp_path):
    """Pillow calls it MPO, a telephone's format, and decodes its first picture like any JPEG."""
    stream = io.BytesIO()
    gradient().save(stream, "MPO", save_all=True, append_images=[gradient()], progressive=True)
    usual = stream.getvalue()
    (tmp_path / "a.jpg").write_bytes(usual)
    assert Image.open(tmp_path / "a.jpg").format == "MPO" and close(open_picture(tmp_path / "a.jpg"), gradient(), 6)
    last = usual.index(b"\xff\xda")
    end = usual.index(b"\xff", last + 2)
    (tmp_path / "a.jpg").write_bytes(usual[:last] + usual[last:end] * 300 + usual[last:])
    with pytest.raises(UserError, match="passes"):
        open_picture(tmp_path / "a.jpg")


def test_a_large_jpeg_is_decoded_smaller_where_that_is_enough(tmp_path):
    gradient(800, 400).save(tmp_path / "a.jpg", quality=95)
    assert open_picture(tmp_path / "a.jpg", at_least=100).size == (200, 100)
    assert open_picture(tmp_path / "a.jpg", at_least=101).size == (400, 200)
    assert open_picture(tmp_path / "a.jpg", at_least=399).size == (800, 400)
    assert picture_size(tmp_path / "a.jpg") == (800, 400)
    gradient(800, 400).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png", at_least=100).size == (800, 400)


@pytest.mark.parametrize("turn", [1, 6])
def test_a_large_webp_comes_smaller_and_else_as_pillow_decodes_it(tmp_path, turn):
    pytest.importorskip("cv2")
    chance = np.random.default_rng(0)
    picture = Image.fromarray(chance.integers(0, 256, (60, 90, 3), np.uint8)).resize(
        (900, 600), Image.Resampling.BICUBIC
    )
    exif = Image.Exif()
    exif[0x0112] = turn
    picture.save(
        tmp_path / "a.webp",
        quality=95,
        exif=exif,
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    )
    whole = open_picture(tmp_path / "a.webp")
    small = open_picture(tmp_path / "a.webp", at_least=200)
    assert small.size == (whole.width // 3, whole.height // 3) and small.info == whole.info
    wanted = np.asarray(whole.reduce(3), np.float32)
    assert np.abs(np.asarray(small, np.float32) - wanted).max() <= 6


def test_a_webp_with_transparent_parts_or_broken_is_left_to_pillow(tmp_path):
    Image.new("RGBA", (800, 600), (0, 0, 0, 0)).save(tmp_path / "a.webp")
    assert open_picture(tmp_path / "a.webp", at_least=100).getpixel((5, 5)) == (255, 255, 255)
    Image.effect_noise((800, 600), 60).convert("RGB").save(tmp_path / "b.webp")
    (tmp_path / "b.webp").write_bytes((tmp_path / "b.webp").read_bytes()[:-400])
    with pytest.raises(UserError, match=r"b\.webp"):
        open_picture(tmp_path / "b.webp", at_least=100)
