"""A run's curves for the page: a few thousand points for a hundred thousand steps, and every step when zoomed in.

Each run's events are read once, and after that only new ones.
"""

from __future__ import annotations

import bisect
import csv
import io
import math
import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.verdict import measurements, regions
from ...core.verdict.measurements import still_valid
from .event_pages import parsed

RUNS = 8  # whose curves are kept; 100 000 steps take some 5 MB
LAST = 2**62  # a step beyond all
POINTS = 2000  # of a curve, in an answer
TRAINS = ("training", "saving")  # statuses in which the time of training passes
BEGINS = ("queued", "preparing")  # that follow on a pause, also where nobody could write that it began


@dataclass
class Curves:
    """One run's curves: loss, learning rates and time for each step, in order, and all events that are no steps.

    The time is what training has taken up to the step's end, in seconds: with previews and saves, without pauses.
    """

    offset: int = 0  # where the next event begins in the file
    number: int = 0  # of the last event
    steps: array = field(default_factory=lambda: array("q"))
    losses: array = field(default_factory=lambda: array("d"))
    seconds: array = field(default_factory=lambda: array("d"))
    rates: dict[str, array] = field(default_factory=dict)  # by group; NaN where it does not learn
    latest: dict[str, Any] | None = None  # the newest step's event
    events: list[dict[str, Any]] = field(default_factory=list)
    passed: float = 0.0  # seconds of training up to the last event
    time: float | None = None  # of the last event
    trains: bool = False  # whether time passes after it

    def read(self, path: Path) -> bool:
        """Read the new part of the file. False if it is not the same file as before."""
        with path.open("rb") as stream:
            if stream.seek(0, 2) < self.offset:
                return False
            stream.seek(self.offset)
            known = self.number
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # being written just now
                event = parsed(line)
                if event is not None and known and self.number == known and event["n"] != known + 1:
                    return False
                self.offset += len(line)
                if event is not None:
                    self.take(event)
        return True

    def take(self, event: dict[str, Any]) -> None:
        """Add the run's next event."""
        self.number = event["n"]
        self._let_pass(event)
        step = event.get("step")
        kind = event.get("type")
        if kind == "step" and isinstance(step, int):
            self._take_step(event, step)
            return
        if kind == "status":
            if isinstance(step, int):
                self._forget_from(step + 1)
            if self.events and self.events[-1].get("stage"):  # how far a stage was matters no more
                self.events.pop()
        self.events.append(event)

    def _let_pass(self, event: dict[str, Any]) -> None:
        time, status = _number(event.get("time")), event.get("status") if event.get("type") == "status" else None
        if self.trains and status not in BEGINS and self.time is not None and time > self.time:
            self.passed += time - self.time
        if math.isfinite(time):
            self.time = time
        if status is not None:
            self.trains = status in TRAINS

    def _take_step(self, event: dict[str, Any], step: int) -> None:
        self._forget_from(step)  # a resumed run goes over the steps since its last training state again
        rates = event.get("lr")
        rates = rates if isinstance(rates, dict) else {"rate": rates}
        for group in rates:
            if group not in self.rates:
                self.rates[group] = array("d", [math.nan]) * len(self.steps)
        self.steps.append(step)
        self.losses.append(_number(event.get("loss")))
        self.seconds.append(self.passed)
        for group, values in self.rates.items():
            values.append(_number(rates.get(group)))
        self.latest = event

    def _forget_from(self, step: int) -> None:
        if not self.steps or self.steps[-1] < step:
            return
        left = bisect.bisect_left(self.steps, step)
        for values in (self.steps, self.losses, self.seconds, *self.rates.values()):
            del values[left:]

    def whole(self) -> dict[str, Any]:
        """All curves, thinned out, the other `events`, the `latest` step's event, and the last event's number as
        `next`, from which pages fetch further events one by one; `clock`: the training time up to then."""
        clock = {"seconds": round(self.passed, 3), "time": self.time, "trains": self.trains}
        about = {"events": list(self.events), "latest": self.latest, "next": self.number, "clock": clock}
        return {**self.thinned(0, LAST, POINTS), **about}

    def thinned(self, first: int, last: int, points: int) -> dict[str, Any]:
        """The steps from `first` to `last`, grouped so that at most `points` are left.

        A point is at the last of its steps, and `spans` is their number; losses are means, `low` and `high` the
        extremes, rates those of the last step.
        """
        begin, end = bisect.bisect_left(self.steps, first), bisect.bisect_right(self.steps, last)
        stride = max(1, math.ceil((end - begin) / points))
        parts = [range(at, min(at + stride, end)) for at in range(begin, end, stride)]
        losses = [[loss for loss in self.losses[p.start : p.stop] if math.isfinite(loss)] for p in parts]
        return {
            "steps": [self.steps[part[-1]] for part in parts],
            "spans": [len(part) for part in parts],
            "seconds": [round(self.seconds[part[-1]], 3) for part in parts],
            "losses": [sum(part) / len(part) if part else None for part in losses],
            "low": [min(part, default=None) for part in losses],
            "high": [max(part, default=None) for part in losses],
            "rates": {group: [_json(values[part[-1]]) for part in parts] for group, values in self.rates.items()},
        }

    def table(self) -> str:
        """Every step as CSV: step, seconds, loss, the learning rate of each group, the validation loss, and what the
        run measured of itself with the region that the step is in."""
        validation, measured = self._validation(), measurements.of(self.events)
        by_step = {one["step"]: one for one in measured}
        region_of = regions.by_step(measured)
        steps = sorted({*self.steps, *validation, *by_step})
        place = {step: at for at, step in enumerate(self.steps)}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        rates = [f"lr_{group}" for group in self.rates]
        columns = [f"measured_{name}" for name in measurements.NUMBERS]
        writer.writerow(["step", "seconds", "loss", *rates, "validation_loss", *columns, "region"])
        for step in steps:
            at = place.get(step)
            own = [] if at is None else [self.losses[at], *(rates[at] for rates in self.rates.values())]
            cells = [_cell(value) for value in own] or [""] * (1 + len(self.rates))
            seconds = "" if at is None else round(self.seconds[at], 3)
            numbers = measurements.numbers(by_step[step]).values() if step in by_step else [None] * len(columns)
            told = [_cell(_number(value)) for value in (validation.get(step), *numbers)]
            writer.writerow([step, seconds, *cells, *told, region_of(step) or ""])
        return text.getvalue()

    def _validation(self) -> dict[int, float]:
        """The validation loss by step."""
        return {event["step"]: _number(event.get("loss")) for event in still_valid(self.events, "validation")}


class RunCurves:
    """The curves of many runs; thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, Curves] = OrderedDict()
        self._lock = threading.Lock()

    def whole(self, path: Path) -> dict[str, Any]:
        """`Curves.whole` of a run."""
        with self._lock:
            return self._of(path).whole()

    def part(self, path: Path, first: int, last: int, points: int = POINTS) -> dict[str, Any]:
        """A run's curves from one step to another."""
        with self._lock:
            return self._of(path).thinned(first, last, max(1, min(points, 2 * POINTS)))

    def table(self, path: Path) -> str:
        """`Curves.table` of a run."""
        with self._lock:
            return self._of(path).table()

    def forget(self, path: Path) -> None:
        with self._lock:
            self._known.pop(path, None)

    def _of(self, path: Path) -> Curves:
        curves = self._known.setdefault(path, Curves())
        self._known.move_to_end(path)
        while len(self._known) > RUNS:
            self._known.popitem(last=False)
        try:
            if not curves.read(path):  # a run of the same name in place of a deleted one
                curves = self._known[path] = Curves()
                curves.read(path)
        except FileNotFoundError:
            pass
        return curves


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan


def _cell(value: float) -> float | str:
    return value if math.isfinite(value) else ""


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
