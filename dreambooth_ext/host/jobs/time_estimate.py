"""Estimates how long a run will take, from earlier runs on this machine, else from the guide's table, else not at all.

The pace of a similar run is used as it is. That of a different run is scaled by the work of a step, counted in passes
of Stable Diffusion 1's UNet over one picture of 512 x 512:

    work = pictures * (resolution / 512)^2 * unet * (passes + encoding) * precision

    pictures    batch * accumulation, twice as many with prior preservation: a class picture for each
    unet        multiplications of the UNet on the same area, `unet_work` in a run's plan
    passes      1 forward, 1 back to the inputs, 1 back to the weights if these learn, 1 more forward with checkpointing
    encoding    of a picture by the VAE at each step, where latents are not cached
    precision   float32 on a card takes twice the time of 16 bits

Previews are counted as well, the base's before the first step among them: as they were measured, or, where no run drew
any, as two passes forward, with and without the prompt, for each sampling step.
"""

from __future__ import annotations

import itertools
import json
import math
import platform
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from ...core.config.run_config import RunConfig
from ...core.data.concepts import uses_prior
from ...core.data.picture_entries import caches_latents
from ...core.errors import UserError
from ...core.facts.methods import PROMPTED_METHODS
from ...core.guide import completion, tables
from ...core.messages.message import Message, beside
from ...core.runs.run_folder import Run
from ...core.runs.run_list import list_runs
from ...core.system.files import expanded

LOOKED_AT = 50  # runs, the newest
REACH = 256 * 1024  # bytes of a run's events that are read, from its beginning and from its end
ALIKE = 1.5  # how far apart the memory of two runs may be
KEYS: dict[str, Any] = {"n": int, "time": (int, float), "type": str}  # that every event has
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
    "model_config",
    "max_token_length",
)
SAME_SIZE = 5  # fold: a file may hold 32 bits and a moving average beside the model; a small model is far smaller
FROZEN = ("lora", "textual_inversion", "hypernetwork")  # methods that leave the model's own weights as they are
ENCODING = 1.6  # the VAE's encoder, 0.54e12 multiplications at 512 x 512


@dataclass
class Pace:
    """Seconds that the parts of a run took; None for what it did not do."""

    step: float | None  # a step of the UNet alone
    text_step: float | None  # a step while a text encoder trains along
    saving: float  # one save, of state and model
    preparing: float  # loading and caching, without the drawing of class pictures
    drawing: float | None = None  # a preview


def seconds(runs_dir: Path, config: RunConfig, plan: dict[str, Any], card: str = "") -> dict[str, Any]:
    """{"seconds": number | None, "source": text}, with the text's code, for a completed config and its plan.

    plan: from `DeepCheck.inspect`. `card`: the device's name, as in `Environment.status().device`.
    """
    if not plan:
        return _answer(None, Message("guide.time_unchecked"))
    known = [past for run in list_runs(runs_dir)[:LOOKED_AT] if (past := _past(run, plan))]
    for past in known:
        if _is_same(past, config, plan) and (pace := past.pace()):
            pace.drawing = _drawing(pace, past, config, plan)
            return _answer(_total(pace, config, plan), Message("guide.time_of_run", run=past.run.config.name))
    others = [(ratio, past) for past in known if (ratio := _ratio(past, config, plan))]
    for ratio, past in sorted(others, key=lambda pair: abs(math.log(pair[0]))):  # the nearest; of equals the newest
        if pace := past.pace():
            total = _total(_scaled(pace, past, ratio, config, plan), config, plan)
            return _answer(total, Message("guide.time_of_other_run", run=past.run.config.name))
    return _from_guide(config, plan, card) or _answer(None, Message("guide.time_unknown"))


def _answer(seconds: float | None, source: Message) -> dict[str, Any]:
    return {"seconds": None if seconds is None else round(seconds), **beside("source", source)}


