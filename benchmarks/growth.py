"""How time and memory grow with batch, resolution, pictures and steps: `python -m benchmarks.growth [--write]`.

Each point is two runs of our worker in processes of their own, on the small model with the build of SD 1.5
(`small-sd1`), for which a step takes a tenth of a second: what grows is then the trainer's own. Times are processor
time, of all threads, so that others on the machine change them little; memory is the process's peak. With --write the
curves become results/growth-*.svg, which README.md shows, and results/growth.json.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from dreambooth_ext.core.charts.line_chart import Curve, svg_file
from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config import parsing
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.system import files

from .cases import Case
from .run import PROMPT, REPOSITORY, Bench, launch

RESULTS = Path(__file__).parent / "results"
SMALL = Case("growth", "small-sd1", 64, batch=1)
PICTURES = 96  # by which every batch is divisible
STEPS, FEWER = 24, 4  # of the two runs of a point: what a step takes is their difference


@dataclass(frozen=True)
class Axis:
    """What grows. values: of the setting; more: settings that all of its runs have."""

    name: str
    title: str
    values: tuple[int, ...]
    more: dict[str, Any]


AXES = (
    Axis("train_batch_size", "batch", (1, 2, 4, 8, 16), {"resolution": 64}),
    Axis("resolution", "pixels a side", (64, 128, 192, 256, 384), {"train_batch_size": 1}),
    Axis("pictures", "pictures", (10, 100, 1000, 10_000, 100_000), {"resolution": 64, "train_batch_size": 1}),
    Axis("max_train_steps", "steps", (10, 100, 300, 1000), {"resolution": 64, "train_batch_size": 1}),
)


def measured(bench: Bench, axis: Axis, value: int) -> dict[str, Any]:
    """One point: processor seconds of the whole process, and of a step; the process's peak in bytes."""
    steps, short = (value, 2) if axis.name == "max_train_steps" else (STEPS, FEWER)
    seconds, peaks = [], []
    for count in (short, steps):
        found = run(bench, axis, value, count)
        seconds.append(found[0])
        peaks.append(found[1])
    return {
        "value": value,
        "whole": seconds[1],
        "step": (seconds[1] - seconds[0]) / (steps - short),
        "before": seconds[0] - short * (seconds[1] - seconds[0]) / (steps - short),
        "peak": max(peaks),
    }


def run(bench: Bench, axis: Axis, value: int, steps: int) -> tuple[float, int]:
    """Train once; return processor seconds and the peak."""
    out = bench.folder / "runs"
    shutil.rmtree(out, ignore_errors=True)
    settings = {**bench.settings(SMALL), **axis.more, "instance_prompt": PROMPT, "max_train_steps": steps}
    settings["compile"] = "off"
    if axis.name == "pictures":
        settings["instance_data_dir"] = str(many(bench, value))
    elif axis.name == "train_batch_size":
        settings |= {"instance_data_dir": str(many(bench, PICTURES)), axis.name: value}
    elif axis.name == "resolution":
        settings[axis.name] = value
    try:
        config, problems = parsing.parse(settings)
        config, _, _, more, _ = config_checks.check(config)
        assert not problems + more, [str(problem) for problem in problems + more]
        made = run_folder.create(out, config)
        before = os.times()
        finished = launch(["dreambooth_ext.engine.worker", str(made.path)], bench.threads)
        after = os.times()
    finally:
        shutil.rmtree(out, ignore_errors=True)
    if finished.code:
        raise SystemExit(finished.output)
    spent = sum(after[2:4]) - sum(before[2:4])  # of children, user and system
    return spent, finished.peak


def many(bench: Bench, count: int) -> Path:
    """A folder of `count` pictures of 96 x 72, each with bytes of its own."""
    folder = bench.folder / f"pictures-{count}"
    if folder.is_dir():
        return folder
    folder.mkdir()
    contents = []
    for path in sorted(bench.pictures.iterdir()):
        stream = io.BytesIO()
        Image.open(path).resize((96, 72)).save(stream, "JPEG")
        contents.append(stream.getvalue())
    for number in range(count):
        content = contents[number % len(contents)] + number.to_bytes(4, "little")  # after the end of the picture
        (folder / f"p ({number + 1}).jpg").write_bytes(content)
    return folder


def draw(name: str, points: list[dict[str, Any]], title: str) -> dict[str, str]:
    """The drawings of an axis, by the end of their files' names. Numbers of pictures are drawn as powers of ten."""
    in_powers = name == "pictures"
    values = [math.log10(point["value"]) if in_powers else point["value"] for point in points]
    title += ", as powers of ten" if in_powers else ""
    curves = {
        "time": [Curve("a step, ms", values, [1000 * point["step"] for point in points])],
        "memory": [Curve("peak, MB", values, [point["peak"] / 1e6 for point in points])],
    }
    if name == "max_train_steps":
        curves["time"] = [Curve("the whole run, s", values, [point["whole"] for point in points])]
    if in_powers:
        curves["time"] = [Curve("before the first step, s", values, [point["before"] for point in points])]
    return {kind: svg_file(f"{kind} by {title}", found, values[-1], from_zero=True) for kind, found in curves.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--axis", nargs="+", choices=[axis.name for axis in AXES])
    parser.add_argument("--most", type=int, default=100_000, help="of pictures and steps")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "outputs" / "benchmarks", help="base and runs")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    parser.add_argument("--write", action="store_true", help="keep the results and their drawings")
    arguments = parser.parse_args(argv)
    bench = Bench(arguments.folder.resolve(), arguments.threads, {})
    bench.folder.mkdir(parents=True, exist_ok=True)
    bench.prepare(SMALL.base)
    path = RESULTS / "growth.json"
    for axis in AXES:
        if arguments.axis and axis.name not in arguments.axis:
            continue
        points = [measured(bench, axis, value) for value in axis.values if value <= arguments.most]
        for point in points:
            print(axis.name, json.dumps(point), flush=True)
        if arguments.write:
            known = files.read_json(path) if path.exists() else {}
            files.write_json(path, {**known, axis.name: points})
            for kind, drawing in draw(axis.name, points, axis.title).items():
                files.write_text(RESULTS / f"growth-{axis.name}-{kind}.svg", drawing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
