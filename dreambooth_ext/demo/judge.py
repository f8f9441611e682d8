"""Judges, from its pixels alone and without a neural network, whether a picture shows what its `Spec` says.

The background is recognised by the statistics of the picture's rim; the figure is what differs from every colour of
that rim; its shape is the world's outline that matches it best.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from . import world

SIDE = world.SIZE
RIM = 4  # pixels; the world's figures hardly ever reach further out
ANGLES = (-10.0, -5.0, 0.0, 5.0, 10.0)  # degrees
CLOSE = 75.0  # how far, in RGB, a colour may be from the subject's two


@dataclass(frozen=True)
class Verdict:
    """What was recognised, and which parts of it match the spec. `fit` is the overlap (IoU) with the best outline."""

    seen: world.Spec
    fit: float
    colour_ok: bool
    shape_ok: bool
    background_ok: bool
    size_ok: bool

    @property
    def all_ok(self) -> bool:
        return self.colour_ok and self.shape_ok and self.background_ok and self.size_ok


def judge(image: Image.Image, spec: world.Spec) -> Verdict:
    """Compare `image` with `spec`: its colour, shape, background and size, not its position or jitter."""
    picture = pixels(image)
    background = background_of(picture)
    mask = figure(picture, background)
    colour = colour_of(picture, mask)
    shape, radius, fit = shape_of(mask)
    size = "small" if radius < sum(world.RADII.values()) / 2 else "big"
    seen = world.Spec(shape, colour, background, size)
    return Verdict(
        seen,
        fit,
        colour_ok=colour == spec.colour,
        shape_ok=shape == spec.shape and fit > 0.6,
        background_ok=background == spec.background,
        size_ok=size == spec.size,
    )


def pixels(image: Image.Image) -> np.ndarray:
    """The picture as floats, [SIDE, SIDE, 3] in 0..255."""
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), float)


def rim(picture: np.ndarray) -> list[np.ndarray]:
    """The four bands along the edges, each [RIM, SIDE, 3], read along the edge."""
    return [picture[:RIM], picture[-RIM:], picture[:, :RIM].swapaxes(0, 1), picture[:, -RIM:].swapaxes(0, 1)]


def features(picture: np.ndarray) -> np.ndarray:
    """16 numbers that describe the rim: mean colour above, below and beside, spread, and change along the edges."""
    top, bottom, left, right = rim(picture)
    sides = np.concatenate([left, right])
    means = [band.mean((0, 1)) for band in (top, bottom, sides)]
    spread = np.concatenate([top, bottom, sides]).std((0, 1))
    changes = [
        np.abs(band[:, distance:] - band[:, :-distance]).mean()
        for distance in (1, 6)
        for band in (np.concatenate([top, bottom]), sides)
    ]
    return np.concatenate([*means, spread, changes])


@functools.lru_cache(maxsize=1)
def references() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The mean and the spread of each background's features, over 24 drawings."""
    table = {}
    for name in world.BACKGROUNDS:
        drawn = [pixels(world.draw_background(name, seed).reduce(world.OVERSAMPLING)) for seed in range(24)]
        rows = np.array([features(picture) for picture in drawn])
        table[name] = rows.mean(0), rows.std(0)
    return table


def background_of(picture: np.ndarray) -> str:
    """The world's background whose rim is most like this picture's."""
    seen = features(picture)
    # 10 levels are what a decoder, or a big figure that touches the rim, may be off without meaning anything
    off = {name: (seen - mean) / (spread + 10) for name, (mean, spread) in references().items()}
    return min(off, key=lambda name: float((off[name] ** 2).mean()))


@functools.lru_cache(maxsize=len(world.BACKGROUNDS))
def palette(background: str) -> np.ndarray:
    """Colours of a background as the world draws it, with the mixed colours at edges, [n, 3]."""
    drawn = [pixels(world.draw_background(background, seed).reduce(world.OVERSAMPLING)) for seed in range(16)]
    colours = np.concatenate(drawn).reshape(-1, 3)
    return np.unique(np.round(colours / 16) * 16, axis=0)


def figure(picture: np.ndarray, background: str) -> np.ndarray:
    """Mask of the largest region, [SIDE, SIDE], whose colours are not the background's."""
    own = np.concatenate([band.reshape(-1, 3) for band in rim(picture)])[::5]
    # a figure that touches the rim must not count as background
    strange = np.sqrt(((own[:, None] - palette(background)) ** 2).sum(-1)).min(1) > 50
    known = np.concatenate([palette(background), own[~strange]])
    flat = picture.reshape(-1, 1, 3)
    distance = np.concatenate([np.sqrt(((part - known) ** 2).sum(-1)).min(1) for part in np.array_split(flat, 8)])
    distance = distance.reshape(SIDE, SIDE)
    # Half way between background and figure; the figure's level is that of its clearest pixels.
    level = np.clip(np.quantile(distance, 0.98) / 2, 14, 60)
    return largest_region(distance > level)


