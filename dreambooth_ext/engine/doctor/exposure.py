"""Whether a picture is too dark, too bright or too flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .view import Box, View

BLOWN = 254  # of 255: a colour that is this bright has lost its detail
PALE = 48  # of 255, of the darkest colour: with less, as in a red petal, the other colours still have the detail
VIVID = 95  # percentile of the pixels' colourfulness
FRAME = 0.03  # of a side: the strip that shows whether the ground is white
WHITE = 246
MOST_OF_FRAME = 0.75
MANY = 40_000  # pixels
EDGES = 75  # percentile of the gradient above which a pixel belongs to an edge


@dataclass(frozen=True)
class Exposure:
    """Luminances of 0 to 255, and a share.

    highlights, middle, shadows: what 99, 50 and 1 % of the pixels are below; edges: what 90 % of those at edges are
    below (a lamp is bright, and few edges are at it); contrast: highlights less shadows; colour: what 95 % of the
    pixels' colourfulness is below (brightest colour less darkest); blown: the share of pixels without detail, 0 to 1.
    """

    highlights: float
    middle: float
    shadows: float
    edges: float
    contrast: float
    colour: float
    blown: float


def exposure(view: View, region: Box | None = None) -> Exposure:
    """Measure the picture, or a region in pixels of the view. A ground of pure white, as behind goods, is left out of
    what counts as blown."""
    rows, columns = _slices(view, region)
    grey, gradient, brightest = view.grey[rows, columns], view.gradient[rows, columns], view.brightest[rows, columns]
    low, middle, high = np.percentile(grey, (1, 50, 99))
    strong = gradient >= max(float(np.percentile(gradient, EDGES)), 1)
    edges = float(np.percentile(grey[strong], 90)) if strong.any() else float(high)
    darkest = view.darkest[rows, columns]
    blown = (brightest >= BLOWN) & (darkest >= PALE)
    colour = float(np.percentile(brightest - darkest, VIVID))
    if region is None and has_white_ground(view):
        blown = blown & ~_ground(view)[rows, columns]
    return Exposure(float(high), float(middle), float(low), edges, float(high - low), colour, float(blown.mean()))


def has_white_ground(view: View) -> bool:
    """Whether the picture's frame is white on three sides or more, or on most of all four."""
    pale = view.darkest >= WHITE
    deep = max(1, round(FRAME * min(pale.shape)))
    sides = [float(side.mean()) for side in (pale[:deep], pale[-deep:], pale[:, :deep], pale[:, -deep:])]
    return sum(side > 0.9 for side in sides) >= 3 or sum(sides) > 4 * MOST_OF_FRAME


def _ground(view: View) -> np.ndarray:
    """Return where there is nothing but white around: bool (height, width)."""
    pale = view.darkest >= WHITE
    tile = 8
    height, width = pale.shape[0] // tile * tile, pale.shape[1] // tile * tile
    ground = np.ones_like(pale)
    tiles = pale[:height, :width].reshape(height // tile, tile, width // tile, tile).all((1, 3))
    ground[:height, :width] = tiles.repeat(tile, 0).repeat(tile, 1)
    return ground


def _slices(view: View, region: Box | None) -> tuple[slice, slice]:
    height, width = view.grey.shape
    left, top, right, bottom = region or (0, 0, width, height)
    left, top = min(max(0, int(left)), width - 1), min(max(0, int(top)), height - 1)
    right, bottom = min(width, max(left + 1, int(right))), min(height, max(top + 1, int(bottom)))
    step = 2 if (right - left) * (bottom - top) > MANY else 1  # every fourth pixel says as much
    return slice(top, bottom, step), slice(left, right, step)
