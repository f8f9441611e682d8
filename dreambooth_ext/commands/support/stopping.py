"""`runs stop`: takes a queued run off the queue, lets a training run save and stop, and kills one that hangs.

Does what the tab's Stop, Stop and save and Kill do, for any run, wherever it was started.
"""

from __future__ import annotations

import time

from ...core.errors import UserError
from ...core.runs import conclusion
from ...core.runs.events import ENDED
from ...core.runs.run_folder import Run
from ...core.system.terminal import say
from ...host.jobs import worker_process
from ...host.jobs.queue import Queue, cancel, read_state, status_of
from ...host.jobs.watchdog import Patience, in_words
from . import delivery
from .exit_status import DONE, FAILED

GOING = 10.0  # seconds for a killed worker to be gone, and for who follows it to tell how it ended


def stop(run: Run, save: bool, kill: bool) -> int:
    """Stop a run and return the exit status. Raises UserError if there is nothing to stop.

    save: write a model as well. kill: end its worker at once, and lose the steps since the last training state.
    """
    if kill or only_hangs(run):
        return end(run)
    if run.is_alive():
        return ask(run, "stop_and_save" if save else "stop")
    if status_of(run) != "queued":
        raise UserError("queue.nothing_to_stop", "run", run=run.id)
    cancel(Queue(run.path.parent), run)
    if status_of(run) == "queued":
        say(f"{run.id} is starting right now, and stops as soon as it can.")
    else:
        say(f"{run.id} has left the queue.")
    return DONE


def only_hangs(run: Run) -> bool:
    """Whether a worker has recorded its ending but does not exit, such as when a driver hangs. Killing it loses
    nothing."""
    return run.is_held() and (status_of(run) in ENDED or run.last_word() is not None)


def ask(run: Run, command: str) -> int:
    """Ask a worker to stop, and wait for it."""
    run.command(command)
    kept = "its training state and a model are saved" if command == "stop_and_save" else "its training state is saved"
    killing = f"python -m dreambooth_ext runs stop {run.path} --kill"
    say(f"{run.id} stops after this step; {kept}. To end it at once, without saving: {killing}")
    while run.is_alive() and not only_hangs(run):
        silent = time.time() - (run.state().get("heartbeat") or time.time())
        if silent > Patience.silent:
            say(f"error: it has not answered for {in_words(silent)}: it is paused or hangs. End it: {killing}")
            return FAILED
        time.sleep(0.2)
    return conclude(run) if is_gone(run) else end(run)


def end(run: Run) -> int:
    """Kill a worker."""
    if not run.is_held():
        raise _without_worker(run)
    if not worker_process.kill_alive(run):
        known = read_state(run).get("pid")
        raise UserError("command.cannot_end", "run", path=str(run.path / "worker.lock"), pid=known)
    if not is_gone(run):
        say(f"error: {run.id} does not end at once: it ends when a driver, or the disk, lets it go.")
        return FAILED
    lock = run.claim(0)
    if lock:  # nobody follows it, who would tell of its end
        with lock:
            if status_of(run) not in ENDED:
                conclusion.end_killed(run)
    return conclude(run)


def is_gone(run: Run) -> bool:
    """Whether its worker ends within GOING seconds."""
    deadline = time.monotonic() + GOING
    while (held := run.is_held()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not held


def _without_worker(run: Run) -> UserError:
    state = read_state(run)
    if status_of(run) in ENDED or not run.is_alive():
        return UserError("command.no_worker", "run", run=run.id)
    return UserError("command.worker_elsewhere", "run", run=run.id, pid=state.get("pid"), host=state.get("host"))


def conclude(run: Run) -> int:
    """Print how the run ended, once everything that is due after it is done."""
    deadline = time.monotonic() + GOING
    for path in delivery.deliver_left(run):
        say(f"published {path} of {run.id}, which was still waiting")
    while (state := run.state())["status"] not in ENDED and run.is_followed() and time.monotonic() < deadline:
        time.sleep(0.1)
    if state["status"] in ENDED:
        say(f"{run.id} is {state['status']}, at step {state['step']}.")
    elif run.is_followed():
        say(f"{run.id} has ended at step {state['step']}; its models are being published.")
    else:
        left = "its models are published when the WebUI starts, or by resume."
        say(f"{run.id} has ended at step {state['step']}; {left}")
    return DONE
