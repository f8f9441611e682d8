"""How strongly a picture was compressed: by a JPEG's own tables, else by the seams between its blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLOCK = 8  # pixels of a JPEG's blocks
STANDARD = 3692  # the sum of the standard's table for luminance (ITU-T T.81, K.1), which quality scales


def jpeg_quality(tables: Sequence[int]) -> int | None:
    """Return the quality, 1 to 100 as in libjpeg, that the quantisation table of luminance stands for; None without."""
    if len(tables) != BLOCK * BLOCK:
        return None
    percent = 100 * sum(tables) / STANDARD  # libjpeg: 5000 / quality below 50, else 200 - 2 quality
    return max(1, min(100, round(5000 / percent if percent > 100 else (200 - percent) / 2)))


def blockiness(grey: np.ndarray) -> float:
    """Return how much larger steps between pixels are at the seams of 8 x 8 blocks than elsewhere, as a share; about 0
    where there are no blocks. grey: luminance (height, width) in the file's own pixels."""
    seams = [_seams(grey), _seams(grey.T)]
    return float(min(seams))


def _seams(grey: np.ndarray) -> float:
    steps = np.minimum(np.abs(np.diff(grey, axis=1)), 24)  # edges of the motif are no seams
    columns = steps.mean(0)
    columns = columns[: len(columns) // BLOCK * BLOCK]
    if len(columns) < 4 * BLOCK:
        return 0.0
    phases = np.median(columns.reshape(-1, BLOCK), axis=0)  # of the seams, wherever the first one is
    best = int(phases.argmax())
    others = np.delete(phases, best)
    return float(phases[best] / (others.mean() + 0.25) - 1)
