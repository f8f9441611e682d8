"""Pictures for the doctor's tests: with structure of every size, as photographs have it, and without any fault."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image, ImageDraw


def scene(width: int = 600, height: int = 512, seed: int = 0, colour: Sequence[float] = (1, 1, 1)) -> Image.Image:
    """Discs of all sizes over each other (the "dead leaves" model of photographs): full range, sharp, no noise."""
    chance = random.Random(seed)
    image = Image.new("RGB", (width, height), "#808080")
    draw = ImageDraw.Draw(image)
    for size in sorted((3 / max(chance.random(), 0.02) for _ in range(1500)), reverse=True):
        x, y, level = chance.uniform(0, width), chance.uniform(0, height), chance.uniform(5, 245)
        shade = tuple(int(level * share * chance.uniform(0.8, 1)) for share in colour)
        draw.ellipse((x - size, y - size, x + size, y + size), fill=shade)
    return image
