"""Several processes that another program's launcher started: killed or failing for real, they end together, and the run
says which one it was."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from dreambooth_ext.core.errors import Problem
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.launching import line
from tests import training
from tests.training import Trainer
from tests.waiting import until

posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
BREAKS = """
import sys
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.training.loop import Loop
optimise = Loop._optimise
def broken(loop, losses):
    if loop.state.step == 2:
        raise RuntimeError("this card has fallen off the bus")
    return optimise(loop, losses)
Loop._optimise = broken
sys.exit(worker.main(sys.argv[1:]))
"""


class Several:
    """The workers of a run, with the variables that launchers set. breaks: the rank whose third step fails."""

    def __init__(self, run: Run, count: int, breaks: int | None = None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        world = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        self.run, self.processes = run, []
        for rank in range(count):
            place = {name: str(value) for name, value in {**world, "RANK": rank, "LOCAL_RANK": rank}.items()}
            self.processes.append(self._broken(place) if rank == breaks else training.start(run, **place))

    def _broken(self, place: dict[str, str]) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **place}
        with (self.run.path / "log.txt").open("ab") as stream:
            words = [sys.executable, "-c", BREAKS, str(self.run.path)]
            return subprocess.Popen(
                words, cwd=training.REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )

    def kill(self, rank: int) -> None:
        """Once training has begun, and a training state is written."""
        until(lambda: self.has_ended() or training.events(self.run, "checkpoint"), 120)
        assert not self.has_ended(), training.log(self.run)
        os.kill(self.processes[rank].pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether one of them has."""
        return any(process.poll() is not None for process in self.processes)

    def ended(self, seconds: float = 10.0) -> list[int]:
        """Their exit statuses; all have to end within so many seconds."""
        deadline = time.monotonic() + seconds
        return [process.wait(max(0.1, deadline - time.monotonic())) for process in self.processes]


@pytest.fixture
def several() -> Iterator[type[Several]]:
    made: list[Several] = []

    def make(*given, **options) -> Several:
        made.append(Several(*given, **options))
        return made[-1]

    yield make
    for process in [process for each in made for process in each.processes if process.poll() is None]:
        process.kill()
        process.wait()


@posix
@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_one_that_is_killed_ends_all(tmp_path, several, rank):
    saves = {"checkpointing_steps": 3, "checkpoints_total_limit": 2, "save_intermediate_models": False}
    run = Trainer(tmp_path).create(max_train_steps=100000, **saves)
    workers = several(run, 3)
    workers.kill(rank)
    assert workers.ended() == [-signal.SIGKILL if n == rank else worker.FAILED for n in range(3)], training.log(run)
    state = run.state()
    (error,) = training.events(run, "error")
    assert state["status"] == "failed" and error["what"] == state["problem"]["message"]
    said = f"process {rank + 1} of 3 ended without a word"
    assert said in error["what"] and said in (run.path / "log.txt").read_text(encoding="utf-8")
    saved = training.newest(run).step
    if rank:  # the first one has saved all that there was
        assert saved == state["step"] == len(training.losses(run))
    assert training.go_on(run, total=saved + 1) == worker.DONE


@posix
@pytest.mark.parametrize(("rank", "whose"), [(1, "process 2 of 2 failed"), pytest.param(0, "", marks=pytest.mark.slow)])
def test_one_that_fails_ends_all_and_says_why(tmp_path, several, rank, whose):
    run = Trainer(tmp_path).create(max_train_steps=100000)
    workers = several(run, 2, breaks=rank)
    until(workers.has_ended, 120)
    assert workers.ended() == [worker.FAILED, worker.FAILED], training.log(run)
    (error,) = training.events(run, "error")
    assert whose in error["what"] and "this card has fallen off the bus" in error["what"]
    assert training.newest(run).step == 2 == len(training.losses(run))
    assert (
        rank or (run.path / "log.txt").read_text(encoding="utf-8").count("Traceback") == 1
    )  # the others only tell what they have heard


@posix
def test_a_run_that_is_stopped_while_it_prepares_leaves_none_waiting(tmp_path, several):
    trainer = Trainer(tmp_path)
    settings = {"class_prompt": "a person", "num_class_images": 5000, "max_train_steps": 10000}
    run = trainer.create(**settings)
    workers = several(run, 2)
    until(lambda: any(event.get("of") for event in training.events(run, "status")), 120)
    run.command("stop")
    assert workers.ended(20) == [worker.STOPPED, worker.STOPPED], training.log(run)
    assert run.state()["status"] == "stopped" and training.events(run, "error") == []


# --- the line itself


class Store(dict):
    def set(self, key: str, value: str) -> None:
        self[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self[key]


class Lines:
    """Lines of several processes in this one. `ends` and `recorded`: what the first one ended with, and why."""

    def __init__(self, count: int):
        self.ends: list[int] = []
        self.recorded: list[tuple[Problem, int]] = []
        self.busy, self.store = True, Store()
        record, is_busy = lambda *known: self.recorded.append(known), lambda: self.busy
        self.first = line.FirstLine(self.store, count, line.HERE, record, is_busy, self.ends.append)
        self._count = count

    def others(self) -> list[line.OtherLine]:
        ranks, nothing = range(1, self._count), lambda *known: None
        made = [line.OtherLine(self.store, rank, self._count, line.HERE, nothing, nothing) for rank in ranks]
        until(lambda: len(self.first._others) == len(made))
        return made


def test_a_main_thread_that_hangs_is_ended_and_the_failure_recorded(monkeypatch):
    """As one that waits on a card for a process that is gone, after a file that is being written has been finished."""
    monkeypatch.setattr(line, "RESCUE", 0.2)
    lines = Lines(2)
    (other,) = lines.others()
    other.tell(Problem("device.missing", "device", device="cuda:7"), 1, is_exchange=False)
    until(lambda: lines.first._failure)
    time.sleep(0.5)
    assert not lines.recorded
    lines.busy = False
    until(lambda: lines.ends)
    ((problem, code),) = lines.recorded
    assert lines.ends == [code] == [1] and "process 2 of 2 failed: 'cuda:7' is not on this machine" in str(problem)


def test_one_that_lost_another_is_not_taken_for_the_cause():
    lines = Lines(3)
    lost, broken = lines.others()
    lost.tell(Problem("training.unexpected", type="E", error="closed by peer", log="", run=""), 3, is_exchange=True)
    broken.tell(Problem("device.missing", "device", device="cuda:7"), 1, is_exchange=False)
    until(lambda: lines.first._failure)
    assert "process 3 of 3" in str(lines.first.failure(wait=False)[0])


@pytest.mark.parametrize("greeting", [{"secret": "guessed", "rank": 1}, {"rank": 1}, [], {"secret": None}])
def test_a_stranger_is_not_heard(greeting):
    lines = Lines(2)
    port = int(lines.store[line.KEY].split()[0])
    with socket.create_connection((line.HERE, port), 10) as stranger:
        stranger.sendall(json.dumps(greeting).encode() + b"\n")
        stranger.settimeout(10)
        assert stranger.recv(1) == b""
    assert lines.first._failure is None and not lines.first._others
