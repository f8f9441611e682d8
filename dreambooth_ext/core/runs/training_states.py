"""The training states of a run, without what is in them: the newest, what they take on disk, and deleting them, after
which only its models are left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from ..system import files
from .run_folder import Run

DELETED = "states_deleted"  # in state.json

# The second has text encoders that learn no more, of a run that trains whole models; each state has them, too.
FOLDERS = ("checkpoints", "frozen")


def newest_step(run: Run) -> int | None:
    """The step of the newest; None if there is none."""
    return max((int(path.name) for path in run.checkpoints.glob("[0-9]*") if path.name.isdigit()), default=None)


def size(run: Run) -> int:
    """Bytes on disk."""
    return sum(files.size(run.path / name) for name in FOLDERS)


def delete(run: Run) -> int:
    """Delete them; models, previews and curves stay. Returns how many bytes that frees.

    The run can neither be resumed nor trained longer afterwards, which its state says from then on. Raises UserError
    where there are none, and while it trains, waits to be trained, or is being published.
    """
    lock = run.take()
    if lock is None:
        raise UserError("queue.training", "run", run=run.id)
    with lock:
        if run.state()["status"] == "queued":
            raise UserError("queue.waits", "run", run=run.id)
        if run.owes() or run.is_followed(patience=1.0):
            raise UserError("queue.publishing", "run", run=run.id)
        freed = size(run)
        if not freed:
            raise UserError("runs.no_states", "run", run=run.id)
        run.write_state(**{DELETED: True})  # first: whoever resumes what is half deleted would begin anew
        try:
            for name in FOLDERS:
                if (run.path / name).exists():
                    files.remove(run.path / name)
        except OSError as error:  # on Windows, while a program has one of them open
            run.write_state(**{DELETED: not run.checkpoints.exists()})
            raise UserError("runs.states_not_deleted", "run", run=run.id, error=error) from error
        run.checkpoints.mkdir(exist_ok=True)
    return freed


def check_kept(run: Run, state: Mapping[str, Any]) -> None:
    """Raise UserError where a run cannot go on because they were deleted: it would begin anew without a word."""
    if state.get(DELETED) is True:
        raise UserError("runs.states_deleted", "run", run=run.id)
