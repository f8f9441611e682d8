"""The deep check: lets the engine check a config in the trainer's environment, with the base and the machine.

Importing PyTorch takes seconds, so a process stays ready for the next check until none has come for a while.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ...core.config import links
from ...core.config.run_config import RunConfig
from ...core.data import folder_scan
from ...core.data.concepts import concepts
from ...core.errors import Problem
from ...core.messages.message import Message
from ...core.system.files import expanded
from ..environment.asked_process import AskedProcess, Ended, Hung
from ..environment.environment import Environment

COMMAND = ["-m", "dreambooth_ext.engine.deep_check"]
TIME_OUT = 300.0  # seconds for an answer: a base given as a link is fetched first
PATIENCE = 10.0  # seconds that a newer question leaves to the one that is being answered
IDLE = 300.0  # seconds without a question after which the waiting process ends
FRESH = 120.0  # seconds that an answer is good for: free disk and memory change
KEPT = 16  # answers


class DeepCheck:
    """Calls `engine.deep_check`, from any thread; if several ask at once, only the newest is answered."""

    def __init__(self, environment: Environment, runs_dir: Path, idle: float = IDLE):
        self.environment, self.runs_dir, self.idle = environment, runs_dir, idle
        self._turn = threading.Lock()  # held by whom the process works for
        self._newest = 0
        self._counting = threading.Lock()
        self._process: AskedProcess | None = None
        self._timer: threading.Timer | None = None
        self._answers: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def inspect(self, config: RunConfig) -> dict[str, Any]:
        """{"plan", "problems", "warnings"} of a completed config, the latter two as from `Problem.as_dict`.

        Failures are problems in the answer, never exceptions. The answer has {"superseded": true} if a newer question
        came before this one was answered.
        """
        with self._counting:
            self._newest += 1
            mine = self._newest
        key = _key(config, self.runs_dir)
        told, answer = self._answers.get(key, (0.0, None))
        if answer is not None and time.monotonic() - told < FRESH:
            return answer
        deadline = time.monotonic() + PATIENCE
        while not self._turn.acquire(timeout=0.1):
            if mine != self._newest:
                return _nothing(superseded=True)
            if time.monotonic() > deadline:
                self._end()  # the other's answer will not come, which it notices
        try:
            if mine != self._newest:
                return _nothing(superseded=True)
            answer = self._ask(config, lambda: mine != self._newest)
        finally:
            self._turn.release()
        if not answer.pop("failed", False) and "superseded" not in answer:
            self._answers[key] = (time.monotonic(), answer)
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        return answer

    def known(self, config: RunConfig) -> dict[str, Any]:
        """The answer to this question from the last two minutes, without asking again; {} if there is none."""
        told, answer = self._answers.get(_key(config, self.runs_dir), (0.0, None))
        return answer if answer is not None and time.monotonic() - told < FRESH else {}

    def close(self) -> None:
        """End the waiting process to free its memory for training. The next question starts another."""
        with self._counting:
            self._newest += 1
        self._end()

    def _ask(self, config: RunConfig, superseded) -> dict[str, Any]:
        status = self.environment.status()
        if status.state != "ready":
            return _failed("environment.not_ready", reason=status.reason)
        if self._timer:
            self._timer.cancel()
        try:
            if self._process is None or not self._process.is_alive():
                self._process = AskedProcess(self.environment, COMMAND)
            process = self._process
        except OSError as error:
            self._end()
            return _failed("environment.check_not_started", error=error)
        question = {"config": config.as_dict(), "runs_dir": str(self.runs_dir), "links": links.of(config)}
        try:
            answer = process.ask(question, TIME_OUT)
        except (Hung, Ended) as error:
            self._end()
            if superseded():
                return _nothing(superseded=True)
            is_late = isinstance(error, Hung)
            why = Message("environment.check_late", seconds=int(TIME_OUT)) if is_late else process.last_words()
            return _failed("environment.check_failed", error=why)
        if answer.pop("last"):  # it has let go of the graphics card; another one warms up meanwhile
            process.end()
            with contextlib.suppress(OSError):
                self._process = AskedProcess(self.environment, COMMAND)
        self._timer = threading.Timer(self.idle, self._end_idle)
        self._timer.daemon = True
        self._timer.start()
        return answer

    def _end_idle(self) -> None:
        if self._turn.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._turn.release()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            process.end()


def _key(config: RunConfig, runs_dir: Path) -> str:
    """A key for the question, with stamps that show whether base or pictures have changed."""
    files = (config.base_model, config.model_config, config.dataset_config)
    paths = [expanded(path) for path in files if path]
    for concept in concepts(config):
        for text in (concept.instance_data_dir, concept.class_data_dir):
            if text:
                folder = expanded(text)
                with contextlib.suppress(OSError, ValueError):
                    paths += [folder, *folder_scan.list_pictures(folder)]
    text = json.dumps([config.as_dict(), links.of(config), str(runs_dir), [_stamp(path) for path in paths]])
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        about = path.stat()
    except (OSError, ValueError):
        return str(path), 0, 0
    return str(path), about.st_size, about.st_mtime_ns


def _nothing(**more: Any) -> dict[str, Any]:
    return {"plan": {}, "problems": [], "warnings": [], **more}


def _failed(code: str, **values: Any) -> dict[str, Any]:
    problem = Problem(code, "environment", **values)
    return {"plan": {}, "problems": [problem.as_dict()], "warnings": [], "failed": True}
