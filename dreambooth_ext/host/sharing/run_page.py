"""What a run's page for others shows: previews, curves, settings and versions, and nothing that names its machine.

The page of `python -m dreambooth_ext report RUN --out FILE.html`. Training pictures are left out: they are the user's
own, and may show people.
"""

from __future__ import annotations

import contextlib
import json
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ...core.charts.line_chart import Band, Curve, line_chart
from ...core.config.run_config import SETTINGS, RunConfig
from ...core.data import captions
from ...core.errors import UserError
from ...core.facts.methods import METHOD_LABELS
from ...core.messages.message import written
from ...core.runs import time_taken
from ...core.runs.run_folder import Run
from ...core.system.terminal import clock
from ...core.verdict import measurements, regions
from ...core.verdict.measurements import still_valid
from ...core.version import __version__
from ..runs.curves import Curves
from ..service.redaction import HIDDEN, SECRETS, Redaction
from .data_uri import data_uri
from .judged import Judged, judged

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "bitsandbytes")
COLUMNS = 6  # steps whose previews are shown, evenly chosen, with the first and the last
SMALL, LARGE = 224, 512  # pixels of a preview, and of the last step's
MOST_PROMPTS = 24
GROUPS = {"unet": "UNet"}  # of parameters, by their names in events
PRECISIONS = {"no": "fp32"}
IN_FACTS = ("name", "method", "base_model")  # settings that stand at the page's top
SMOOTHED = 40  # points of a curve whose mean is drawn
MEASURED = {
    "learned": "your own pictures",
    "held": "pictures kept back",
    "class": "class pictures",
    "drift": "change for other prompts",
}
REGIONS: dict[regions.Region, tuple[str, str]] = {  # label and colour
    "learning": ("learning", "#d97706"),
    "good": ("good to use", "#059669"),
    "overfitting": ("overfitting", "#dc2626"),
    "guessed": ("perhaps overfitting", "#dc2626"),
}
PREVIEW = re.compile(r"(\d+)_(\d+)\.png")


@dataclass(frozen=True)
class Row:
    """One prompt's previews. pictures: a JPEG as a data URI, or None, for each of the page's steps."""

    prompt: str
    seed: int
    pictures: list[str | None]


@dataclass(frozen=True)
class RunPage:
    """Everything on the page, redacted. facts, settings and versions: (label, value)."""

    name: str
    facts: list[tuple[str, str]]
    verdict: Judged | None
    steps: list[int]
    rows: list[Row]
    last: list[tuple[str, str]]  # (prompt, data URI) of the last previews, larger
    charts: list[str]  # SVG
    settings: list[tuple[str, str]]
    versions: list[tuple[str, str]]


def run_page(run: Run) -> RunPage:
    """Collect a run's page. Raises UserError for a damaged run."""
    redaction = Redaction(_folders(run))
    state, events = run.state(), run.events.read()
    steps, rows, last = _previews(run, events, redaction)
    return RunPage(
        name=redaction.text(run.config.name),
        facts=[(label, redaction.text(text)) for label, text in _facts(run, state, redaction)],
        verdict=judged(run, redaction),
        steps=steps,
        rows=rows,
        last=last,
        charts=_charts(run, events, state, redaction),
        settings=list(_settings(run.config, redaction)),
        versions=[(label, redaction.text(text)) for label, text in _versions(state)],
    )


def _facts(run: Run, state: Mapping[str, Any], redaction: Redaction) -> Iterator[tuple[str, str]]:
    config = run.config
    yield "Method", METHOD_LABELS[config.method].partition(":")[0]
    plan = state.get("plan") or {}
    if config.base_model:
        family = f" ({plan['family']})" if plan.get("family") else ""
        yield "Base model", f"{redaction.value(file_name('base_model', config.base_model))}{family}"
    if (words := run.about()["words"]) and not captions.has_template(words):  # else the file names say them
        yield "Words", redaction.text(words)
    if plan.get("pictures"):
        classes = f", {plan['class_pictures']} class pictures" if plan.get("class_pictures") else ""
        yield "Pictures", f"{plan['pictures']}{classes}"
    yield "Steps", f"{state['step']} of {state['total']}" if state.get("total") else str(state["step"])
    yield "Ended", state["status"]
    if (seconds := time_taken.seconds_trained(run.path / "events.jsonl")) is not None:
        yield "Time taken", clock(seconds)
    if problem := state.get("problem"):
        yield "Problem", redaction.text(" ".join(filter(None, (problem.get("message"), problem.get("remedy")))))
    yield "Date", time.strftime("%Y-%m-%d", time.localtime(state.get("created") or time.time()))


