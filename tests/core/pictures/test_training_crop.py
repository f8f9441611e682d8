from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreambooth_ext.core.pictures.training_crop import assign, bucket_sizes


def test_the_sizes_of_512_are_kohyas():
    def kohya(area: int, least: int, most: int) -> set[tuple[int, int]]:
        found = {(512, 512)}
        for width in range(least, most + 1, 64):
            height = min(most, area // width // 64 * 64)
            if height >= least:
                found |= {(width, height), (height, width)}
        return found

    assert set(bucket_sizes(512)) == kohya(512 * 512, 256, 1024)
    assert {(256, 1024), (320, 768), (384, 640), (448, 576), (512, 512), (1024, 256)} <= set(bucket_sizes(512))


@pytest.mark.parametrize("resolution", [64, 128, 192, 256, 512, 576, 768, 1024, 2048])
def test_sizes(resolution):
    sizes = bucket_sizes(resolution)
    assert (resolution, resolution) in sizes and len(set(sizes)) == len(sizes)
    for width, height in sizes:
        assert width % 64 == height % 64 == 0 and 64 <= width <= 2 * resolution and height >= 64
        assert width * height <= resolution**2
        assert (height, width) in sizes


def test_64_has_the_square_alone():
    assert bucket_sizes(64) == [(64, 64)]


@pytest.mark.parametrize(
    ("size", "bucket"),
    [((512, 512), (512, 512)), ((4000, 3000), (576, 448)), ((3000, 4000), (448, 576)), ((10_000, 10), (1024, 256))],
)
def test_assignment(size, bucket):
    assert assign(size, bucket_sizes(512)) == bucket


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_upright_and_lying_pictures_are_treated_alike(width, height):
    sizes = bucket_sizes(512)
    wide, high = assign((width, height), sizes)
    assert (wide >= high) == (width >= height) or wide == high
    if width != height:
        assert assign((height, width), sizes) == (high, wide)
