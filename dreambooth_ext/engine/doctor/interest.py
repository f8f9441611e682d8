"""Where a picture's subject is, and the square that keeps it whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..pictures.faces import Face
from .view import Box, View

GRID = 16  # pixels of a cell of the map
SPREAD = 1.5  # standard deviations of the map around its centre that count as the subject
LEAST = 0.3  # of a side
# Room around a face's box, in its widths and heights: for hair above, chin below, ears beside
ROOM = (0.35, 0.55, 0.35, 0.3)
HEAD = 0.15  # for measuring: the face itself


def head(face: Face, room: tuple[float, float, float, float] = ROOM) -> Box:
    """Return a face with the room around it, as left, top, right, bottom."""
    left, top, width, height = face.box
    return (
        left - room[0] * width,
        top - room[1] * height,
        left + (1 + room[2]) * width,
        top + (1 + room[3]) * height,
    )


def subject_region(view: View) -> Box:
    """Return where to measure: the largest face, else the centre of interest; in pixels of the view."""
    if view.faces:
        return clipped(head(view.faces[0], (HEAD,) * 4), view.image.size)
    return interest_region(view)


def interest_region(view: View) -> Box:
    """Return the centre of interest and what is around it: where edges are, and colours that the rim does not have."""
    weights = _interest(view)
    height, width = weights.shape
    total = weights.sum() or 1.0
    down, across = np.arange(height) + 0.5, np.arange(width) + 0.5
    box = []
    for axis, places, length in ((0, across, width), (1, down, height)):
        marginal = weights.sum(axis) / total
        centre = float((marginal * places).sum())
        spread = float(np.sqrt((marginal * (places - centre) ** 2).sum()))
        half = max(SPREAD * spread, LEAST / 2 * length)
        box.append((centre - half, centre + half))
    (left, right), (top, bottom) = box
    across_scale, down_scale = view.image.width / width, view.image.height / height
    found = (left * across_scale, top * down_scale, right * across_scale, bottom * down_scale)
    return clipped(found, view.image.size)


def _interest(view: View) -> np.ndarray:
    """Return the map of interest, (rows, columns) of cells."""
    gradient, rgb = view.gradient, view.rgb
    cells = max(1, view.image.height // GRID), max(1, view.image.width // GRID)
    detail = _cells(gradient, cells)
    colours = np.stack([_cells(rgb[..., channel], cells) for channel in range(3)], -1)
    rim = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    strange = np.linalg.norm(colours - np.median(rim, axis=0), axis=-1)
    weights = detail / (detail.mean() + 1e-6) + strange / (strange.mean() + 1e-6)
    down = np.linspace(-1, 1, cells[0])[:, None] if cells[0] > 1 else np.zeros((1, 1))
    across = np.linspace(-1, 1, cells[1])[None] if cells[1] > 1 else np.zeros((1, 1))
    weights = weights * np.exp(-(down**2 + across**2))  # people put the subject near the middle
    return np.maximum(weights - np.percentile(weights, 60), 0) + 1e-9


def _cells(values: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    high, wide = values.shape[0] // cells[0], values.shape[1] // cells[1]
    kept = values[: high * cells[0], : wide * cells[1]]
    return kept.reshape(cells[0], high, cells[1], wide).mean((1, 3))


def clipped(box: Box, size: tuple[int, int]) -> Box:
    left, top, right, bottom = box
    return max(0.0, left), max(0.0, top), min(float(size[0]), right), min(float(size[1]), bottom)


def square_crop(
    size: tuple[int, int],
    faces: Sequence[Face],
    interest: Box,
    rims: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
) -> tuple[int, int, int, int]:
    """Return the largest square of the picture without its borders that keeps the faces whole, in whole pixels as left,
    top, right, bottom. Where all faces do not fit, the largest do; without faces it lies around the interest.

    size: (width, height); rims: the borders at left, top, right and bottom, as shares. All pixels are of one scale.
    """
    inner = rims[0] * size[0], rims[1] * size[1], size[0] * (1 - rims[2]), size[1] * (1 - rims[3])
    side = min(inner[2] - inner[0], inner[3] - inner[1])
    left = _place(side, (inner[0], inner[2]), [(h[0], h[2]) for h in map(head, faces)], (interest[0], interest[2]))
    top = _place(side, (inner[1], inner[3]), [(h[1], h[3]) for h in map(head, faces)], (interest[1], interest[3]))
    whole = max(1, int(side))
    left_px = min(max(0, round(left)), size[0] - whole)
    top_px = min(max(0, round(top)), size[1] - whole)
    return left_px, top_px, left_px + whole, top_px + whole


def _place(
    side: float, inner: tuple[float, float], heads: list[tuple[float, float]], interest: tuple[float, float]
) -> float:
    """Return where a span of length `side` begins within `inner` so that it holds as many heads as possible, in their
    order, and lies around them, or around the interest without any."""
    low, high = inner[0], inner[1] - side
    span: tuple[float, float] | None = None
    for first, last in heads:
        first, last = max(first, inner[0]), min(last, inner[1])
        wider = (first, last) if span is None else (min(span[0], first), max(span[1], last))
        if span is None or wider[1] - wider[0] <= side:
            span = wider
    middle = sum(span if span is not None else interest) / 2
    return min(max(low, middle - side / 2), max(low, high))
