"""Recording the final status of a run whose worker is gone, once what was due after it is done: models published, the
device returned. Whoever publishes does it (`Run.claim`)."""

from __future__ import annotations

from .events import ENDED
from .run_folder import Run, ending_of, worker_gone


def conclude(run: Run) -> bool:
    """Record the run's final status, now that everything due after it is done. Its claim must be held.

    False if another worker already has it, or while events are postponed, which may announce models that are due.
    """
    if run.events.put_off():
        return False
    write_saving(run)
    lock = run.take()
    if lock is None:
        return False
    with lock:
        state = run.recorded()
        if word := ending_of(state):
            state = run.write_state(status=word)
        elif state["status"] not in (*ENDED, "queued"):
            problem = worker_gone(run).as_dict()
            state = run.write_state(status="failed", ending="failed", problem=problem, problems=[problem])
        if state["status"] in ENDED and _last_told(run) != state["status"]:  # else a kill came between
            known = {key: state[key] for key in ("problem", "problems") if state.get(key)}
            run.events.append("status", status=state["status"], **known)
    return True


def write_saving(run: Run) -> None:
    """Write "saving", as `Run.state` shows it, for a run whose worker is gone while something is due: otherwise it
    would seem to train while `conclude` holds its lock. Its claim must be held."""
    if run.owes() and run.recorded()["status"] not in (*ENDED, "queued", "saving") and not run.is_held():
        run.write_state(status="saving")


def end_killed(run: Run) -> None:
    """Record that the user stopped the run by killing its worker before it had recorded an ending."""
    lock = run.take()
    if lock is None:
        return
    with lock:
        if run.recorded()["status"] not in ("done", "stopped") and not run.last_word():
            run.end("stopped", problem=None, problems=[])


def _last_told(run: Run) -> str | None:
    """The status in the last status event."""
    told = [event.get("status") for event in run.events.read() if event["type"] == "status"]
    return told[-1] if told else None
