"""Curves as SVG, without any library: the report has to open from disk, in every browser, for years."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ...core.messages.message import number

WIDTH, HEIGHT = 720, 240  # of the drawing, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 70, 12, 12, 32  # margins for the axes' labels
TICKS = 5  # of an axis, about
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626")


@dataclass(frozen=True)
class Curve:
    """Points (step, value); a None value interrupts the line."""

    label: str
    steps: Sequence[int]
    values: Sequence[float | None]

    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]


def line_chart(title: str, curves: Sequence[Curve], last_step: int) -> str:
    """Draw curves over steps 0 to `last_step`; "" if none of them has a value."""
    found = [value for curve in curves for value in curve.known()]
    if not found:
        return ""
    low, high = span(found)
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(step: float) -> float:
        return LEFT + across * step / max(1, last_step)

    def y(value: float) -> float:
        return TOP + down * (high - value) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in ticks(0, max(1, last_step)):
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{number(tick)}</text>')
    for curve, colour in zip(curves, COLOURS, strict=False):
        parts += [f'<path d="{d}" stroke="{colour}"/>' for d in lines(curve, x, y)]
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{escape(curve.label)}</span>'
        for curve, colour in zip(curves, COLOURS, strict=False)
    )
    return f"<figure><figcaption>{escape(title)} {legend}</figcaption>{''.join(parts)}</svg></figure>"


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
