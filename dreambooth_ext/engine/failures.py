"""How a run fails: what its process records of it, and what the other processes of the run are told."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import Any

from ..core.config.run_config import RunConfig
from ..core.errors import Problem
from ..core.runs.run_folder import Run, deleted
from ..core.system import disk
from ..core.system.terminal import say
from . import plan
from .launching.launch import record
from .launching.line import HERE, FirstLine, Line, OtherLine
from .runtime import memory, process_group
from .runtime.control import Control
from .training import training_state

BAD_INPUT, FAILED = 1, 3  # exit statuses of a worker


def fail(
    control: Control,
    problems: list[Problem],
    code: int,
    before: dict[str, Any] | None = None,
    *,
    is_exchange: bool = False,
) -> int:
    """Record the run's failure and return `code`. before: the status that the run keeps if it was refused before it
    continued. is_exchange: the connection to another process broke."""
    if not control.run.exists():
        problems, code = [deleted(control.run)], FAILED
    say(*problems)
    with contextlib.suppress(OSError):  # if the disk is full, the log and the exit status must suffice
        for problem in problems:
            control.events.append("error", **problem.as_event(), why=str(problem))
    with contextlib.suppress(OSError):
        known = dict(before or {"status": "failed"})
        how = known.pop("status")
        control.end(how, **known, problem=problems[0].as_dict(), problems=[p.as_dict() for p in problems])
    control.tell_launcher(problems[0], code, is_exchange)
    return code


def fail_for(problem: Problem, code: int, run: Run, control: Control, is_exchange: bool = False) -> int:
    """The same for what ended training, perhaps in another process. Says what is left to resume from."""
    found = problem if control.current == "preparing" else with_state(problem, run)
    return fail(control, [found], code, is_exchange=is_exchange)


def connect(run: Run, control: Control) -> Line:
    """Connect this process with the others of a run whose workers another program's launcher has started."""
    store, rank, count = process_group.meet()
    is_alone = os.environ.get("LOCAL_WORLD_SIZE") == str(count)  # this machine
    if rank:
        host = HERE if is_alone else os.environ["MASTER_ADDR"]
        return OtherLine(store, rank, count, host, lambda problem, code: record(run, problem))
    recorder = partial(fail_for, run=run, control=control)
    return FirstLine(store, count, HERE if is_alone else "", recorder, lambda: control.current == "saving")


def with_state(problem: Problem, run: Run) -> Problem:
    """Add to the problem that ended training whether a training state is left to resume from."""
    said: dict[str, Any] = {"reason": problem.message, "remedy": problem.remedy}
    if kept := training_state.found(run.checkpoints):
        return Problem("training.failed_with_state", problem.field, step=kept[-1].step, run=run.id, **said)
    return Problem("training.failed_without_state", problem.field, **said)


def explain(error: Exception, run: Run, config: RunConfig) -> Problem:
    """Describe an error of the machine or of this program for the user. config: resolved, if that was reached."""
    if memory.is_out_of_memory(error):
        remedies = plan.memory_remedies(config)
        return Problem("training.out_of_memory", "train_batch_size", device=config.device, remedies=remedies)
    if isinstance(error, OSError) and (found := disk.problem_of(error)):
        return found
    kind, log = type(error).__name__, run.path / "log.txt"
    return Problem("training.unexpected", type=kind, error=str(error), log=log, run=run.id)
