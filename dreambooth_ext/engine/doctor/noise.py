"""How much noise a picture has: the deviation of its quietest parts (Immerkaer, "Fast noise variance estimation",
1996)."""

from __future__ import annotations

import numpy as np

TILE = 16  # pixels
QUIETEST = 5  # percentile of the tiles: grass and gravel look like noise, but not everywhere
SEEN = (25, 230)  # luminance of tiles that count: noise is cut off in black and white
FEWEST = 20  # tiles


def noise(grey: np.ndarray) -> float:
    """Return the standard deviation of the noise in a luminance (height, width), in grey levels of 255."""
    height, width = (grey.shape[0] - 2) // TILE * TILE, (grey.shape[1] - 2) // TILE * TILE
    if height <= 0 or width <= 0:
        return 0.0
    # the difference of two Laplacians, which neither planes nor straight edges reach: [1 -2 1; -2 4 -2; 1 -2 1]
    across = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    both = np.abs(across[:-2] - 2 * across[1:-1] + across[2:])[:height, :width]
    shape = height // TILE, TILE, width // TILE, TILE
    deviation = both.reshape(shape).mean((1, 3)) * np.sqrt(np.pi / 2) / 6
    level = grey[1 : 1 + height, 1 : 1 + width].reshape(shape).mean((1, 3))
    seen = (level > SEEN[0]) & (level < SEEN[1])
    return float(np.percentile(deviation[seen] if seen.sum() >= FEWEST else deviation, QUIETEST))
