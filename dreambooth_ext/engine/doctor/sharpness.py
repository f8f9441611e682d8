"""How sharp a picture is: what is left of fine structure beside coarse, in each direction.

Photographs have spectra that fall like 1/f (Field, 1987), so the ratio of fine to coarse amplitudes says little about
the motif and much about the lens: a Gauss filter lowers it in all directions, a movement in one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .view import Box

TILE = 64  # pixels
STEP = 48  # pixels from tile to tile
SECTORS = 8  # of half a turn
COARSE, FINE = (0.05, 0.14), (0.22, 0.4)  # cycles a pixel
# Tiles that tell something: with at least this share of the contrast that the picture's best tiles have
CONTRAST = 0.15
BEST = 80  # percentile of the tiles: a subject is smaller than the picture
# Power that rounding to whole grey levels has in each frequency of a tile: 1/12, times the window's squares (0.375 x
# 64, twice); with half as much again for what it varies
ROUNDING = 1.5 / 12 * (0.375 * TILE) ** 2
LEAST_BEST = 0.05  # of the best tiles' contrast, below which a direction is empty


@dataclass(frozen=True)
class Sharpness:
    """overall: fine over coarse amplitudes, some 0.17 to 0.5 in sharp photographs; worst: in the direction that has
    least, some 0.13 to 0.4."""

    overall: float
    worst: float


def sharpness(grey: np.ndarray, region: Box | None = None) -> Sharpness | None:
    """Return how sharp a luminance (height, width), or a region of it, is; None where it has no structure at all."""
    tiles = _tiles(grey, region)
    if tiles is None:
        return None
    fine, coarse = _amplitudes(tiles)
    fine = np.maximum(fine - ROUNDING, 0)
    contrast = coarse.mean(1)
    top = float(np.percentile(contrast, 95))
    if top < 10 * ROUNDING:
        return None
    used = contrast >= CONTRAST * top
    floor = LEAST_BEST * top
    overall = np.sqrt(fine[used].mean(1) / (contrast[used] + floor))
    by_sector = np.percentile(np.sqrt(fine[used] / (coarse[used] + floor)), BEST, axis=0)
    smooth = (by_sector + np.roll(by_sector, 1)) / 2
    return Sharpness(float(np.percentile(overall, BEST)), float(smooth.min()))


def _tiles(grey: np.ndarray, region: Box | None) -> np.ndarray | None:
    """Return the tiles of a region, (tiles, TILE, TILE); None if the picture is smaller than one."""
    height, width = grey.shape
    if height < TILE or width < TILE:
        return None
    left, top, right, bottom = region or (0, 0, width, height)
    step = STEP if region is None else STEP // 3
    rows, columns = _starts(top, bottom, height, step), _starts(left, right, width, step)
    return np.stack([grey[y : y + TILE, x : x + TILE] for y in rows for x in columns])


def _starts(first: float, last: float, length: int, step: int) -> list[int]:
    """Where tiles begin so that they lie in [first, last], or at least around its middle."""
    first, last = max(0, int(first)), min(length, int(last))
    if last - first < TILE:
        return [min(max(0, (first + last - TILE) // 2), length - TILE)]
    return list(range(first, last - TILE + 1, step))


def _amplitudes(tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean power of fine and of coarse structure, each (tiles, SECTORS)."""
    window = np.outer(np.hanning(TILE), np.hanning(TILE)).astype(np.float32)
    power = np.abs(np.fft.rfft2((tiles - tiles.mean((1, 2), keepdims=True)) * window)) ** 2
    power = power.reshape(len(tiles), -1).astype(np.float32)
    down, across = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]
    frequency, angle = np.hypot(across, down), np.arctan2(down, across + 1e-9)
    sector = np.rint((angle / np.pi + 0.5) * SECTORS).astype(int) % SECTORS
    return _means(power, frequency, sector, FINE), _means(power, frequency, sector, COARSE)


def _means(power: np.ndarray, frequency: np.ndarray, sector: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    inside = (frequency > band[0]) & (frequency < band[1])
    weights = np.stack([(inside & (sector == number)).ravel() for number in range(SECTORS)], 1).astype(np.float32)
    return power @ (weights / weights.sum(0))
