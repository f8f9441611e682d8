"""Questions about pictures, answered by a process in the trainer's environment, which may die of a hostile file.

Here that process is started when somebody asks, ended when nobody does, and killed and started again when a picture
hangs or ends it: that picture is then told as unreadable. What tasks there are: `engine/pictures/worker.py`.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedLong
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import Problem
from ..environment.asked_process import AskedProcess, Ended, Hung
from ..environment.environment import Environment
from ..errors import Refusal
from .uploads import stamp_of

COMMAND = ["-m", "dreambooth_ext.engine", "pictures"]
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
START = 60.0  # seconds for its first line: a virus scanner may look at every file that it imports
PATIENCE = 30.0  # seconds for one answer; 178 million pixels take 10
IDLE = 60.0  # seconds without a question after which the process ends
KEPT = 30_000  # answers
NOW, SOON, LATER = 0, 1, 2  # urgencies: somebody waits for it; it is on the screen; the rest of a folder


class Unreadable(Exception):
    """A question that could not be answered, for the `problem` with its picture."""

    def __init__(self, problem: Problem):
        super().__init__(str(problem))
        self.problem = problem


@dataclass
class _Question:
    """A question that waits: `key` tells it from others, None if its answer is not kept."""

    task: str
    values: Mapping[str, Any]
    key: str | None
    file: str
    patience: float
    urgency: int
    is_taken: bool = False
    future: Future[Any] = field(default_factory=Future)


class PictureWorker:
    """Asks the picture worker; every method may be called from any thread. Only `ask` blocks."""

    def __init__(self, environment: Environment, idle: float = IDLE):
        self.environment, self.idle = environment, idle
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int, _Question]] = []  # a heap; a question may be in it twice
        self._asked: dict[str, _Question] = {}  # those that wait, or are being answered, by key
        self._known: OrderedDict[str, Any] = OrderedDict()  # answers, and problems, by key
        self._count = itertools.count()
        self._thread: threading.Thread | None = None
        self._process: AskedProcess | None = None

    # --- asking ---

    def ask(
        self, task: str, path: Path | None = None, *, patience: float = PATIENCE, keep: bool = True, **values: Any
    ) -> Any:
        """Ask now, before all that waits, and return the answer.

        path: the picture, as the value "path". Raises Unreadable, and a Refusal (503) without the trainer's
        environment.
        """
        future = self.submit(task, path, urgency=NOW, patience=patience, keep=keep, **values)
        try:
            return future.result(2 * patience + 60)
        except WaitedLong:
            raise Refusal(503, "findings.busy") from None

    def submit(
        self,
        task: str,
        path: Path | None = None,
        *,
        urgency: int = SOON,
        patience: float = PATIENCE,
        keep: bool = True,
        **values: Any,
    ) -> Future[Any]:
        """Ask, and return at once; the future has the answer, or raises what `ask` does.

        The same question that waits already is asked once. keep: an answer about the same state of the file may be one
        from before; False for what writes a file.
        """
        question = self._question(task, path, urgency, patience, keep, values)
        key = question.key
        with self._changed:
            if key is not None and key in self._known:
                self._known.move_to_end(key)
                _settle(question.future, self._known[key])
                return question.future
            if key is not None and (waiting := self._asked.get(key)):
                if urgency < waiting.urgency:
                    waiting.urgency = urgency
                    heapq.heappush(self._waiting, (urgency, next(self._count), waiting))
                    self._changed.notify()
                return waiting.future
            if key is not None:
                self._asked[key] = question
            heapq.heappush(self._waiting, (urgency, next(self._count), question))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dreambooth pictures", daemon=True)
                self._thread.start()
            self._changed.notify()
        return question.future

    def known(self, task: str, path: Path, **values: Any) -> Any:
        """Return the answer if it is there; None if not. Raises Unreadable as `ask` does."""
        key = self._question(task, path, LATER, PATIENCE, True, values).key
        with self._changed:
            if key is None or key not in self._known:
                return None
            self._known.move_to_end(key)
            found = self._known[key]
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """End the process, and drop what waits. A later question starts another."""
        with self._changed:
            for _, _, question in self._waiting:
                self._asked.pop(question.key or "", None)
                question.future.cancel()
            self._waiting.clear()
            process, self._process = self._process, None
        if process:
            process.end()

    def _question(
        self, task: str, path: Path | None, urgency: int, patience: float, keep: bool, values: Mapping[str, Any]
    ) -> _Question:
        """Raises a Refusal (404) if there is no such file."""
        stamp, all_values = "", dict(values)
        if path is not None:
            try:
                stamp = stamp_of(path)
            except (OSError, ValueError):
                raise Refusal(404, "service.no_picture", "name", picture=path.name) from None
            all_values["path"] = str(path)
        key = json.dumps([task, stamp, all_values], sort_keys=True) if keep else None
        return _Question(task, all_values, key, path.name if path else "", patience, urgency)

    # --- the thread ---

    def _work(self) -> None:
        while question := self._next():
            if question.future.set_running_or_notify_cancel():
                answer = self._answer(question)
                with self._changed:
                    if question.key is not None:
                        self._asked.pop(question.key, None)
                        if not isinstance(answer, Refusal):
                            self._known[question.key] = answer
                    while len(self._known) > KEPT:
                        self._known.popitem(last=False)
                _settle(question.future, answer)

    def _next(self) -> _Question | None:
        """Return the most urgent question; None, and no thread, after a while without any."""
        with self._changed:
            while True:
                while self._waiting:
                    question = heapq.heappop(self._waiting)[2]
                    if not question.is_taken:
                        question.is_taken = True
                        return question
                if not self._changed.wait(self.idle) and not self._waiting:
                    self._thread = None
                    process, self._process = self._process, None
                    break
        if process:
            process.end()
        return None

    def _answer(self, question: _Question) -> Any:
        """Return the answer, or the exception to raise for it."""
        if (status := self.environment.status()).state != "ready":
            return Refusal(503, "environment.not_ready", "environment", reason=status.reason)
        try:
            process = self._started()
        except Refusal as refusal:
            return refusal
        try:
            asked = {"id": 0, "task": question.task, "values": question.values}
            answer = process.ask(asked, question.patience)
        except Hung:
            return Unreadable(Problem("findings.hung_reader", file=question.file, seconds=int(question.patience)))
        except Ended:
            with self._changed:
                is_ours = self._process is process  # else `close` ended it
            if is_ours:
                return Unreadable(Problem("findings.ended_reader", file=question.file))
            return Refusal(503, "findings.not_answered", error=process.last_words())
        if "problem" in answer:
            return Unreadable(Problem.from_dict(answer["problem"]))
        return answer["result"]

    def _started(self) -> AskedProcess:
        """Return the process that is there, or a new one. Raises a Refusal (503)."""
        with self._changed:
            process = self._process
        if process is None or not process.is_alive():
            process = _start(self.environment)
            with self._changed:
                self._process = process
        return process


def _start(environment: Environment) -> AskedProcess:
    """Start the picture worker, and wait until it is ready. Raises a Refusal (503)."""
    try:
        process = AskedProcess(environment, COMMAND, ONE_CORE, is_background=True)
    except OSError as error:
        raise Refusal(503, "findings.not_answered", error=str(error)) from error
    try:
        process.next_line(START)
    except (Hung, Ended):
        process.end()
        raise Refusal(503, "findings.not_answered", error=process.last_words()) from None
    return process


def _settle(future: Future[Any], answer: Any) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