@dataclass
class Past:
    """An earlier run on this machine's device."""

    run: Run
    plan: dict[str, Any]

    def pace(self) -> Pace | None:
        """The run's pace; None if it made fewer than two steps."""
        pace = measured(_events(self.run.path / "events.jsonl"))
        return pace if pace.step or pace.text_step else None


def _past(run: Run, plan: dict[str, Any]) -> Past | None:
    try:
        state = run.state()
        run.config  # noqa: B018 - raises where it cannot be read
    except (UserError, OSError):
        return None
    there = state.get("plan")
    if not isinstance(there, dict) or state.get("host") != platform.node():
        return None
    return Past(run, there) if _device(there) == _device(plan) else None


def _device(plan: dict[str, Any]) -> str:
    return str(plan.get("device")).partition(":")[0]


def _is_same(past: Past, config: RunConfig, plan: dict[str, Any]) -> bool:
    if any(past.plan.get(name) != plan.get(name) for name in SAME_PLAN):
        return False
    memory = past.plan.get("memory")  # a small base is of a family, too
    if not isinstance(memory, int | float) or not 1 / ALIKE < memory / max(1, plan["memory"]) < ALIKE:
        return False
    return all(getattr(past.run.config, name) == getattr(config, name) for name in SAME_CONFIG)


def _ratio(past: Past, config: RunConfig, plan: dict[str, Any]) -> float | None:
    """The work of this run's step as a multiple of that run's; None if they cannot be compared."""
    old = past.run.config
    if not old.base_model or old.base_model != config.base_model:
        there, here = _share(old, past.plan), _share(config, plan)
        if not there or not here or not 1 / SAME_SIZE < there / here < SAME_SIZE:
            return None
    there, here = work(old, past.plan), work(config, plan)
    return here / there if here and there else None


def _share(config: RunConfig, plan: dict[str, Any]) -> float | None:
    """The base's size relative to its family's usual one; None if unknown."""
    usual = plan.get("usual_bytes")
    if not _is_positive(usual) or not config.base_model:
        return None
    path = expanded(config.base_model)
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / usual
        if path.is_file():
            return path.stat().st_size / usual
    except (OSError, ValueError):
        return None
    return None if path.is_absolute() else 1.0  # from the Hub or a link


def _is_positive(value: Any) -> TypeGuard[float]:
    """Whether a plan's value is a positive number; the file may be from an older version, or edited."""
    return isinstance(value, int | float) and 0 < value < math.inf


def work(config: RunConfig, plan: dict[str, Any]) -> float | None:
    """The work of a step, in the module's units; None if the plan lacks the values."""
    one = _pass(plan)
    pictures = config.train_batch_size * config.gradient_accumulation_steps * (2 if uses_prior(config) else 1)
    on_card = _device(plan) != "cpu"
    checkpointing = config.gradient_checkpointing if config.gradient_checkpointing is not None else on_card
    passes = 2 + (config.method not in FROZEN) + checkpointing + (0 if caches_latents(config) else ENCODING)
    return None if one is None else pictures * one * passes


def drawing_work(config: RunConfig, plan: dict[str, Any]) -> float | None:
    """The work of drawing one preview, in the same units; for unconditional models a preview is a grid."""
    one = _pass(plan)
    if config.method in PROMPTED_METHODS:
        return one and one * 2 * config.validation_inference_steps
    steps = config.ddpm_num_inference_steps or config.ddpm_num_steps
    return one and one * steps * config.validation_num_images


def _pass(plan: dict[str, Any]) -> float | None:
    """The work of one pass of the UNet over one picture; None if the plan lacks the values."""
    unet, resolution = plan.get("unet_work"), plan.get("resolution")
    if not _is_positive(unet) or not isinstance(resolution, int) or resolution <= 0:
        return None
    precision = 2 if _device(plan) != "cpu" and plan.get("mixed_precision") == "no" else 1
    return (resolution / 512) ** 2 * unet * precision


