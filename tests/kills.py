"""Kills at random instants, from `train` to the model in the folder that the user named: `python -m tests.kills`.

Terminals (`train`, `resume`, `runs`), hosts and workers are real processes with real locks, forked from one that has
imported torch, which saves the seconds of each start. A chain is one run: killed so and so often, wherever it is, then
resumed to its end. Afterwards every model that it announced has to be at its place, whole, and published once; nothing
half made may be left in that folder nor among the runs.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

STEPS = 8
SETTINGS = {
    "name": "taught", "instance-prompt": "a photo of sksper person", "resolution": 64, "learning-rate": 1e-3,
    "max-train-steps": STEPS, "checkpointing-steps": 3, "text-encoder-steps": 0, "validation-steps": 0, "device": "cpu",
    "mixed-precision": "no", "optimizer": "adamw", "report-to": "none", "save-precision": "fp32", "seed": 7,
}  # fmt: skip


# --- inside the processes


class Forked:
    """A worker as `subprocess.Popen` shows one, forked and tied to its terminal by a pipe."""

    def __init__(self, run: Any, total: int | None):
        self.returncode: int | None = None
        mine, self._pipe = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            become_worker([str(run.path), *(["--total", str(total)] if total else []), "--tied"], mine, run.path)
        os.close(mine)

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode


def become_worker(arguments: list[str], pipe: int, folder: Path) -> None:
    """Nothing of the terminal stays, above all none of its locks."""
    os.setsid()
    os.dup2(pipe, 0)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 1024)
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for its whole life
    from dreambooth_ext.engine import worker

    os._exit(worker.main(arguments))


def start(run: Any, environment: Any, total: int | None = None, **options: Any) -> Forked:
    from dreambooth_ext.core.runs.events import take_commands

    take_commands(run.commands)
    return Forked(run, total)


@contextlib.contextmanager
def prepared(scratch: Path):
    """The processes' common ground: no environment to make, workers that are forked, no waiting for the disk."""
    import torch

    from dreambooth_ext.host.environment.environment import Environment
    from dreambooth_ext.host.jobs import worker_process

    os.setsid()
    torch.set_num_threads(1)
    os.environ["DREAMBOOTH_EXT_ENVIRONMENT"] = str(scratch / "environment")
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(open(scratch / "said.txt", "a", buffering=1, encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stderr(said))
        stack.enter_context(contextlib.redirect_stdout(said))
        for owner, name, other in ((Environment, "ensure", mock.DEFAULT), (worker_process, "start", start)):
            stack.enter_context(mock.patch.object(owner, name, other))
        stack.enter_context(mock.patch("os.fsync"))
        yield


def terminal(argv: list[str], scratch: str) -> None:
    """A command line."""
    with prepared(Path(scratch)):
        from dreambooth_ext.__main__ import main

        print("$", *argv, flush=True)
        code = main(argv)
    os._exit(code)


def host(folder: str, scratch: str) -> None:
    """The tab without a WebUI, for a second."""
    with prepared(Path(scratch)):
        from dreambooth_ext.host.environment.environment import Environment
        from dreambooth_ext.host.hosts.folder_host import FolderHost
        from dreambooth_ext.host.jobs.dispatcher import Dispatcher

        place = FolderHost(Path(scratch) / "host", runs=Path(folder))
        dispatcher = Dispatcher(place.runs_folder(), Environment(), place)
        for _ in range(5):
            dispatcher._attend_to_unsettled(threading.Event())
            time.sleep(0.2)
    os._exit(0)


# --- the chains


class Chain:
    """One run in `folder`, killed again and again."""

    def __init__(self, folder: Path, base: Path, pictures: str, dice: random.Random):
        self.folder, self.dice = folder, dice
        self.runs, self.out = folder / "runs", folder / "named by the user"
        folder.mkdir()
        given = {**SETTINGS, "base-model": base, "instance-data-dir": pictures, "output-dir": self.out}
        self.train = ["train", "--runs-dir", str(self.runs)]
        self.train += [str(word) for name, value in given.items() for word in (f"--{name}", value)]
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.training"])
        self.kills: Counter[str] = Counter()  # by what it hit
        self.seconds = 3.0  # that a whole `train` takes; measured on the way

    def run(self) -> Any:
        """The run; None as long as it has not been made."""
        from dreambooth_ext.core.runs import run_list

        known = run_list.list_runs(self.runs)
        return known[0] if known else None

    def begin(self) -> tuple[str, Any]:
        """A process that does something with the run: trains it first, then goes on or only looks."""
        run = self.run()
        if run is None:
            verb, target, arguments = "train", terminal, (self.train, str(self.folder))
        elif (chance := self.dice.random()) < 0.7:
            argv = ["resume", run.id, "--runs-dir", str(self.runs)]
            verb, target, arguments = "resume", terminal, (argv, str(self.folder))
        elif chance < 0.85:
            verb, target, arguments = "runs", terminal, (["runs", "--runs-dir", str(self.runs)], str(self.folder))
        else:
            verb, target, arguments = "host", host, (str(self.runs), str(self.folder))
        process = self.context.Process(target=target, args=arguments)
        process.start()
        return verb, process

    def wait(self, process: Any) -> None:
        """For a random instant: any at all, or one close to what is written and published."""
        if self.dice.random() < 0.5:
            process.join(self.dice.random() * self.seconds)
            return
        kinds = self.dice.choice([("artifact",), ("published",), ("checkpoint", "status")])
        run = self.run()
        seen = run.events.read()[-1]["n"] if run else 0
        deadline = time.monotonic() + self.seconds
        while process.is_alive() and time.monotonic() < deadline:
            run = run or self.run()
            if run and any(event["type"] in kinds for event in run.events.read(after=seen)):
                break
            time.sleep(0.002)
        process.join(self.dice.random() * 0.05)

    def kill(self) -> bool:
        """Begin something and kill its terminal, its worker, or both; whether there was something to kill."""
        verb, process = self.begin()
        self.wait(process)
        run, hit = self.run(), False
        way = self.dice.choice(["terminal", "worker", "both"])
        if way != "terminal" and run and (pid := self.worker(run)):
            os.kill(pid, signal.SIGKILL)
            hit = True
        if way != "worker" and process.is_alive():
            process.kill()
            hit = True
        process.join(60)
        if hit:
            self.kills[f"{verb}, {run.state()['status'] if run else 'before it was made'}"] += 1
        return hit

    def worker(self, run: Any) -> int | None:
        from dreambooth_ext.host.jobs.queue import read_state

        pid = read_state(run).get("pid")
        return pid if isinstance(pid, int) and run.is_held() else None

    def survive(self, kills: int) -> list[str]:
        """What is wrong in the end; nothing, if all is well."""
        tries = 0
        while self.kills.total() < kills and tries < 3 * kills:
            self.kill()
            tries += 1
        if self.run() is None:
            self.call(self.train)
        code = self.call(["resume", self.run().id, "--runs-dir", str(self.runs)])
        return ([f"resume ended with {code}"] if code else []) + self.faults()

    def call(self, argv: list[str]) -> int:
        process = self.context.Process(target=terminal, args=(argv, str(self.folder)))
        began = time.monotonic()
        process.start()
        process.join(300)
        self.seconds = 0.5 * self.seconds + 0.5 * (time.monotonic() - began)
        return process.exitcode

    def faults(self) -> list[str]:
        run, found = self.run(), []
        events = run.events.read()
        announced = {event["file"]: event for event in events if event["type"] == "artifact"}
        published = Counter(event["file"] for event in events if event["type"] == "published")
        if not any(event["final"] for event in announced.values()):
            found.append("there is no final model")
        for file in announced:
            found += [f"{file} {fault}" for fault in model_faults(run.artifacts / file, self.out / file)]
            told = sum(event["type"] == "artifact" and event["file"] == file for event in events)
            if not 1 <= published[file] <= told:
                found.append(f"{file} was published {published[file]} times, announced {told} times")
        last = max((event["n"] for event in announced.values()), default=0)
        if run.state()["status"] != "done" or not any(e.get("status") == "done" for e in events if e["n"] > last):
            found.append(f"it is {run.state()['status']}, and no event says that it is done")
        found += [f"{path} is left" for path in self.out.glob(".tmp-*")]
        folders = {path.name for path in self.runs.iterdir() if path.is_dir() and path.name[:1].isdigit()}
        found += [f"{name} is no run" for name in folders - {run.id}]
        return found


def model_faults(artifact: Path, published: Path) -> list[str]:
    """What is wrong with a published model and what belongs to it."""
    from dreambooth_ext.engine.tensors.tensor_file import open_tensors
    from dreambooth_ext.host.publishing import model_files

    if not published.is_file():
        return ["is missing"]
    if not model_files.same_content(artifact, published):
        return ["is another model"]
    found = [] if all(tensor.isfinite().all() for tensor in open_tensors(published).values()) else ["is broken"]
    for suffix in (".json", ".yaml"):
        if model_files.sidecar(artifact, suffix).exists() and not model_files.sidecar(published, suffix).exists():
            found.append(f"has no {suffix}")
    clip = model_files.sidecar(artifact, model_files.CLIP)
    if clip.exists() and not model_files.same_folder(clip, model_files.sidecar(published, model_files.CLIP)):
        found.append("has no CLIP folder of its own")
    return found


def prove(folder: Path, kills: int, seed: int, each: int = 12, seconds: float = float("inf")) -> tuple[Counter, list]:
    """(kills by what they hit, faults) of as many chains as so many kills need, or so many seconds allow."""
    from tests import tiny, training

    base, pictures = tiny.single_file(folder, name="base"), training.pictures(folder / "pictures")
    dice, total, faults = random.Random(seed), Counter(), []
    deadline, number = time.monotonic() + seconds, 0
    while total.total() < kills and time.monotonic() < deadline:
        number += 1
        chain = Chain(folder / f"chain {number}", base, pictures, dice)
        found = chain.survive(min(each, kills - total.total()))
        total += chain.kills
        faults += [f"{chain.folder}: {fault}" for fault in found]
        print(f"chain {number}: {total.total()} kills so far, {len(faults)} faults", *found, sep="\n  ", flush=True)
    return total, faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further chain after so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="that train together: see kills_together.py")
    parser.add_argument("--out", type=Path, help="a folder to keep; a temporary one if left out")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.processes > 1:
            from tests import kills_together

            known = (arguments.processes, arguments.kills, arguments.seed)
            total, faults = kills_together.prove(folder, *known, seconds=arguments.seconds)
        else:
            total, faults = prove(folder, arguments.kills, arguments.seed, seconds=arguments.seconds)
    for name, count in sorted(total.items()):
        print(f"{count:5} {name}")
    print(f"{total.total()} kills, {len(faults)} faults", *faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    if "torch" not in sys.modules and not os.environ.get("DREAMBOOTH_EXT_USED"):
        from dreambooth_ext.host.environment.environment import Environment

        sys.exit(Environment().run_inside(["-m", "tests.kills", *sys.argv[1:]], {"OMP_NUM_THREADS": "1"}))
    sys.exit(main())
