"""The engine's verb `download` in a process of its own, heard line by line."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...core.errors import Problem
from ..drawing.device_jobs import end
from ..environment.environment import Environment

LINES = 50  # of standard error that are kept for its last words
LONGEST = 2**20  # characters of a line


class Verb:
    """One call. `hear` gets each line's object, in the thread that `run` is called in."""

    def __init__(self, environment: Environment, words: Sequence[str], variables: Mapping[str, str]):
        self.environment, self.words, self.variables = environment, words, variables
        self._lines: deque[str] = deque(maxlen=LINES)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End it; what has come so far stays."""
        self._stopping.set()

    @property
    def is_stopped(self) -> bool:
        return self._stopping.is_set()

    def run(self, hear: Callable[[dict[str, Any]], None]) -> Problem | None:
        """Run it to its end; returns why it failed, as far as no line has told that, None if it did not."""
        self.process = process = self._begin()
        threading.Thread(target=self._read_errors, args=(process,), name="download's errors", daemon=True).start()
        threading.Thread(target=self._watch, args=(process,), name="download's stop", daemon=True).start()
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                with contextlib.suppress(ValueError):
                    told = json.loads(line[:LONGEST])
                    if isinstance(told, dict):
                        hear(told)
        code = process.wait()
        if not code or self.is_stopped:
            return None
        said = [line.removeprefix("error: ") for line in self._lines if line.startswith("error: ")]
        if said:
            return Problem("other.as_said", "link", message=said[-1][:300], remedy="")
        return Problem("download.ended", "link", code=code)

    def _watch(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            if self._stopping.wait(0.1):
                end(process)

    def _read_errors(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        with process.stderr:
            for line in process.stderr:
                self._lines.append(line.rstrip("\n"))

    def _begin(self) -> subprocess.Popen[str]:
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NO_WINDOW}
        return subprocess.Popen(
            self.environment.command(["-m", "dreambooth_ext.engine", "download", *self.words]),
            env=self.environment.variables({"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", **self.variables}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            **apart,
        )
