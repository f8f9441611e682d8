"""Draws pictures with a run's unconditional model: `generate` in the trainer's environment, one job at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...core.config.names import is_pipeline
from ...core.errors import UserError
from ...core.messages.message import Message, beside
from ...core.runs.run_folder import Run
from ..environment.environment import Environment
from ..errors import Refusal

FOLDER = "drawn"  # in the run's folder
MOST = 64  # pictures at once
BATCH = 8  # of them side by side
SHOWN = 200  # the newest pictures
RANGES = {"num_images": (1, MOST), "seed": (0, 2**32 - 1 - MOST), "steps": (1, 1000)}


@dataclass
class _Process:
    run: str
    folder: Path
    seeds: range
    process: subprocess.Popen
    errors: IO[bytes]

    @property
    def done(self) -> int:
        """The number of finished pictures. An earlier job's pictures with the same seeds have been deleted."""
        return sum((self.folder / f"0_{seed}.png").exists() for seed in self.seeds)

    def last_words(self) -> str:
        """The last line of standard error, which says why it failed."""
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, self.errors.tell() - 4096))
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        if not lines:
            return Message("queue.drawing_ended", code=self.process.returncode)
        return lines[-1][:300].removeprefix("error: ")


class DrawingJob:
    """Draws pictures in a process; may be called from any thread."""

    def __init__(self, environment: Environment):
        self.environment = environment
        self._lock = threading.Lock()
        self._current: _Process | None = None

    def start(self, run: Run, file: str, wanted: dict[str, int]) -> None:
        """Start drawing with the artifact `file`. wanted: num_images, seed and, unless all are to be taken, steps.

        Raises a Refusal (409) while another job is running, UserError for values out of range and other kinds of model.
        """
        for name, value in wanted.items():
            low, high = RANGES[name]
            if not low <= value <= high:
                raise UserError("queue.out_of_range", name, value=value, low=low, high=high)
        model = run.artifacts / file
        if not is_pipeline(model):
            raise UserError("queue.cannot_draw", "artifact", file=file)
        with self._lock:
            if self._current and self._current.process.poll() is None:
                raise Refusal(409, "queue.drawing", "artifact", run=self._current.run)
            folder = run.path / FOLDER / file
            seeds = range(wanted["seed"], wanted["seed"] + wanted["num_images"])
            for seed in seeds:
                (folder / f"0_{seed}.png").unlink(missing_ok=True)
            options = {"model": model, "out": folder, "batch-size": BATCH}
            options |= {name.replace("_", "-"): value for name, value in wanted.items()}
            words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
            self._current = self._run(run.id, folder, seeds, ["-m", "dreambooth_ext.engine", "generate", *words])

    def _run(self, id: str, folder: Path, seeds: range, argv: list[str]) -> _Process:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - for its whole life
        hidden: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            hidden = {"creationflags": subprocess.CREATE_NO_WINDOW}
        process = subprocess.Popen(
            self.environment.command(argv),
            env=self.environment.variables({"PYTHONUTF8": "1"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            **hidden,
        )
        return _Process(id, folder, seeds, process, errors)

    def status(self, run: Run) -> dict[str, Any]:
        """{"state": none | drawing | done | failed, "done", "of", "problem", "pictures"}, with the newest picture
        first: {"artifact", "file", "seed", "time"}."""
        current = self._current if self._current and self._current.run == run.id else None
        answer: dict[str, Any] = {"state": "none", "done": 0, "of": 0, "problem": ""}
        if current:
            code = current.process.poll()
            state = "drawing" if code is None else "done" if code == 0 else "failed"
            answer = {"state": state, "done": current.done, "of": len(current.seeds)}
            answer |= beside("problem", current.last_words() if state == "failed" else "")
        found = sorted((run.path / FOLDER).glob("*/0_*.png"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        pictures = [
            {"artifact": path.parent.name, "file": path.name, "seed": int(path.stem[2:]), "time": path.stat().st_mtime}
            for path in found[:SHOWN]
            if path.stem[2:].isdecimal()
        ]
        return {**answer, "pictures": pictures}

    def close(self) -> None:
        """Stop drawing; finished pictures stay."""
        with self._lock:
            if self._current and self._current.process.poll() is None:
                self._current.process.kill()
                self._current.process.wait()
