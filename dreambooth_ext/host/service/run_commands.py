"""Commands for an existing run: stop, kill, resume, continue and delete."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...core.config import links
from ...core.config.parsing import shown
from ...core.config.run_config import SETTINGS, RunConfig
from ...core.data import picture_list
from ...core.errors import UserError
from ...core.runs import job_options, training_states
from ...core.runs.events import COMMANDS, ENDED
from ...core.runs.run_folder import Run
from ..environment.maintenance import Maintenance
from ..errors import Refusal
from ..hosts import path_policy
from ..jobs.dispatcher import Dispatcher
from ..runs.run_index import FAULTS, RunIndex
from .asked_options import options_for

if TYPE_CHECKING:
    from ..hosts.host import Host

RUN_COMMANDS = (*COMMANDS, "resume", "continue", "kill")
GOING = 15.0  # seconds for a killed worker to be gone, and its host to have noticed


class RunCommands:
    """Commands for runs, by id."""

    def __init__(self, host: Host, index: RunIndex, dispatcher: Dispatcher, maintenance: Maintenance):
        self.host, self.run_index, self.dispatcher, self.maintenance = host, index, dispatcher, maintenance
        self._changing = threading.Lock()  # looks at a run's state that lead to a change of it

    def command(
        self,
        id: str,
        command: str,
        total: int | None = None,
        wanted: Mapping[str, Any] | None = None,
        new_pictures: bool = False,
    ) -> None:
        """Carry out one of RUN_COMMANDS; `total`: the last step for "continue". new_pictures: let "resume" and
        "continue" use pictures and captions as they are now."""
        run = self.run_index.find(id)
        if command not in RUN_COMMANDS:
            raise UserError("web.no_choice", "command", value=shown(command), choices=list(RUN_COMMANDS))
        with self._changing:
            state = run.state()
            if command in ("resume", "continue"):
                self._go_on(run, state, command, total, wanted or {}, new_pictures)
            elif command in ("stop", "stop_and_save") and state["status"] == "queued":
                self.dispatcher.cancel(run)
            elif command == "kill" and (state["status"] not in ENDED or run.is_held()):
                self._kill(run)  # also a worker that is stuck at its start, and does not count as alive yet
            elif command in ("stop", "stop_and_save") and only_hangs(run, state):
                self._kill(run)
            elif not run.is_alive(state):
                raise Refusal(409, "queue.not_training", "command", run=id)
            else:
                self.dispatcher.command(run, command)

    def give_link(self, id: str, link: str) -> None:
        """Give the next worker the whole link of a run's base, because run folders hold no tokens and passwords. Raises
        a Refusal (403) where links are not allowed."""
        run = self.run_index.find(id)
        path_policy.check_paths(RunConfig(base_model=link), self.host)
        self.dispatcher.remember(run, [links.again(link, run.config.base_model, id)])

    def _kill(self, run: Run) -> None:
        try:
            self.dispatcher.kill(run)
        except UserError as error:
            raise Refusal.of(409, error.problem, "command") from error

    def _end(self, run: Run) -> None:
        """Kill a worker and wait until every process has released its run."""
        self._kill(run)
        deadline = time.monotonic() + GOING
        while (run.is_held() or run.is_followed()) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _go_on(
        self,
        run: Run,
        state: dict[str, Any],
        command: str,
        total: int | None,
        wanted: Mapping[str, Any],
        new_pictures: bool,
    ) -> None:
        if state["status"] == "queued" or run.is_alive(state) or run.is_followed():
            raise Refusal(409, "queue.busy", "command", run=run.id)
        if command == "resume" and "done" in (state["status"], run.last_word()) and total is None:
            raise Refusal(409, "service.run_done", "command", run=run.id)
        if command == "continue" and total is None:
            raise UserError("service.no_total", "max_train_steps")
        if total is not None and total <= state["step"]:
            raise UserError("queue.step_reached", "max_train_steps", run=run.id, step=state["step"])
        most = SETTINGS["max_train_steps"].maximum
        if total is not None and most is not None and total > most:
            raise UserError("service.total_too_large", "max_train_steps", most=int(most))
        try:
            training_states.check_kept(run, state)
        except UserError as error:
            raise Refusal.of(409, error.problem, "command") from error
        self.maintenance.check_ready()
        before = job_options.read(run)
        chosen = options_for(self.host, wanted, before) if wanted or not before else None
        if new_pictures:
            picture_list.forget(run.path)
        self.dispatcher.resume(run, chosen, total)

    def delete_states(self, id: str) -> dict[str, int]:
        """{"freed": bytes}. Raises a Refusal (409) while the run trains, waits or is published, and without any."""
        with self._changing:
            try:
                return {"freed": self.dispatcher.delete_states(self.run_index.find(id))}
            except UserError as error:
                raise error if isinstance(error, Refusal) else Refusal.of(409, error.problem, "run") from error

    def delete(self, run: Run) -> None:
        with self._changing:
            try:
                state = run.state()
                if only_hangs(run, state):
                    self._end(run)
                elif run.is_alive(state):
                    raise Refusal(409, "queue.training", "run", run=run.id)
                if state["status"] == "queued":
                    self.dispatcher.cancel(run)
            except FAULTS as error:  # a damaged run can only be deleted
                if isinstance(error, Refusal):
                    raise
            self.dispatcher.delete(run)


def only_hangs(run: Run, state: Mapping[str, Any]) -> bool:
    """Whether a worker has recorded its ending but hangs, in a driver for example: killing it loses nothing."""
    return run.is_held() and (state["status"] in ENDED or run.last_word() is not None)
