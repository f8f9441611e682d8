"""Pictures of a telephone or a browser are opened to be looked at, whatever Pillow the WebUI has."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from dreambooth_ext.engine.pictures import other_formats

from .samples import AVIF, HEIC


@pytest.mark.parametrize(("name", "content"), [("HEIF", HEIC), ("AVIF", AVIF)])
def test_they_are_read(name, content):
    formats = other_formats.readable_formats()
    if name not in formats:
        pytest.skip("its package is optional")
    with Image.open(io.BytesIO(content), formats=formats) as picture:
        assert picture.size == (16, 16)
        colour = picture.convert("RGB").getpixel((8, 8))
    assert all(abs(one - wanted) <= 6 for one, wanted in zip(colour, (200, 100, 40), strict=True))


def test_old_pillow_gets_the_mode_that_it_asks_for():
    """Before 10.1 it writes "" there, and reads it once the file was opened; `tests.environments` has such ones."""
    pytest.importorskip("pi_heif")
    picture = other_formats.heif_for_old_pillow()(io.BytesIO(HEIC))
    assert picture.mode == "RGB"
    picture.mode = ""
    assert picture.mode == ""
    picture._mode = "RGB"
    assert picture.mode == "RGB" and picture.convert("RGB").getpixel((8, 8))[0] > 190