def _previews(
    run: Run, events: Sequence[Mapping[str, Any]], redaction: Redaction
) -> tuple[list[int], list[Row], list[tuple[str, str]]]:
    """The steps that have previews, a row for each prompt and seed, and the last step's pictures."""
    prompts = {
        (event["step"], Path(event["path"]).name): event["prompt"] for event in events if event["type"] == "sample"
    }
    drawn: dict[int, dict[tuple[int, int], Path]] = {}
    for path in run.samples.glob("*/*.png"):
        if path.parent.name.isdigit() and (found := PREVIEW.fullmatch(path.name)):
            drawn.setdefault(int(path.parent.name), {})[int(found[1]), int(found[2])] = path
    known = sorted(drawn)
    if not known:
        return [], [], []
    steps = evenly(known, COLUMNS)
    keys = sorted({key for step in steps for key in drawn[step]})[:MOST_PROMPTS]

    def prompt_of(key: tuple[int, int]) -> str:
        path = next(drawn[step][key] for step in reversed(steps) if key in drawn[step])
        return redaction.text(prompts.get((int(path.parent.name), path.name), ""))

    rows = [Row(prompt_of(key), key[1], [data_uri(drawn[step].get(key), SMALL) for step in steps]) for key in keys]
    large = [(prompt_of(key), data_uri(drawn[steps[-1]].get(key), LARGE)) for key in keys]
    return steps, rows, [(prompt, picture) for prompt, picture in large if picture]


def evenly(values: Sequence[int], count: int) -> list[int]:
    """At most `count` of the values, evenly spread, with the first and the last."""
    if len(values) <= count:
        return list(values)
    return [values[round(index * (len(values) - 1) / (count - 1))] for index in range(count)]


def _charts(run: Run, events: Sequence[Mapping[str, Any]], state: Mapping[str, Any], redaction: Redaction) -> list[str]:
    curves = Curves()
    with contextlib.suppress(FileNotFoundError):
        curves.read(run.path / "events.jsonl")
    found = curves.whole()
    steps, last = found["steps"], max([state["step"], *found["steps"][-1:]])
    loss = [Curve("loss, smoothed", steps, smoothed(found["losses"]))]
    if held := still_valid(events, "validation"):
        losses = [event["loss"] for event in held]
        loss.append(Curve("loss on pictures held out", [event["step"] for event in held], losses))
    rates = [
        Curve(GROUPS.get(group, redaction.text(group).replace("_", " ")), steps, values)
        for group, values in found["rates"].items()
    ]
    charts = (line_chart("Loss", loss, last), line_chart("Learning rate", rates, last), _measured(events))
    return [chart for chart in charts if chart]


def _measured(events: Sequence[Mapping[str, Any]]) -> str:
    """What the run measured of itself, with its regions; "" if nothing."""
    found = measurements.of(events)
    if not found:
        return ""
    steps, rows = [one["step"] for one in found], [measurements.numbers(one) for one in found]
    curves = [Curve(label, steps, [row[name] for row in rows]) for name, label in MEASURED.items()]
    bands = [Band(REGIONS[one.region][0], one.begin, one.end, REGIONS[one.region][1]) for one in regions.spans(found)]
    title = "Measured on fixed pictures, as a share of the base's loss"
    return line_chart(title, [curve for curve in curves if curve.known()], steps[-1], bands)


def smoothed(values: Sequence[float | None]) -> list[float | None]:
    """The mean of each value and those before it, up to `SMOOTHED` of them; steps without a loss stay gaps."""
    found: list[float | None] = []
    for index, value in enumerate(values):
        window = [one for one in values[max(0, index - SMOOTHED + 1) : index + 1] if one is not None]
        found.append(None if value is None else sum(window) / len(window))
    return found


def _settings(config: RunConfig, redaction: Redaction) -> Iterator[tuple[str, str]]:
    """Settings that differ from their defaults, by their labels; of each path only its last name."""
    shown = config.with_paths(file_name).as_dict()
    for name, known in SETTINGS.items():
        value = shown.get(name)
        if value is None or value == known.default or name in IN_FACTS:
            continue
        value = redaction.value(value)
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value)):
            yield known.label, json.dumps(value, ensure_ascii=False)
        elif isinstance(value, bool):
            yield known.label, "on" if value else "off"
        else:
            yield known.label, written(value)


def file_name(field: str, path: str) -> str:
    """The last name of a path of any system. Links, and what may be a Hugging Face name, stay whole."""
    may_be_name = field in SETTINGS and SETTINGS[field].is_remote and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path)
    if "://" in path or (may_be_name and not Path(path).exists()):
        return path  # `Redaction` knows what of a link may be shown
    name = PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name
    return SECRETS.sub(HIDDEN, name)


def _versions(state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "DreamBooth extension", state.get("version") or __version__
    yield "Python", platform.python_version()
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)
    yield "System", platform.system()
    if plan := state.get("plan"):
        precision = plan.get("mixed_precision", "")
        yield "Trained on", f"{plan.get('device', '')}, {PRECISIONS.get(precision, precision)}"


def _folders(run: Run) -> Iterator[str]:
    with contextlib.suppress(RuntimeError):
        yield str(Path.home())
    yield str(run.path.parent)
    with contextlib.suppress(UserError):
        for _, path in run.config.paths():
            if Path(path).is_absolute():
                yield from (path, str(Path(path).parent))
