"""How long a run will take: from earlier runs on this machine, else from the guide's table, else unknown."""

from __future__ import annotations

import itertools
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
ALIKE = 1.5  # how far apart the memory of two runs may be
KEYS = {"n": int, "time": (int, float), "type": str}  # that every event has
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
    """Seconds that a run took; None for what it did not do."""

    step: float | None  # a step of the UNet alone
    text_step: float | None  # a step while a text encoder trains along
    saving: float  # one save, of state and model
    preparing: float  # loading and caching, without the drawing of class pictures


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
    memory = there.get("memory")  # a small base is of a family, too
    if not isinstance(memory, int | float) or not 1 / ALIKE < memory / max(1, plan["memory"]) < ALIKE:
        return None
    if any(getattr(old, name) != getattr(config, name) for name in SAME_CONFIG):
        return None
    pace = measured(_events(run.path / "events.jsonl"))
    return pace if pace.step or pace.text_step else None


def measured(events: list[dict[str, Any]]) -> Pace:
    """Medians of the time between a step's event and the next: a preview or a pause of the machine spoils none."""
    steps: dict[bool, list[float]] = {False: [], True: []}
    saving = preparing = 0.0
    saves, status = 0, ""
    for before, event in itertools.pairwise(events):
        status = before.get("status", status)
        passed = event["time"] - before["time"] if event["n"] == before["n"] + 1 else 0.0  # there may be a gap
        if event["type"] == before["type"] == "step":
            steps[any(name != "unet" for name in event.get("lr", {}))].append(passed)
        elif status == "saving":
            saving += passed
        elif status == "preparing" and "class" not in event.get("stage", ""):
            preparing += passed
        saves += event["type"] == "checkpoint"
    return Pace(
        step=statistics.median(steps[False]) if steps[False] else None,
        text_step=statistics.median(steps[True]) if steps[True] else None,
        saving=saving / saves if saves else 0.0,
        preparing=preparing,
    )


def _total(pace: Pace, config: RunConfig, plan: dict[str, Any]) -> float:
    with_text = min(plan["steps"], plan["text_encoder_steps"])
    step, text_step = pace.step or pace.text_step or 0.0, pace.text_step or pace.step or 0.0
    saves = 1 + guide.saves_on_the_way(config, plan["steps"], plan.get("epochs") or 0.0)
    others = saves * pace.saving + pace.preparing
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
        if isinstance(event, dict) and all(isinstance(event.get(key), kind) for key, kind in KEYS.items()):
            yield event


def _from_guide(config: RunConfig, plan: dict[str, Any], card: str) -> dict[str, Any] | None:
    """The guide's minutes, where they fit: Stable Diffusion 1 or 2 at 512, one picture a step, on a card it names."""
    fits = (
        str(plan.get("device", "")).startswith("cuda")
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