def previews(config: RunConfig, steps: int) -> int:
    """How many preview pictures a run of so many steps draws."""
    if not config.validation_steps:
        return 0
    times = math.ceil(steps / config.validation_steps) + bool(config.base_model)  # before the first step, too
    pictures = len(config.validation_prompts) * config.validation_num_images
    return times * (pictures if config.method in PROMPTED_METHODS else 1)


def _drawing(pace: Pace, past: Past, config: RunConfig, plan: dict[str, Any]) -> float | None:
    """Seconds for one preview: scaled from the past run's previews, else from the time of a step."""
    here, there, step = drawing_work(config, plan), drawing_work(past.run.config, past.plan), work(config, plan)
    if pace.drawing and here and there and past.run.config.method == config.method:
        return pace.drawing * here / there
    return (pace.step or pace.text_step or 0.0) * here / step if here and step else None


def _scaled(pace: Pace, past: Past, ratio: float, config: RunConfig, plan: dict[str, Any]) -> Pace:
    """That run's pace, scaled by the work of a step; saves take as long if the same kind of model is saved."""
    saves_alike = past.run.config.method == config.method and past.plan.get("family") == plan["family"]
    scaled = Pace(
        step=pace.step and pace.step * ratio,
        text_step=pace.text_step and pace.text_step * ratio,
        saving=pace.saving if saves_alike else 0.0,
        preparing=pace.preparing,
        drawing=pace.drawing,
    )
    scaled.drawing = _drawing(scaled, past, config, plan)
    return scaled


def measured(events: list[dict[str, Any]]) -> Pace:
    """The medians of the time between step events, so that previews and pauses of the machine do not count."""
    steps: dict[bool, list[float]] = {False: [], True: []}
    drawing: list[float] = []
    saving = preparing = 0.0
    saves, status = 0, ""
    for before, event in itertools.pairwise(events):
        status = before.get("status", status)
        passed = event["time"] - before["time"] if event["n"] == before["n"] + 1 else 0.0  # there may be a gap
        if event["type"] == before["type"] == "step":
            steps[any(name != "unet" for name in event.get("lr", {}))].append(passed)
        elif event["type"] == "sample" and before.get("stage_code") == "stages.previews" and passed:
            drawing.append(passed)
        elif status == "saving":
            saving += passed
        elif status == "preparing" and event.get("stage_code") != "stages.class_pictures":
            preparing += passed
        saves += event["type"] == "checkpoint"
    return Pace(
        step=statistics.median(steps[False]) if steps[False] else None,
        text_step=statistics.median(steps[True]) if steps[True] else None,
        saving=saving / saves if saves else 0.0,
        preparing=preparing,
        drawing=statistics.median(drawing) if drawing else None,
    )


def _total(pace: Pace, config: RunConfig, plan: dict[str, Any]) -> float:
    with_text = min(plan["steps"], plan["text_encoder_steps"])
    step, text_step = pace.step or pace.text_step or 0.0, pace.text_step or pace.step or 0.0
    saves = 1 + completion.saves_on_the_way(config, plan["steps"], plan.get("epochs") or 0.0)
    others = saves * pace.saving + pace.preparing + previews(config, plan["steps"]) * (pace.drawing or 0.0)
    return with_text * text_step + (plan["steps"] - with_text) * step + others


def _events(path: Path) -> list[dict[str, Any]]:
    """The first and last events of a log that may be long."""
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
    """The guide's minutes for DreamBooth with one picture of 512 per step on a card it lists, scaled by the work."""
    name = next((name for name in tables.MINUTES if name in card), None)
    timed = {"unet_work": 1.0, "resolution": tables.TIMED_RESOLUTION, "device": "cuda"}
    here, there = work(config, plan), work(RunConfig(), timed)
    if name is None or _device(plan) != "cuda" or not here or not there:
        return None
    least, most = tables.MINUTES[name]
    step = (least + most) / 2 * 60 / tables.TIMED_STEPS * here / there
    drawing = previews(config, plan["steps"]) * step * (drawing_work(config, plan) or 0.0) / here
    return _answer(plan["steps"] * step + drawing, Message("guide.time_of_card", least=least, most=most, card=name))
