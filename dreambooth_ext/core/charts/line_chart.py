"""Curves as SVG, without any library: what is written opens from disk, in every browser, for years."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..messages.message import number

WIDTH, HEIGHT = 720, 240  # of the drawing, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 70, 12, 12, 32  # margins for the axes' labels
LETTER = 9  # width of a letter on a narrow screen, about
TICKS = 5  # of an axis, about
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2")


@dataclass(frozen=True)
class Curve:
    """Points (step, value); a None value interrupts the line."""

    label: str
    steps: Sequence[float]
    values: Sequence[float | None]

    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]


@dataclass(frozen=True)
class Band:
    """A shaded stretch of steps, behind the lines."""

    label: str
    begin: float
    end: float
    colour: str


FILE_STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#6b7280}path{fill:none;stroke-width:2}"
    ".grid{stroke:#d4d4d8}</style>"
)


def line_chart(title: str, curves: Sequence[Curve], last_step: int, bands: Sequence[Band] = ()) -> str:
    """Draw curves over steps 0 to `last_step` as an HTML figure; "" if none of them has a value."""
    if not any(curve.known() for curve in curves):
        return ""
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{escape(curve.label)}</span>'
        for curve, colour in zip(curves, COLOURS, strict=False)
    )
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    drawing += "".join(parts(curves, last_step, bands))
    return f"<figure><figcaption>{escape(title)} {legend}</figcaption>{drawing}</svg></figure>"


def svg_file(title: str, curves: Sequence[Curve], last_step: float, from_zero: bool = False) -> str:
    """Draw curves as the content of an .svg file, with its legend; "" if none of them has a value. from_zero: the axis
    of values begins there."""
    if not any(curve.known() for curve in curves):
        return ""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -28 {WIDTH} {HEIGHT + 28}">'
    legend, left = [], LEFT
    for curve, colour in zip(curves, COLOURS, strict=False):
        legend.append(f'<rect x="{left}" y="-18" width="14" height="3" fill="{colour}"/>')
        legend.append(f'<text x="{left + 18}" y="-12">{escape(curve.label)}</text>')
        left += 30 + 7 * len(curve.label)
    drawn = "".join([*legend, *parts(curves, last_step, from_zero=from_zero)])
    return f"{head}<title>{escape(title)}</title>{FILE_STYLE}{drawn}</svg>"


def parts(curves: Sequence[Curve], last_step: float, bands: Sequence[Band] = (), from_zero: bool = False) -> list[str]:
    """The elements of a drawing: bands, grid, labels and lines."""
    low, high = span([value for curve in curves for value in curve.known()])
    low = min(0.0, low) if from_zero else low
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(step: float) -> float:
        return LEFT + across * step / max(1, last_step)

    def y(value: float) -> float:
        return TOP + down * (high - value) / (high - low)

    found = []
    for band in bands:
        left, width = x(band.begin), x(band.end) - x(band.begin)
        place = f'x="{left:.1f}" y="{TOP}" width="{width:.1f}" height="{down}"'
        found.append(f'<rect {place} fill="{band.colour}" opacity="0.15"><title>{escape(band.label)}</title></rect>')
        if width > LETTER * len(band.label):  # a narrow one says it only to those who point at it
            found.append(f'<text x="{left + 4:.1f}" y="{TOP + 14}">{escape(band.label)}</text>')
    for tick in ticks(low, high):
        found.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        found.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in ticks(0, max(1, last_step)):
        found.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{number(tick)}</text>')
    for curve, colour in zip(curves, COLOURS, strict=False):
        found += [f'<path d="{d}" stroke="{colour}"/>' for d in lines(curve, x, y)]
    return found


def lines(curve: Curve, x, y) -> list[str]:
    """An SVG path for each stretch without a gap."""
    found: list[list[str]] = [[]]
    for step, value in zip(curve.steps, curve.values, strict=True):
        if value is None:
            found.append([])
        else:
            found[-1].append(f"{x(step):.1f} {y(value):.1f}")
    return [f"M{' L'.join(points if len(points) > 1 else points * 2)}" for points in found if points]


def span(values: Sequence[float]) -> tuple[float, float]:
    """The axis' ends: a bit more than the values need, so that no line lies on the edge."""
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, about `TICKS` of them: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]
