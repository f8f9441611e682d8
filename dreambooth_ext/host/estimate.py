"""How long a run will take: from earlier runs on this machine, else from the guide's table, else unknown."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import guide
from ..config import RunConfig
from ..errors import UserError
from ..runs import Run, list_runs

LOOKED_AT = 50  # runs, the newest
REACH = 256 * 1024  # bytes of a run's events that are read, from its beginning and from its end
SAME_PLAN = ("family", "resolution", "device", "optimizer", "mixed_precision")
SAME_CONFIG = (
    "method",
    "train_batch_size",
    "gradient_accumulation_steps",
    "with_prior_preservation",
    "gradient_checkpointing",
    "attention",
    "cache_latents",
    "use_ema",
    "max_token_length",
)


@dataclass
class Pace:
    """Seconds that a run took for what it does often; None for what it did not do. Sums of all runs would mix cards."""

    step: float | None = None
    text_step: float | None = None  # while a text encoder trains along
    saving: float | None = None  # one save, of state and model
    preparing: float | None = None  # loading and caching, without class pictures


def seconds(runs_dir: Path, config: RunConfig, plan: dict[str, Any], card: str = "") -> dict[str, Any]:
    """{"seconds": number | None, "source": text} for a completed config and its plan (`Inspector.inspect`).

    `card`: the device's name, as `Environment.status().device` says it.
    """
    if not plan:
        return {"seconds": None, "source": "needs the deep check"}
    for run in list_runs(runs_dir)[:LOOKED_AT]:
        pace = _pace(run, config, plan)
        if pace:
            return {"seconds": round(_total(pace, config, plan)), "source": f"the pace of {run.id} on this machine"}
    return _from_guide(config, plan, card) or {"seconds": None, "source": "no run on this machine yet"}


def _pace(run: Run, config: RunConfig, plan: dict[str, Any]) -> Pace | None:
    """How fast that run was, if it was of the same kind on this machine."""
    try:
        state, old = run.state(), run.config
    except (UserError, OSError):
        return None
    there = state.get("plan")
    if not isinstance(there, dict) or state.get("host") != platform.node():
        return None
    if any(there.get(name) != plan.get(name) for name in SAME_PLAN):
        return None
    if any(getattr(old, name) != getattr(config, name) for name in SAME_CONFIG):
        return None
    pace = measured(_events(run.path / "events.jsonl"))
    return pace if pace.step or pace.text_step else None


def measured(events: list[dict[str, Any]]) -> Pace:
    """The medians of what lies between events: a pause of the machine, a preview or a save spoils no step's time."""
    steps: dict[bool, list[float]] = {False: [], True: []}
    saves: list[float] = []
    drawn = False
    begun = preparing = None
    for before, event in zip([{}, *events], events, strict=False):
        passed = event["time"] - before.get("time", event["time"])
        kind, status = event["type"], event.get("status")
        if kind == "step" and before.get("type") == "step" and event["step"] == before["step"] + 1:
            steps[any(name != "unet" for name in event.get("lr", {}))].append(passed)
        elif kind == "status" and status == "preparing":
            begun, drawn = begun or event["time"], drawn or "class" in str(event.get("stage"))
        elif (
            kind == "status" and status == "training" and before.get("type") in ("checkpoint", "artifact", "published")
        ):
            saves.append(event["time"] - _start_of_saving(events, event))
        elif kind == "step" and begun and preparing is None:
            preparing = event["time"] - begun
    return Pace(
        step=statistics.median(steps[False]) if steps[False] else None,
        text_step=statistics.median(steps[True]) if steps[True] else None,
        saving=statistics.median(saves) if saves else None,
        preparing=None if drawn else preparing,
    )


def _start_of_saving(events: list[dict[str, Any]], end: dict[str, Any]) -> float:
    starts = [e["time"] for e in events if e["n"] < end["n"] and e["type"] == "status" and e.get("status") == "saving"]
    return starts[-1] if starts else end["time"]


def _total(pace: Pace, config: RunConfig, plan: dict[str, Any]) -> float:
    with_text = min(plan["steps"], plan["text_encoder_steps"])
    step, text_step = pace.step or pace.text_step or 0.0, pace.text_step or pace.step or 0.0
    every = config.checkpointing_steps
    saves = 1 + (max(0, plan["steps"] - 1) // every if every else 0)
    others = saves * (pace.saving or 0.0) + (pace.preparing or 0.0)
    return with_text * text_step + (plan["steps"] - with_text) * step + others


def _events(path: Path) -> list[dict[str, Any]]:
    """The first and the last events of a log that may be long."""
    try:
        with path.open("rb") as stream:
            head = stream.read(REACH)
            size = stream.seek(0, 2)
            stream.seek(max(len(head), size - REACH))
            tail = stream.read()
    except OSError:
        return []
    found = {event["n"]: event for part in (head, tail) for event in _parsed(part)}
    return [found[number] for number in sorted(found)]


def _parsed(part: bytes) -> Iterator[dict[str, Any]]:
    for line in part.splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # cut by our reach
            continue
        if isinstance(event, dict) and isinstance(event.get("n"), int) and isinstance(event.get("time"), float | int):
            yield event


def _from_guide(config: RunConfig, plan: dict[str, Any], card: str) -> dict[str, Any] | None:
    """The guide's minutes, where they fit: Stable Diffusion 1 or 2 at 512, one picture a step, on a card it names."""
    fits = (
        str(plan["device"]).startswith("cuda")
        and plan["family"] in ("Stable Diffusion 1", "Stable Diffusion 2")
        and plan["resolution"] == guide.TIMED_RESOLUTION
        and config.train_batch_size * config.gradient_accumulation_steps == 1
        and not config.with_prior_preservation
    )
    name = next((name for name in guide.MINUTES if name in card), None) if fits else None
    if name is None:
        return None
    least, most = guide.MINUTES[name]
    middle = (least + most) / 2 * 60 * plan["steps"] / guide.TIMED_STEPS
    return {"seconds": round(middle), "source": f"the guide's {least} to {most} minutes for 1500 steps on a {name}"}
