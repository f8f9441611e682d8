"""`resume`: go on with a run that was stopped, failed or is to train longer."""

from __future__ import annotations

import argparse
import time

from .. import links, picture_list, runs
from ..errors import UserError
from ..host.environment import Environment
from ..terminal import say
from . import DONE
from .following import Follower
from .train import add_places, target_folder

PATIENCE = 20.0  # seconds

HELP = "go on with a run, also with one that is done"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's folder, id or name; 'last' is the newest")
    parser.add_argument("--max-train-steps", type=int, metavar="N", help="train up to step N in all")
    parser.add_argument(
        "--new-pictures", action="store_true", help="train on pictures and captions as they are now, not as queued"
    )
    parser.add_argument("--base-model", metavar="LINK", help="the whole link of a base that was not downloaded yet: "
                        "runs keep no tokens and passwords")  # fmt: skip
    add_places(parser)


def wait_for_end(run: runs.Run) -> None:
    """A worker whose terminal was closed still saves its state: give it the time. Raises UserError if it goes on."""
    deadline = time.monotonic() + PATIENCE
    while run.is_alive():
        if time.monotonic() > deadline:
            raise UserError("run", f"{run.id} is being trained already.", "Wait for it, or stop it first.")
        time.sleep(0.2)


def run(arguments: argparse.Namespace) -> int:
    run = runs.find(arguments.runs_dir, arguments.run)
    wait_for_end(run)
    state, total = run.state(), arguments.max_train_steps
    if total is not None and total <= state["step"]:
        raise UserError("max_train_steps", f"{run.id} is at step {state['step']} already.", "Give a larger number.")
    if state["status"] == "done" and total is None:
        steps = state["step"]
        say(f"{run.id} is done, with {steps} steps. Train longer with --max-train-steps {steps + 500}")
        return DONE
    target = target_folder(arguments, run.config.method)
    given = [links.again(arguments.base_model, run.config.base_model, run.id)] if arguments.base_model else []
    if arguments.new_pictures:
        picture_list.forget(run.path)
    environment = Environment()
    environment.ensure()
    return Follower(run, environment, target, given).train(total or state.get("total"))
