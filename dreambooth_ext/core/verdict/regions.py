"""The regions of a run, from its measurements: where it still learns, where it is good, where it overfits.

All numbers are logarithms of ratios to the base's loss, so that they mean the same for any base: 0 is the base, and
what counts is the share of the way down.

- With pictures kept back, the lowest loss on them is the left edge of the good region. It ends where that loss has
  come up again, or where half as much of what the run has learned holds for them: then it learns pictures by heart.
- Without, the run is good once the loss on its own pictures has become flat (DVAR, Voronov et al. 2023, arXiv
  2302.04841): its variance in the last measurements is a small part of that in all. Where it overfits cannot be seen
  then; three times as many steps are a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

FLAT = 0.15  # of the variance (DVAR)
WINDOW = 3  # measurements, at least
NEAR = 0.8  # of the way down is nearly as good as all of it
SETTLED = 3  # measurements that have to follow, or it may still fall
RISEN = 0.15  # of the way up again
HALF = 0.5  # of the share of what is learned that holds for pictures kept back, as it was where the run became good
SEEN = -0.02  # a smaller change is no change
IN_A_ROW = 2  # measurements that have to agree
GUESS = 3  # times as many steps

Region = Literal["learning", "good", "overfitting", "guessed"]  # guessed: overfitting, but no picture kept back says so


@dataclass(frozen=True)
class Regions:
    """Steps from which the run is good, and from which it overfits; None if not (yet). It learns before them.

    flat: from which step it has learned nothing new of its own pictures. is_sure: whether pictures kept back say so.
    """

    good: int | None = None
    overfitting: int | None = None
    flat: int | None = None
    is_sure: bool = False

    @property
    def is_over(self) -> bool:
        """Whether to go on does no more good: it overfits or, where no picture is kept back, learns nothing more."""
        return (self.overfitting if self.is_sure else self.flat) is not None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Span:
    """Steps from `begin` to `end` that are in one region."""

    begin: int
    end: int
    region: Region


def of(measurements: Sequence[Mapping[str, Any]]) -> Regions:
    """The regions of a run so far. measurements: as in their events, by step."""
    steps = [one["step"] for one in measurements]
    learned = [_log_mean(one["learned"].values()) for one in measurements]
    held = [_log(one.get("held")) for one in measurements]
    if not steps or any(number is None for number in learned):
        return Regions()
    flat = _flat([number or 0.0 for number in learned])
    flat_step = None if flat is None else steps[flat]
    if all(number is None for number in held) or min(number or 0.0 for number in held) > SEEN:
        good, over, is_sure = flat_step, None, False
        if any(number is not None for number in held):
            over = _first([(number or 0.0) > -SEEN for number in held])
            over, is_sure = (None if over is None else steps[over]), True
        elif good and steps[-1] >= GUESS * good:
            over = next(step for step in steps if step >= GUESS * good)
        return Regions(good, over, flat_step, is_sure)
    return _by_held(steps, [n or 0.0 for n in learned], [n or 0.0 for n in held], flat_step)


def spans(measurements: Sequence[Mapping[str, Any]]) -> list[Span]:
    """The regions up to the last measurement, as it tells them; none of fewer than two."""
    if len(measurements) < 2:
        return []
    last = measurements[-1]
    kind: Region = "overfitting" if last.get("is_sure") else "guessed"
    edges: list[tuple[Any, Region]] = [(0, "learning"), (last.get("good"), "good"), (last.get("overfitting"), kind)]
    known = [(step, region) for step, region in edges if isinstance(step, int) and step < last["step"]]
    ends = [*(step for step, _ in known[1:]), last["step"]]
    return [Span(begin, end, region) for (begin, region), end in zip(known, ends, strict=True)]


def by_step(measurements: Sequence[Mapping[str, Any]]) -> Callable[[int], Region | None]:
    """A function that tells the region of a step, None of one that comes after the last measurement."""
    known = spans(measurements)
    return lambda step: next((one.region for one in reversed(known) if one.begin <= step <= known[-1].end), None)


def _by_held(steps: list[int], learned: list[float], held: list[float], flat: int | None) -> Regions:
    lowest = min(held)
    good = next(index for index, number in enumerate(held) if number <= NEAR * lowest)
    if len(steps) - 1 - good < SETTLED:
        return Regions(flat=flat, is_sure=True)
    holds = [others / own if own < SEEN else 1.0 for own, others in zip(learned, held, strict=True)]
    signs = []
    for index, number in enumerate(held):
        before = min(held[: index + 1])
        has_risen = number - before > -RISEN * before
        signs.append(index > good and (has_risen or holds[index] < HALF * holds[good]))
    over = _first(signs)
    return Regions(steps[good], None if over is None else steps[over], flat, True)


def _flat(numbers: list[float]) -> int | None:
    """The first index at which the last numbers vary little among all so far."""
    for index in range(WINDOW, len(numbers)):
        window = max(WINDOW, round((index + 1) / 3))
        whole = _variance(numbers[: index + 1])
        if numbers[index] < SEEN and whole and _variance(numbers[index + 1 - window : index + 1]) < FLAT * whole:
            return index
    return None


def _first(signs: list[bool]) -> int | None:
    """The first index from which so many in a row agree."""
    found = (i for i in range(len(signs) - IN_A_ROW + 1) if all(signs[i : i + IN_A_ROW]))
    return next(found, None)


def _variance(numbers: list[float]) -> float:
    mean = math.fsum(numbers) / len(numbers)
    return math.fsum((number - mean) ** 2 for number in numbers) / len(numbers)


def _log_mean(ratios: Any) -> float | None:
    logs = [_log(ratio) for ratio in ratios]
    return math.fsum(logs) / len(logs) if logs and None not in logs else None  # type: ignore[arg-type]


def _log(ratio: Any) -> float | None:
    return math.log(ratio) if isinstance(ratio, int | float) and ratio > 0 and math.isfinite(ratio) else None
