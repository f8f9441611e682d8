"""Look at one picture: what is wrong with it by itself, its faces, and the square that would be cut out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import Problem
from ...core.messages.message import Message
from ..pictures.faces import why_not
from . import lettering
from .borders import borders
from .compression import blockiness, jpeg_quality
from .exposure import Exposure, exposure
from .finding import ERROR, HINT, WARNING, finding
from .fingerprint import fingerprint
from .interest import interest_region, square_crop, subject_region
from .noise import noise
from .sharpness import Sharpness, sharpness
from .view import Box, View, open_view

RESOLUTION = 512  # pixels, where none is asked for
# Thresholds, chosen on one half of the photographs and shown on the other: docs/measurements.md
SOFT = 0.048  # `Sharpness.worst` of a picture that is out of focus
MOVED = 0.12, 0.6  # the same of one that was moved, and its share of `Sharpness.overall`
SOFT_FACE = 0.04
DARK_HIGHLIGHTS, DARK_EDGES, DARK_MIDDLE = 150.0, 105.0, 60.0  # luminance
DARK_FACE = 75.0  # luminance that nine tenths of its edges are below
BLOWN, BLOWN_FACE = 0.15, 0.25  # share
FLAT, LIFTED = 103.0, 25.0  # luminance: contrast, and how bright the darkest parts are then
COLOURFUL = 85.0  # `Exposure.colour` of what is not flat: a green leaf has little contrast, and much colour
NOISY = 8.0  # deviation in luminance
BLOCKS = 0.24  # `blockiness`
QUALITIES = ((2.0, 40), (4.0, 20), (1e9, 10))  # up to this scale, this JPEG quality still shows
NARROW = 3.0  # sides as 3 to 1: beyond, a crop leaves little of the picture
TINY = 0.5  # of the training size: enlarged to twice their size and more, pictures have no detail at all


def look(path: str, resolution: int = RESOLUTION) -> dict[str, Any]:
    """Return {"width", "height", "findings", "crop", "faces", "print", "sharp"} of one picture.

    crop: left, top, right, bottom in pixels of the upright picture, as are the boxes of the faces, the largest first.
    print: see `fingerprint`. sharp: how sharp it is, to choose the better of two. Raises UserError if it cannot be
    read.
    """
    view = open_view(Path(path), resolution)
    rims = borders(view.grey)
    scale = view.scale
    region, interest = subject_region(view), interest_region(view)
    crop = square_crop(view.image.size, view.faces, interest, rims)
    sharp = sharpness(view.grey, region if view.faces else None)
    return {
        "width": view.size[0],
        "height": view.size[1],
        "findings": found(view, resolution, rims, region, sharp),
        "crop": _in_original(crop, scale, view.size),
        "faces": [_in_original(_box(face.box), scale, view.size) for face in view.faces],
        "print": fingerprint(view),
        "sharp": round(sharp.overall, 4) if sharp and sharp.in_copies >= SOFT else 0.0,
    }


def found(
    view: View, resolution: int, rims: tuple[float, float, float, float], region: Box, sharp: Sharpness | None
) -> list[dict[str, Any]]:
    """Return the findings about a picture by itself. rims: its borders; region: where its subject is."""
    return [
        *_of_file(view, resolution),
        *_of_light(view, region),
        *_of_sharpness(view, region, sharp),
        *_of_noise(view),
        *_of_compression(view, resolution),
        *_of_borders(rims),
        *_of_lettering(view),
    ]


def _of_file(view: View, resolution: int) -> list[dict[str, Any]]:
    """Size, shape and frames."""
    made = []
    short, long = min(view.size), max(view.size)
    if short < resolution:
        width, height = view.size
        severity = ERROR if short < TINY * resolution else WARNING
        problem = Problem("findings.small", width=width, height=height, resolution=resolution)
        made.append(finding("small", severity, problem))
    if long > NARROW * short:
        made.append(finding("extreme_shape", WARNING, Problem("findings.extreme_shape", ratio=round(long / short, 1))))
    if view.is_animated:
        made.append(finding("animated", HINT, Problem("findings.animated")))
    if view.has_pages:
        made.append(finding("animated", HINT, Problem("findings.pages")))
    return made


def _of_light(view: View, region: Box) -> list[dict[str, Any]]:
    whole = exposure(view)
    if view.faces:
        face = exposure(view, region)
        if face.edges < DARK_FACE:
            return [finding("dark", WARNING, Problem("findings.dark_face"))]
        if face.blown > BLOWN_FACE:
            return [finding("bright", WARNING, Problem("findings.bright_face", percent=_percent(face.blown)))]
    if whole.blown > BLOWN:
        return [finding("bright", WARNING, Problem("findings.bright", percent=_percent(whole.blown)))]
    made = [finding("flat", HINT, Problem("findings.flat"))] if is_flat(whole) else []
    return made + ([finding("dark", WARNING, Problem("findings.dark"))] if is_dark(whole) else [])


def is_flat(whole: Exposure) -> bool:
    return _has_little_contrast(whole) and whole.colour < COLOURFUL


def _has_little_contrast(whole: Exposure) -> bool:
    return whole.contrast < FLAT and whole.shadows >= LIFTED


def is_dark(whole: Exposure) -> bool:
    """One that is merely flat has no bright parts either, but its middle is no darker for that."""
    is_dim = whole.highlights < DARK_HIGHLIGHTS or whole.edges < DARK_EDGES
    return is_dim and not (_has_little_contrast(whole) and whole.middle >= DARK_MIDDLE)


def _of_sharpness(view: View, region: Box, sharp: Sharpness | None) -> list[dict[str, Any]]:
    if sharp is None:
        return []
    if view.faces:
        is_soft = min(sharp.worst, sharp.in_copies) < SOFT_FACE
        return [finding("blurred", WARNING, Problem("findings.blurred_face"))] if is_soft else []
    if not is_blurred(sharp):
        return []
    inside = sharpness(view.grey, region)
    if inside is not None and not is_blurred(inside):  # a sharp subject before a soft ground
        return []
    return [finding("blurred", WARNING, Problem("findings.blurred"))]


def is_blurred(sharp: Sharpness) -> bool:
    is_moved = sharp.worst < MOVED[0] and sharp.worst < MOVED[1] * sharp.overall
    return min(sharp.worst, sharp.in_copies) < SOFT or is_moved


def _of_noise(view: View) -> list[dict[str, Any]]:
    return [finding("noisy", WARNING, Problem("findings.noisy"))] if noise(view.grey) > NOISY else []


def _of_compression(view: View, resolution: int) -> list[dict[str, Any]]:
    scale = min(view.size) / resolution
    quality = jpeg_quality(view.tables)
    if quality is not None and quality <= next(least for most, least in QUALITIES if scale < most):
        return [finding("compressed", WARNING, Problem("findings.compressed", quality=quality))]
    if view.sample is not None and scale < QUALITIES[0][0] and _blocks(view) > BLOCKS:
        return [finding("compressed", WARNING, Problem("findings.blocks"))]
    return []


def _blocks(view: View) -> float:
    assert view.sample is not None
    return blockiness(np.asarray(view.sample.convert("L"), np.float32))


def _of_borders(rims: tuple[float, float, float, float]) -> list[dict[str, Any]]:
    if not any(rims):
        return []
    left, top, right, bottom = rims
    share = 1 - (1 - left - right) * (1 - top - bottom)
    return [finding("borders", WARNING, Problem("findings.borders", percent=max(1, _percent(share))))]


def _of_lettering(view: View) -> list[dict[str, Any]]:
    return [finding("text", HINT, Problem("findings.text"))] if lettering.has_lettering(view) else []


def missing() -> list[Message]:
    """Return what is not looked for in this environment, and why."""
    return [why for why in (why_not(),) if why is not None]


def _percent(share: float) -> int:
    return round(100 * share)


def _box(box: tuple[float, float, float, float]) -> Box:
    left, top, width, height = box
    return left, top, left + width, top + height


def _in_original(box: Box | tuple[int, int, int, int], scale: float, size: tuple[int, int]) -> list[int]:
    left, top, right, bottom = (value * scale for value in box)
    return [
        max(0, round(left)),
        max(0, round(top)),
        min(size[0], round(right)),
        min(size[1], round(bottom)),
    ]
