"""`resume`: continue a run that was stopped, failed or is to train longer, and publish models that are still due."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from ..core.config import devices, links
from ..core.data import picture_list
from ..core.errors import UserError
from ..core.facts.distribution import DISTRIBUTIONS
from ..core.runs import conclusion, run_folder, run_list, training_states
from ..core.runs.job_options import JobOptions
from ..core.system.terminal import say
from ..host.environment.environment import Environment
from ..host.jobs import worker_process
from .support import delivery, machines
from .support.exit_status import DONE, FAILED
from .support.run_output import Follower
from .train import add_places

HELP = "go on with a run, also with one that is done"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's folder, id or name; 'last' is the newest")
    parser.add_argument("--max-train-steps", type=int, metavar="N", help="train up to step N in total")
    parser.add_argument(
        "--new-pictures",
        action="store_true",
        help="train on the pictures and captions of now, not of when it was queued",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="train with N processes from now on, each on a card "
                        "of its own (default: as many as the run's settings say)")  # fmt: skip
    parser.add_argument("--distribution", choices=DISTRIBUTIONS, help="how several processes share the run from now on "
                        "(default: as the run's settings say)")  # fmt: skip
    parser.add_argument("--base-model", metavar="LINK", help="the full link of a base that is not downloaded yet: "
                        "runs do not store tokens or passwords")  # fmt: skip
    add_places(parser)
    machines.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    run, total = run_list.find(arguments.runs_dir, arguments.run), arguments.max_train_steps
    machines.check_processes(arguments.processes)
    place = machines.chosen(arguments)
    if place and place.rank:
        processes = arguments.processes or devices.processes(run.config.device, run.config.processes)
        start = partial(worker_process.start_helper, place=place, processes=processes, where=run.path, is_run=True)
        return machines.help_out(partial(start, distribution=arguments.distribution))
    folders = delivery.named_folders(arguments, run.config)
    given = [links.again(arguments.base_model, run.config.base_model, run.id)] if arguments.base_model else []
    with delivery.claimed(run):
        state = run.state()
        is_done = "done" in (state["status"], run.last_word())
        if total is not None or not is_done:  # else there is nothing to train
            training_states.check_kept(run, state)
        if total is not None and total <= state["step"]:
            raise UserError("queue.step_reached", "max_train_steps", run=run.id, step=state["step"])
        if total is not None and total < state.get("total", 0):
            say(f"{run.id} now ends at step {total} instead of {state['total']}")
        wanted = delivery.renewed(run, folders, arguments)
        if wanted:
            wanted.write(run)
        if is_done and total is None:
            return publish_only(run, wanted)
        for path in delivery.publish_due(run, wanted, again=True)[0]:
            say(f"published {path}, which was still waiting")
        conclusion.conclude(run)
        if arguments.new_pictures:
            picture_list.forget(run.path)
        environment = Environment()
        environment.ensure()
        machines.say_others(arguments, place)
        follower = Follower(run, environment, wanted, given, arguments.processes, place, arguments.distribution)
        return follower.train(total or state.get("total"))


def publish_only(run: run_folder.Run, wanted: JobOptions | None) -> int:
    """Publish what is still due of a finished run, and say how to train it longer."""
    published, problems = delivery.publish_due(run, wanted, again=True)
    delivery.conclude(run, wanted)
    steps = run.state()["step"]
    say(f"{run.id} is done, with {steps} steps. Train longer with --max-train-steps {steps + 500}")
    for path in published:
        say(f"published {path}")
        say(path, stream=sys.stdout)
    return FAILED if problems else DONE
