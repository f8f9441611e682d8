"""Aspect ratio buckets (as in kohya's tools): training sizes of about one area, so that pictures keep their
proportions."""

from __future__ import annotations

import math

STEP = 64  # pixels; the UNet halves latents (1/8) three times more


def bucket_sizes(resolution: int) -> list[tuple[int, int]]:
    """Return all training sizes (width, height): multiples of 64 with an area of at most resolution^2, and always the
    square. Sides range from half the resolution to twice it (256 to 1024 for 512, as kohya's defaults; 512 to 2048 for
    1024, as SDXL was trained). A resolution of 64 has only the square."""
    area = resolution * resolution
    least = max(STEP, resolution // 2 // STEP * STEP)
    most = max(least, 2 * resolution // STEP * STEP)
    square = max(STEP, resolution // STEP * STEP)
    sizes = {(square, square)}
    for width in range(least, most + 1, STEP):
        height = min(most, area // width // STEP * STEP)
        if height >= least:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def assign(size: tuple[int, int], sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the bucket for a picture of `size` (width, height): the closest aspect ratio, and the largest area if
    several are.

    Aspect ratios are compared by their logarithm, so that 2:1 and 1:2 are treated alike.
    """
    ratio = math.log(size[0] / size[1])
    return min(sizes, key=lambda s: (round(abs(math.log(s[0] / s[1]) - ratio), 9), -s[0] * s[1], s))
