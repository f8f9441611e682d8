"""How sharp a picture is: what is left of fine structure beside coarse, in each direction.

Photographs have spectra that fall like 1/f (Field, 1987), so the ratio of fine to coarse amplitudes says little about
the motif and much about the lens: a Gauss filter lowers it in all directions, a movement in one. A strong blur takes
the coarse structure as well, and what little is left of both says nothing; but smaller copies of the picture then lack
what is fine in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
SMALLER = (2, 4)  # times, the copies in which a strong blur shows
# Of the best tiles' contrast: a tile with less in a direction, as along straight lines, says nothing about it
EMPTY = 0.05
FEWEST = 3  # tiles that tell of a direction


@dataclass(frozen=True)
class Sharpness:
    """overall: fine over coarse amplitudes, some 0.17 to 0.5 in sharp photographs; worst: in the direction that has
    least, some 0.13 to 0.4, infinite if the picture has structure in none; in_copies: the least `worst` of smaller
    copies, some 0.1 to 0.5, infinite if they have no structure."""

    overall: float
    worst: float
    in_copies: float = math.inf


def sharpness(grey: np.ndarray, region: Box | None = None) -> Sharpness | None:
    """Return how sharp a luminance (height, width), or a region of it, is; None where it has no structure at all."""
    found, in_copies = _sharpness(grey, region), math.inf
    for times in SMALLER:
        copy = _smaller(grey, times)
        if (less := _sharpness(copy, region and _divided(region, times))) is not None:
            in_copies = min(in_copies, less.worst)
    if found is None:  # all its structure may be too coarse for its size
        return None if in_copies == math.inf else Sharpness(0.0, in_copies, in_copies)
    return replace(found, in_copies=in_copies)


def _smaller(grey: np.ndarray, times: int) -> np.ndarray:
    """Return a copy with the means of squares of so many pixels a side."""
    height, width = (side // times for side in grey.shape)
    return grey[: height * times, : width * times].reshape(height, times, width, times).mean((1, 3))


def _divided(box: Box, times: int) -> Box:
    left, top, right, bottom = box
    return left / times, top / times, right / times, bottom / times


def _sharpness(grey: np.ndarray, region: Box | None) -> Sharpness | None:
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
    overall = np.sqrt(fine[used].mean(1) / contrast[used])
    worst = _worst_direction(_between(fine[used]), _between(coarse[used]), EMPTY * top)
    return Sharpness(float(np.percentile(overall, BEST)), worst)


def _between(powers: np.ndarray) -> np.ndarray:
    """Return the mean of each sector and the one beside it."""
    return (powers + np.roll(powers, 1, axis=1)) / 2


def _worst_direction(fine: np.ndarray, coarse: np.ndarray, empty: float) -> float:
    """Return the least ratio of amplitudes that the best tiles have in a direction; infinite if none is told of."""
    told = coarse >= empty
    enough = min(FEWEST, len(fine))
    sectors = [number for number in range(SECTORS) if told[:, number].sum() >= enough]
    ratios = (np.sqrt(fine[told[:, one], one] / coarse[told[:, one], one]) for one in sectors)
    return min((float(np.percentile(ratio, BEST)) for ratio in ratios), default=math.inf)


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