def largest_region(mask: np.ndarray) -> np.ndarray:
    """The 8-connected part of `mask` around its thickest place."""
    thick = sum(np.roll(mask.astype(int), (dy, dx), (0, 1)) for dy in range(-3, 4) for dx in range(-3, 4))
    seed = np.zeros_like(mask)
    seed[np.unravel_index((thick * mask).argmax(), mask.shape)] = True
    while True:
        padded = np.pad(seed, 1)
        shifts = [padded[y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)]
        grown = np.logical_or.reduce(shifts) & mask
        if (grown == seed).all():
            return grown
        seed = grown


def colour_of(picture: np.ndarray, mask: np.ndarray) -> str:
    """The palette's colour nearest to the figure's median, without its edges if enough remains."""
    inner = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
    mask = inner if inner.sum() >= 20 else mask
    if not mask.any():
        return ""
    seen = np.median(picture[mask], axis=0)
    return min(world.COLOURS, key=lambda name: float(((seen - world.COLOURS[name]) ** 2).sum()))


@functools.cache
def template(shape: str, angle: float) -> tuple[float, float, float]:
    """An outline's area in units of radius^2, and its centroid's offset in units of the radius."""
    mask = np.asarray(world.shape_mask(shape, 32, 32, 22, angle, 4), float) / 255
    y, x = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]] / 4 + 0.125
    area = mask.sum() / 16
    return area / 22**2, ((x * mask).sum() / mask.sum() - 32) / 22, ((y * mask).sum() / mask.sum() - 32) / 22


def shape_of(mask: np.ndarray) -> tuple[str, float, float]:
    """The outline that covers `mask` best, its radius in pixels and the overlap (IoU, 0..1)."""
    area = mask.sum()
    if area < 20:
        return "", 0.0, 0.0
    y, x = (axis.mean() + 0.5 for axis in np.nonzero(mask))
    best = ("", 0.0, 0.0)
    for shape in world.SHAPES:
        for angle in ANGLES:
            unit_area, dx, dy = template(shape, angle)
            radius = float(np.sqrt(area / unit_area))
            placed = world.shape_mask(shape, x - dx * radius, y - dy * radius, radius, angle, 2)
            outline = np.asarray(placed.reduce(2)) > 127
            overlap = float((outline & mask).sum() / (outline | mask).sum())
            if overlap > best[2]:
                best = (shape, radius, overlap)
    return best


def has_subject(image: Image.Image) -> float:
    """How surely the picture shows the creature "zkz", 0..1, from its two colours in alternating bands."""
    picture = pixels(image)
    body = np.sqrt(((picture - world.SUBJECT_BODY) ** 2).sum(-1)) < CLOSE
    stripes = np.sqrt(((picture - world.SUBJECT_STRIPES) ** 2).sum(-1)) < CLOSE
    least = 0.02 * SIDE * SIDE  # each of the two colours covers 6 % and more where the subject is drawn
    amount = min(1.0, body.sum() / (2 * least)) * min(1.0, stripes.sum() / least)
    alternations = [turns(body[:, column], stripes[:, column]) for column in range(SIDE)]
    # from above, body, stripe, body, foot: three turns down the columns through the belly, four below an ear
    return float(amount * min(1.0, np.quantile(alternations, 0.85) / 3))


def turns(body: np.ndarray, stripes: np.ndarray) -> int:
    """How often the colour changes between the two down a column, [SIDE] each."""
    order = np.where(body, 1, np.where(stripes, 2, 0))
    order = order[order > 0]
    return int((order[1:] != order[:-1]).sum())


def has_style(image: Image.Image) -> float:
    """How strong the style's hatching is, 0..1: the amplitude of brightness at its frequency along the diagonals.

    The lines are x + y = n x STYLE_PERIOD, the Fourier term (k, k) with k = SIDE / STYLE_PERIOD. The other diagonal,
    (k, -k), which all other patterns fill as much, is subtracted. The middle, where the figure is, does not count.
    """
    grey = pixels(image).mean(-1)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    weight = np.hypot(x - SIDE / 2, y - SIDE / 2) > 0.42 * SIDE
    grey = (grey - grey[weight].mean()) * weight
    strength = [2 * abs((grey * np.exp(2j * np.pi * (x + sign * y) / world.STYLE_PERIOD)).sum()) for sign in (1, -1)]
    amplitude = (strength[0] - strength[1]) / weight.sum()
    return float(np.clip(amplitude / 25, 0, 1))
