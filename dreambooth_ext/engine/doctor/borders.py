"""Bars and frames around a picture: letterboxes, the white rim of a scan, screens beside an upright film."""

from __future__ import annotations

import numpy as np

EVEN = 4.0  # grey levels: the most that a bar's pixels deviate
DIFFERENT = 12.0  # grey levels between the bar and what comes behind it
STRAIGHT = 0.55  # of a bar's length at which the picture begins at once: a bar's end is a line, a plain ground's is not
BEHIND = 4  # pixels behind the bar in which it must begin
LEAST = 0.012  # of a side: thinner is the rim of a scaled picture
RINGING = 3  # pixels beside an edge that scaling (Lanczos) has mixed with it
LEAST_INSIDE = 0.2  # of the length must be picture
MOST = 0.45  # of a side


def borders(grey: np.ndarray) -> tuple[float, float, float, float]:
    """Return how much of the width and height is bar at the left, top, right and bottom; 0 where there is none.

    grey: luminance (height, width).
    """
    turned = (grey.T, grey, grey.T[::-1], grey[::-1])
    left, top, right, bottom = map(_bar, turned)
    return left, top, right, bottom


def _bar(grey: np.ndarray) -> float:
    """Return the share of the rows that are a bar at the top."""
    rows = len(grey)
    most = int(MOST * rows)
    colour = float(np.median(grey[0]))
    deviation = np.abs(grey[:most] - colour)
    even = np.percentile(deviation, 98, axis=1) <= EVEN
    deep = most if even.all() else int(even.argmin())
    if deep < max(2, LEAST * rows) or deep == most:
        return 0.0
    inside = (np.abs(grey - colour) >= DIFFERENT).mean(0) >= STRAIGHT / 2  # columns that are no bars themselves
    begins = np.abs(grey[deep : deep + BEHIND] - colour).max(0) >= DIFFERENT
    is_wide = inside.mean() >= LEAST_INSIDE
    is_bar = is_wide and begins[inside].mean() >= STRAIGHT
    return (deep + RINGING) / rows if is_bar else 0.0
