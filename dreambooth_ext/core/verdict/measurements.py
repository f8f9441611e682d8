"""What a run has measured of itself, read from its events (`engine.training.fixed_loss` writes them)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

NUMBERS = ("learned", "held", "class", "drift", "word")  # of a measurement


def still_valid(events: Iterable[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The events of a kind, by step, without those of steps that a resumed run has gone back behind."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        step = event.get("step")
        if not isinstance(step, int):
            continue
        if event.get("type") == "status":
            found = {known: one for known, one in found.items() if known <= step}
        elif event.get("type") == kind:
            found[step] = dict(event)
    return [found[step] for step in sorted(found)]


def of(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A run's measurements, by step."""
    return still_valid(events, "measurement")


def numbers(measured: Mapping[str, Any]) -> dict[str, float | None]:
    """A measurement as one number each of NUMBERS; of `learned`, the geometric mean over the noise levels."""
    known = {name: _finite(measured.get(name)) for name in NUMBERS}
    by_level = measured.get("learned")
    ratios = [_finite(ratio) for ratio in by_level.values()] if isinstance(by_level, Mapping) else []
    logs = [math.log(ratio) for ratio in ratios if ratio and ratio > 0]
    mean = math.exp(math.fsum(logs) / len(logs)) if logs and len(logs) == len(ratios) else None
    return {**known, "learned": mean}


def _finite(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
