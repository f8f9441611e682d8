"""Draws pictures with a run's unconditional model, as the verb `generate` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.config.names import is_pipeline
from ...core.errors import UserError
from ...core.runs.run_folder import Run
from .device_jobs import RUNNING, DeviceJobs, Task

FOLDER = "drawn"  # in the run's folder
MOST = 64  # pictures at once
BATCH = 8  # of them side by side
SHOWN = 200  # the newest pictures
RANGES = {"num_images": (1, MOST), "seed": (0, 2**32 - 1 - MOST), "steps": (1, 1000)}
KIND = "draw"


class DrawingJob:
    """Draws pictures in a process; may be called from any thread."""

    def __init__(self, jobs: DeviceJobs):
        self.jobs = jobs

    def start(self, run: Run, file: str, wanted: dict[str, int]) -> None:
        """Start drawing with the artifact `file`. wanted: num_images, seed and, unless all are to be taken, steps.

        Raises a Refusal (409) as `DeviceJobs.start`, UserError for values out of range and other kinds of model.
        """
        for name, value in wanted.items():
            low, high = RANGES[name]
            if not low <= value <= high:
                raise UserError("queue.out_of_range", name, value=value, low=low, high=high)
        model = run.artifacts / file
        if not is_pipeline(model):
            raise UserError("queue.cannot_draw", "artifact", file=file)
        folder = run.path / FOLDER / file
        pictures = [folder / f"0_{wanted['seed'] + index}.png" for index in range(wanted["num_images"])]
        options = {"model": model, "out": folder, "batch-size": BATCH}
        options |= {name.replace("_", "-"): value for name, value in wanted.items()}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        device = self.jobs.dispatcher.device_called("auto")
        mode = self.jobs.host.option("while_training")
        task = Task(KIND, run.id, ["generate", *words], device, mode, total=len(pictures), done=counting(pictures))

        def prepare() -> None:
            for path in pictures:
                path.unlink(missing_ok=True)

        self.jobs.start(task, prepare)

    def status(self, run: Run) -> dict[str, Any]:
        """{"state": none | drawing | done | failed | stopped, "done", "of", "problem", "pictures"}, with the newest
        picture first: {"artifact", "file", "seed", "time"}."""
        answer: dict[str, Any] = {"state": "none", "done": 0, "of": 0, "problem": ""}
        if job := self.jobs.of(KIND, run.id):
            state = "drawing" if job["state"] in RUNNING else job["state"]
            problem = {name: value for name, value in job.items() if name.startswith("problem")}
            answer = {"state": state, "done": job["done"], "of": job["total"], **problem}
        found = sorted((run.path / FOLDER).glob("*/0_*.png"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        pictures = [
            {"artifact": path.parent.name, "file": path.name, "seed": int(path.stem[2:]), "time": path.stat().st_mtime}
            for path in found[:SHOWN]
            if path.stem[2:].isdecimal()
        ]
        return {**answer, "pictures": pictures}


def counting(pictures: list[Path]) -> Callable[[], int]:
    """A count of those that are there by now."""
    return lambda: sum(path.exists() for path in pictures)
