"""The order in which waiting runs are trained: `queue.json` in the folder of the runs, with `order`, whether it is
`paused`, and `since` when each of them waits, in seconds since 1970.

A run waits if it is listed there and its status is "queued"; only listed runs are ever started. Every change is made
under a lock between processes, so that several hosts and browsers can use one queue.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ...core.runs import job_options, training_states
from ...core.runs.events import ENDED
from ...core.runs.job_options import JobOptions
from ...core.runs.run_folder import Run
from ...core.system import files


class Queue:
    def __init__(self, runs_dir: Path):
        self.path = runs_dir / "queue.json"
        self._lock = runs_dir / "queue.lock"

    def ids(self) -> list[str]:
        """Run ids, first to be trained first."""
        return _order(self._content())

    def since(self) -> dict[str, float]:
        """When each of them was put there."""
        return _since(self._content())

    @property
    def is_paused(self) -> bool:
        """Whether nothing new is to be started; what trains goes on."""
        return self._content().get("paused") is True

    def pause(self, paused: bool) -> None:
        """Also for a queue that is empty, and beyond the end of this program."""
        with files.locked(self._lock):
            content = self._content()
            self._write(_order(content), paused, _since(content))

    def _content(self) -> dict[str, Any]:
        try:
            content = files.read_json(self.path)
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, ids: list[str], paused: bool, since: dict[str, float]) -> None:
        files.write_json(self.path, {"order": ids, "paused": paused, "since": since})

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[str]]:
        """The ids, to be changed in place under the lock: nobody else changes them meanwhile. Not reentrant."""
        with files.locked(self._lock):
            content = self._content()
            before, since = _order(content), _since(content)
            ids = list(before)
            yield ids
            if ids != before:
                now = round(time.time(), 3)
                self._write(ids, content.get("paused") is True, {id: since.get(id, now) for id in ids})

    def add(self, id: str) -> None:
        """Append a run, unless it is already listed."""
        with self.changing() as ids:
            if id not in ids:
                ids.append(id)

    def arrange(self, wanted: list[str]) -> None:
        """Move these to the front, in this order; the others keep theirs. Ids that no longer wait are ignored."""
        with self.changing() as ids:
            first = [id for id in dict.fromkeys(wanted) if id in ids]
            ids[:] = first + [id for id in ids if id not in first]


def _order(content: dict[str, Any]) -> list[str]:
    order = content.get("order")
    return [item for item in order if isinstance(item, str)] if isinstance(order, list) else []


def _since(content: dict[str, Any]) -> dict[str, float]:
    since = content.get("since")
    known = since.items() if isinstance(since, dict) else ()
    return {id: when for id, when in known if isinstance(when, int | float) and not isinstance(when, bool)}


def read_state(run: Run) -> dict[str, Any]:
    """The content of state.json, whether or not a worker is alive; {} if it cannot be read."""
    try:
        state = files.read_json(run.path / "state.json")
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def place(run: Run) -> tuple[int, int | None]:
    """(the step that a run has reached, the one up to which it is to train; None: what was planned for a new run)."""
    state, wanted = read_state(run), job_options.read(run)
    step, last = (value if isinstance(value, int) else 0 for value in (state.get("step"), state.get("total")))
    return step, (wanted.total if wanted else None) or (last if step > 0 else None)  # as the worker has it


def status_of(run: Run) -> str:
    return str(read_state(run).get("status", ""))


def is_of_this_machine(run: Run) -> bool:
    """Whether its last worker, if any, was on this machine. False if its state cannot be read."""
    state = read_state(run)
    return bool(state) and state.get("host") in (None, platform.node())


def is_forgotten(run: Run) -> bool:
    """Whether nobody will ever start this run, which is queued but in no queue: its terminal was killed before the
    worker had started."""
    return not run.is_followed(patience=1.0) and not run.is_held()


def put_back(run: Run, wanted: JobOptions | None, total: int | None) -> None:
    """Queue an ended run again, to resume up to step `total`. The queue must be held.

    Raises UserError if there is nothing to resume, or a worker has it.
    """
    state, word = run.state(), run.last_word()
    if word:
        state["status"] = word
    if total is not None and total <= state["step"]:
        raise UserError("queue.step_reached", "max_train_steps", run=run.id, step=state["step"])
    if state["status"] == "done" and total is None:
        raise UserError("queue.done", "max_train_steps", run=run.id, steps=state["step"])
    training_states.check_kept(run, state)
    try:
        lock = run.take()
    except OSError as error:
        raise UserError("queue.no_access", "run", run=run.id, error=error) from error
    if lock is None:
        raise UserError("queue.already_training", "run", run=run.id)
    if run.is_followed(patience=1.0):
        lock.close()
        raise UserError("queue.publishing", "run", run=run.id)
    with lock:
        old = job_options.read(run)
        since = max((event["n"] for event in run.events.read()), default=0)
        if old and not old.settled:  # it ended while no host was there: its models are still due
            since = old.since
        before = {"status": state["status"], "problem": state.get("problem")} if state["status"] in ENDED else None
        chosen = wanted or old or JobOptions()
        chosen.but(total=total, since=since, before=before, settled=False, by_terminal=False).write(run)
        run.write_state(status="queued", problem=None, problems=[], pid=None, host=None, heartbeat=None, ending=None)
        run.events.append("status", status="queued")


def cancel(queue: Queue, run: Run) -> None:
    """Take a run out of the queue; one that has begun is stopped, and saves its state. Raises UserError if it neither
    waits nor trains."""
    with queue.changing() as ids:
        if status_of(run) == "queued" and (run.id in ids or is_forgotten(run)):
            ids[:] = [id for id in ids if id != run.id]
            withdraw(run)
        elif status_of(run) in ENDED:
            raise UserError("queue.nothing_to_stop", "run", run=run.id)
        else:
            run.command("stop")


def withdraw(run: Run) -> None:
    """Give a waiting run its former status back; a new one counts as stopped. The queue must be held.

    The status is final at once, and the run settled, unless a device is just being handed over to it or a model is
    still due.
    """
    known = job_options.read(run) or JobOptions()
    before = dict(known.before or {"status": "stopped", "problem": None})
    run.end(before.pop("status"), **before)
    if status_of(run) in ENDED:
        known.but(settled=True).write(run)
