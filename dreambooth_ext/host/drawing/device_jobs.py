"""One verb of the engine at a time, in a process of its own, on a device that no training has meanwhile."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.messages.message import Message, beside, catalogue
from ..environment.environment import Environment
from ..errors import Refusal
from ..hosts.host import Host
from ..jobs.dispatcher import Dispatcher
from ..jobs.loans import Loan

COUNTED = re.compile(r"(\d{1,7})/(\d{1,7}) \(")  # of core.system.terminal.Progress
LINES = 200  # of standard error that are kept for its last words
PATIENCE = 5.0  # seconds that a stopped process may take; then it is killed
KEPT = 50  # ended jobs whose end is remembered
RUNNING = ("starting", "running")
GOING_ON = {
    "draw": "drawing.going_on_draw",
    "compare": "drawing.going_on_compare",
    "verdict": "drawing.going_on_verdict",
    "word": "drawing.going_on_word",
    "tag": "drawing.going_on_tag",
}


@dataclass(frozen=True)
class Task:
    """What a job is to do.

    kind: one of GOING_ON. of: the id of the run or comparison, the set, or the word's pictures; uses: further runs
    whose models it needs. words: the engine's verb and its options; variables: of its environment. mode: see
    `Host.handed_over`. total, done: how many pictures it makes, and how many are there; without, what the verb prints
    counts. is_automatic: nobody asked for it, and it gives way to every run. ended: called at the end with the job's
    state and problem, in its thread. work: done in this process, in the job's thread, instead of the engine's verb; it
    returns soon once the job is `stopping`.
    """

    kind: str
    of: str
    words: Sequence[str]
    device: str
    mode: str = "share"
    variables: Mapping[str, str] = field(default_factory=dict)
    uses: frozenset[str] = frozenset()
    total: int = 0
    done: Callable[[], int] | None = None
    is_automatic: bool = False
    ended: Callable[[str, str], None] = lambda state, problem: None
    work: Callable[[Job], None] | None = None

    @property
    def reason(self) -> Message:
        """What is going on, for those who have to wait."""
        return Message(GOING_ON[self.kind], of=self.of)


class Pace:
    """How fast a count grows."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] = (0, 0.0)

    def note(self, done: int, now: float) -> None:
        """now: seconds, by a clock that never goes back."""
        if self._first is None or done < self._last[0]:
            self._first = self._last = done, now
        elif done > self._last[0]:
            self._last = done, now

    def left(self, total: int) -> float | None:
        """Seconds until the count will be `total`, as they were when it grew last; None where nothing tells."""
        if self._first is None or self._last[0] == self._first[0]:
            return None
        each = (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
        return round(max(0, total - self._last[0]) * each, 1)


@functools.cache
def stages() -> dict[str, Message]:
    """What a verb may say that it is doing, by its English text."""
    return {text: Message(code) for code, text in catalogue().items() if code.startswith("stages.")}


def stage_of(line: str) -> Message | None:
    """What a line says is going on. The verb, which is of the same version as this program, prints the catalogue's
    texts."""
    fitting = [text for text in stages() if line == text or line.startswith(f"{text} ")]
    return stages()[max(fitting, key=len)] if fitting else None


class Job:
    """One task from its start to its end. `state`: starting, running, done, failed or stopped."""

    def __init__(self, task: Task):
        self.task, self.state = task, "starting"
        self.problem: Message | str = ""
        self.began = time.time()
        self.stopping = threading.Event()
        self.gave_way = False  # whether it was stopped for somebody else's sake
        self._counted = (0, 0)
        self._stage: Message | str = ""
        self._pace = Pace()
        self._lines: deque[str] = deque(maxlen=LINES)

    def status(self) -> dict[str, Any]:
        """{"kind", "of", "state", "stage", "done", "total", "left", "since", "automatic", "problem"}.

        done, total: of the stage; total is 0 where nobody knows. left: seconds to its end, None where nobody knows.
        """
        if self.task.done:
            self.count(self.task.done(), self.task.total)
        done, total = self._counted
        about = {"kind": self.task.kind, "of": self.task.of, "state": self.state, "automatic": self.task.is_automatic}
        count = {"done": done, "total": total, "left": self._pace.left(total), "since": self.began}
        return {**about, **beside("stage", self._stage), **count, **beside("problem", self.problem)}

    def heard(self, line: str) -> None:
        self._lines.append(line)
        found = COUNTED.search(line)
        if (stage := stage_of(line)) and stage != self._stage:
            self._stage = stage
            self._pace = Pace()
            self._counted = (0, 0)
        if found:
            self.count(int(found[1]), int(found[2]))

    def count(self, done: int, total: int) -> None:
        """Note how much is done of what goes on now."""
        self._counted = done, total
        self._pace.note(done, time.monotonic())

    def last_words(self, code: int) -> Message | str:
        """Why it failed: the last error that it told, else its last line."""
        lines = [line for line in self._lines if line.strip() and not COUNTED.search(line) and not stage_of(line)]
        errors = [line for line in lines if line.startswith("error: ")]
        said = (errors or lines or [""])[-1].strip()[:300].removeprefix("error: ")
        return said or Message("queue.drawing_ended", code=code)


class DeviceJobs:
    """Starts, follows and stops jobs, one at a time. All methods may be called from any thread."""

    def __init__(self, environment: Environment, host: Host, dispatcher: Dispatcher):
        self.environment, self.host, self.dispatcher = environment, host, dispatcher
        self.before: Callable[[], None] = lambda: None  # called before each, to free memory
        self._lock = threading.Lock()
        self._current: Job | None = None
        self._thread: threading.Thread | None = None
        self.ended = 0  # how many have ended
        self._ended: dict[tuple[str, str], Job] = {}  # the last ones, by kind and what they were of

    @property
    def current(self) -> Job | None:
        """The one that is going on."""
        job = self._current
        return job if job and job.state in RUNNING else None

    def status(self) -> dict[str, Any] | None:
        return job.status() if (job := self.current) else None

    def of(self, kind: str, of: str) -> dict[str, Any] | None:
        """The job of this kind with that run or comparison: what is going on, or how the last one ended."""
        job = self._current
        if job and (job.task.kind, job.task.of) == (kind, of):
            return job.status()
        ended = self._ended.get((kind, of))
        return ended.status() if ended else None

    def check_unused(self, of: str) -> None:
        """Raise a Refusal (409) if what goes on needs that run's or comparison's folder."""
        job = self.current
        if job and of in (job.task.of, *job.task.uses):
            raise Refusal(409, "drawing.busy", "job", reason=job.task.reason)

    def start(self, task: Task, prepare: Callable[[], None] = lambda: None) -> Job:
        """Start a task. Raises a Refusal (409) while another goes on, and while a run has the device or waits for it.

        prepare: called when it is sure to begin. An automatic one that goes on gives way to what a user asked for.
        """
        with self._lock:
            self._make_room(task)
            loan = Loan(task.device, task.reason, self.give_way if task.is_automatic else None)
            self.dispatcher.lend(loan)
            try:
                prepare()
                self.before()
                job = self._current = Job(task)
                self._thread = threading.Thread(target=self._work, args=(job, loan), name="dreambooth job", daemon=True)
                self._thread.start()
            except BaseException:
                self.dispatcher.give_back(loan)
                raise
            return job

    def _make_room(self, task: Task) -> None:
        current = self.current
        if current and current.task.is_automatic and not task.is_automatic and self._thread:
            self.give_way()
            self._thread.join(2 * PATIENCE)
        if current := self.current:
            raise Refusal(409, "drawing.busy", "job", reason=current.task.reason)

    def give_way(self) -> None:
        """Stop what goes on if nobody asked for it."""
        if (job := self.current) and job.task.is_automatic:
            job.gave_way = True
            job.stopping.set()

    def stop(self) -> None:
        """Stop what goes on; finished pictures stay. Raises a Refusal (409) if nothing does."""
        job = self.current
        if job is None:
            raise Refusal(409, "drawing.nothing_to_stop", "job")
        job.stopping.set()

    def close(self) -> None:
        """Stop what goes on, and wait for its end."""
        if job := self.current:
            job.stopping.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(2 * PATIENCE)

    # --- the thread ---

    def _work(self, job: Job, loan: Loan) -> None:
        state = "failed"
        try:
            with contextlib.ExitStack() as stack:
                with contextlib.suppress(Exception):  # a host's own code raises anything; the models then stay
                    stack.enter_context(self.host.handed_over(job.task.mode, loan.device))
                state = self._run(job)
        except OSError as error:
            job.problem = Message("queue.drawing_not_started", error=error)
        except Exception as error:  # the host's models did not come back: the pictures are there all the same
            job.problem = job.problem or f"{type(error).__name__}: {error}"
        finally:
            self.dispatcher.give_back(loan)
            with contextlib.suppress(OSError, ValueError):  # a full disk, a folder that was deleted meanwhile
                job.task.ended(state, job.problem)
            job.state = state
            self._remember(job)

    def _remember(self, job: Job) -> None:
        self.ended += 1
        key = (job.task.kind, job.task.of)
        self._ended.pop(key, None)
        self._ended[key] = job
        while len(self._ended) > KEPT:
            del self._ended[next(iter(self._ended))]

    def _run(self, job: Job) -> str:
        """Run the verb to its end; returns the state then."""
        if job.stopping.is_set():
            return "stopped"
        if job.task.work:
            job.state = "running"
            job.task.work(job)
            return "stopped" if job.stopping.is_set() else "done"
        process = self._begin(job.task)
        job.state = "running"
        reader = threading.Thread(target=_read, args=(process, job), name="dreambooth job's words", daemon=True)
        reader.start()
        while process.poll() is None:
            if job.stopping.wait(0.1):
                end(process)
        reader.join(PATIENCE)
        if job.stopping.is_set() and process.returncode:
            return "stopped"
        if process.returncode:
            job.problem = job.last_words(process.returncode)
        return "failed" if process.returncode else "done"

    def _begin(self, task: Task) -> subprocess.Popen[str]:
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NO_WINDOW}
        return subprocess.Popen(
            self.environment.command(["-m", "dreambooth_ext.engine", *task.words]),
            env=self.environment.variables({"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", **task.variables}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            **apart,
        )


def _read(process: subprocess.Popen[str], job: Job) -> None:
    """Take in what it says until it ends. A process whose host is killed ends at its next word."""
    assert process.stderr
    with process.stderr:
        for line in process.stderr:
            job.heard(line.rstrip("\n"))


def end(process: subprocess.Popen[str]) -> None:
    """End a verb as Ctrl-C does, which leaves complete files alone; kill one that goes on."""
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        if os.name == "nt":
            process.kill()
        else:
            process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
