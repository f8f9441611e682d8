"""What training cuts out of a picture: a square, or one of the aspect ratio buckets (as in kohya's tools), which keep
its proportions. The trainer and the page ask the same functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

Size = tuple[int, int]  # (width, height) in pixels

STEP = 64  # pixels; the UNet halves latents (1/8) three times more


@dataclass(frozen=True)
class Crop:
    """How a training picture is cut out. The original is scaled to `resized`, then cropped to `target` at (left, top).

    Sizes are (width, height) in pixels; `original` is the size of the upright picture, after EXIF rotation.
    """

    original: Size
    target: Size
    left: int
    top: int

    @property
    def resized(self) -> Size:
        return resized_size(self.original, self.target)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of what is left, in pixels of the original."""
        (width, height), (wide, high) = self.original, self.resized
        return (
            self.left * width / wide,
            self.top * height / high,
            min(width, (self.left + self.target[0]) * width / wide),
            min(height, (self.top + self.target[1]) * height / high),
        )

    def time_ids(self, flip: bool) -> tuple[int, int, int, int, int, int]:
        """Return SDXL's time ids: original (height, width), crop (top, left), target (height, width).

        A mirrored picture is a crop of the mirrored original, so its left edge is counted from the other side.
        """
        left = self.resized[0] - self.left - self.target[0] if flip else self.left
        return (*self.original[::-1], self.top, left, *self.target[::-1])


def resized_size(original: Size, target: Size) -> Size:
    """Return the smallest (width, height) with the original's proportions that covers the target."""
    scale = max(target[0] / original[0], target[1] / original[1])
    return max(target[0], round(original[0] * scale)), max(target[1], round(original[1] * scale))


def centre_crop(original: Size, target: Size) -> Crop:
    width, height = resized_size(original, target)
    return Crop(original, target, (width - target[0]) // 2, (height - target[1]) // 2)


def random_crop(original: Size, target: Size, x: float, y: float) -> Crop:
    """Return the crop chosen by x and y, which are drawn from [0, 1). All positions are equally likely."""
    width, height = resized_size(original, target)
    return Crop(original, target, int((width - target[0] + 1) * x), int((height - target[1] + 1) * y))


def training_size(original: Size, resolution: int, enable_bucket: bool) -> Size:
    """The size that a picture is trained at: its bucket, or the square."""
    return assign(original, bucket_sizes(resolution)) if enable_bucket else (resolution, resolution)


def bucket_sizes(resolution: int) -> list[Size]:
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


def assign(size: Size, sizes: list[Size]) -> Size:
    """Return the bucket for a picture of `size` (width, height): the closest aspect ratio, and the largest area if
    several are.

    Aspect ratios are compared by their logarithm, so that 2:1 and 1:2 are treated alike.
    """
    ratio = math.log(size[0] / size[1])
    return min(sizes, key=lambda s: (round(abs(math.log(s[0] / s[1]) - ratio), 9), -s[0] * s[1], s))
