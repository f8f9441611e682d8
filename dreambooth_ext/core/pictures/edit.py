"""What is done to a picture before training: quarter turns, straightening, a crop; and where its pixels come from.

The original is upright (after EXIF rotation) and never scaled. Turned by `turns` it is the frame, (width, height) in
pixels. Straightening turns the picture about the frame's middle, which keeps the frame. The crop is a box of whole
pixels in the frame; no corner of it may lie outside the straightened picture.

Points are continuous: the middle of the first pixel is (0.5, 0.5). An affine map (a, b, c, d, e, f) takes (x, y) to
(a x + b y + c, d x + e y + f), as in Pillow's `Image.transform`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError

Size = tuple[int, int]  # (width, height) in pixels
Box = tuple[int, int, int, int]  # left, top, right, bottom
Affine = tuple[float, float, float, float, float, float]

STEEPEST = 45.0  # degrees that straightening can turn
SMALLEST = 16  # pixels of a crop's side
SLACK = 1.0  # pixels that a crop's corner may be off by rounding


@dataclass(frozen=True)
class Edit:
    """turns: quarter turns clockwise, 0 to 3. straighten: degrees clockwise. crop: None is all that is left of the
    frame (`box`)."""

    turns: int = 0
    straighten: float = 0.0
    crop: Box | None = None

    @property
    def is_nothing(self) -> bool:
        return self == Edit()

    def frame(self, original: Size) -> Size:
        return original[::-1] if self.turns % 2 else original

    def box(self, original: Size) -> Box:
        """The crop; without one the whole frame or, straightened, the largest box of its proportions inside."""
        return self.crop or inscribed(self.frame(original), self.straighten)

    def size(self, original: Size) -> Size:
        left, top, right, bottom = self.box(original)
        return right - left, bottom - top

    def whole(self, original: Size) -> Edit:
        """The same edit without a crop that leaves everything."""
        is_all = self.crop and not self.straighten and self.crop == (0, 0, *self.frame(original))
        return Edit(self.turns) if is_all else self

    def check(self, original: Size) -> None:
        """Raise UserError for a crop that does not fit into a picture of this size."""
        if self.crop is None:
            return
        left, top, right, bottom = self.crop
        width, height = self.frame(original)
        least = min(SMALLEST, width, height)
        if right - left < least or bottom - top < least:
            raise UserError("editing.small_crop", "crop", least=least)
        corners = [(x, y) for x in (left, right) for y in (top, bottom)]
        inside = [apply(straightened(self.frame(original), self.straighten), point) for point in corners]
        slack = SLACK if self.straighten else 0
        for x, y in [*inside, *corners]:
            if not (-slack <= x <= width + slack and -slack <= y <= height + slack):
                raise UserError("editing.crop_outside", "crop", width=width, height=height)

    def source(self, original: Size) -> Affine:
        """The map from points of the edited picture to points of the upright original."""
        left, top, _, _ = self.box(original)
        frame = self.frame(original)
        moved: Affine = (1, 0, left, 0, 1, top)
        return after(turned(original, self.turns), after(straightened(frame, self.straighten), moved))

    def as_dict(self) -> dict[str, Any]:
        return {"turns": self.turns, "straighten": self.straighten, "crop": list(self.crop) if self.crop else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Edit:
        """Raises UserError that names what is wrong; what is left out is not done."""
        turns, straighten, crop = values.get("turns", 0), values.get("straighten", 0), values.get("crop")
        if not _is_whole(turns) or not 0 <= turns <= 3:
            raise UserError("editing.turns", "turns")
        if not isinstance(straighten, int | float) or isinstance(straighten, bool) or not abs(straighten) <= STEEPEST:
            raise UserError("editing.straighten", "straighten", most=int(STEEPEST))
        if crop is not None and not (isinstance(crop, list | tuple) and len(crop) == 4 and all(map(_is_whole, crop))):
            raise UserError("editing.crop", "crop")
        return cls(turns, round(float(straighten), 2), tuple(crop) if crop is not None else None)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**6


def inscribed(frame: Size, straighten: float) -> Box:
    """The largest box of the frame's proportions, about its middle, that a straightened picture covers."""
    width, height = frame
    angle = math.radians(abs(straighten))
    wide, high = (
        width * math.cos(angle) + height * math.sin(angle),
        width * math.sin(angle) + height * math.cos(angle),
    )
    scale = min(width / wide, height / high)  # of a box that, turned, just fits into the frame
    inner = [max(1, math.floor(scale * side + 1e-6)) for side in frame]
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    return left, top, left + inner[0], top + inner[1]


def straightened(frame: Size, degrees: float) -> Affine:
    """The map from points of the straightened frame to the frame before."""
    if not degrees:
        return (1, 0, 0, 0, 1, 0)
    x, y = frame[0] / 2, frame[1] / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)


def turned(original: Size, turns: int) -> Affine:
    """The map from points of the picture turned clockwise to the upright original."""
    width, height = original
    maps: tuple[Affine, ...] = (
        (1, 0, 0, 0, 1, 0),
        (0, 1, 0, -1, 0, height),
        (-1, 0, width, 0, -1, height),
        (0, -1, width, 1, 0, 0),
    )
    return maps[turns]


def apply(affine: Affine, point: tuple[float, float]) -> tuple[float, float]:
    a, b, c, d, e, f = affine
    x, y = point
    return a * x + b * y + c, d * x + e * y + f


def after(second: Affine, first: Affine) -> Affine:
    """The map that does `first`, then `second`."""
    a, b, _, d, e, _ = second
    g, h, _, k, m, _ = first
    c, f = apply(second, (first[2], first[5]))
    return (a * g + b * k, a * h + b * m, c, d * g + e * k, d * h + e * m, f)


def inverse(affine: Affine) -> Affine:
    a, b, c, d, e, f = affine
    scale = a * e - b * d
    return (
        e / scale,
        -b / scale,
        (b * f - c * e) / scale,
        -d / scale,
        a / scale,
        (c * d - a * f) / scale,
    )
