"""Several machines as several launchers on 127.0.0.1: they meet, or say why not, and end together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.core.system import message_lines
from dreambooth_ext.engine.launching import machines
from tests import training
from tests.engine.launching.test_launcher import PLAYED, lives
from tests.waiting import until


@pytest.fixture
def run(tmp_path) -> Run:
    return run_folder.create(tmp_path / "runs", RunConfig(name="mine", max_train_steps=10))


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def machine(
    port: int, rank: int, words: list[str], *does: str, count: int = 2, config: dict | None = None
) -> subprocess.Popen:
    """One machine's launcher, whose processes pretend. does: what each does, from the first of all machines on."""
    said = {f"DOES_{number}": what for number, what in enumerate(does)}
    command = [sys.executable, "-c", PLAYED, "tests.engine.launching.scripted", *words, "--tied"]
    command += [f"--machines={count}", f"--machine-rank={rank}", f"--main-address=127.0.0.1:{port}"]
    environment = {**os.environ, **said, "PYTHONPATH": str(training.REPOSITORY), "PYTHONUTF8": "1"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, env=environment, **streams, bufsize=0)
    process.stdin.write(message_lines.line({"config": config}))
    return process


def ended(process: subprocess.Popen, seconds: float = 30) -> tuple[int, str]:
    """(exit status, what it said)"""
    code = process.wait(seconds)
    said = process.stdout.read().decode()
    assert "Traceback" not in said, said
    return code, said


def first_of(run: Run, processes: int = 1) -> list[str]:
    return [str(run.path), f"--processes={processes}"]


def other(folder: Path, processes: int = 1) -> list[str]:
    return ["--runs-dir", str(folder), f"--processes={processes}"]


def error_of(run: Run) -> str:
    return next(event["why"] for event in run.events.read() if event["type"] == "error")


def test_two_machines_train_one_run_with_their_processes(run, port):
    folder = run.path.parent
    does = ("done 0.3", "done", "done")
    both = [machine(port, 0, first_of(run, 1), *does), machine(port, 1, other(folder, 2), *does, config=None)]
    (code, _), (theirs, said) = map(ended, both)
    assert (code, theirs) == (0, 0)
    assert f"looked for in {folder}" in said and f"{run.id}, found in {folder}" in said and "the run is done" in said
    assert all((run.path / f"{rank}.pid").exists() for rank in range(3))  # each rank once
    stages = [event for event in run.events.read() if event.get("stage") == "waiting for the other machines"]
    assert stages[0]["done"] == 1 and stages[0]["of"] == 2


@pytest.mark.slow
def test_the_order_in_which_they_start_does_not_matter(run, port):
    late = machine(port, 1, other(run.path.parent), "done", "done")
    time.sleep(1.0)
    assert ended(machine(port, 0, first_of(run), "done", "done"))[0] == 0 and ended(late)[0] == 0


def test_a_failure_on_another_machine_ends_all_and_is_told_on_all(run, port):
    does = ("waits", "done 30", "fails 0.5")
    begun = time.monotonic()
    both = [machine(port, 0, first_of(run, 1), *does), machine(port, 1, other(run.path.parent, 2), *does)]
    (code, _), (theirs, said) = map(ended, both)
    assert (code, theirs) == (1, 1) and time.monotonic() - begun < 15
    sentence = "process 3 of 3 failed: 'cuda:2' is not on this machine."
    assert run.state()["problem"]["message"] == sentence and sentence in said
    assert not any(lives(run, rank) for rank in range(3))


@pytest.mark.slow
def test_a_failure_on_the_first_machine_is_told_on_all(run, port):
    does = ("fails 0.5", "hangs")
    both = [machine(port, 0, first_of(run), *does), machine(port, 1, other(run.path.parent), *does)]
    assert ended(both[0])[0] == 1
    code, said = ended(both[1])
    assert code == 1 and "'cuda:0' is not on this machine" in said and not lives(run, 1)


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_machine_that_is_switched_off_ends_the_others(run, port, rank):
    does = ("waits", "hangs")
    both = [machine(port, 0, first_of(run), *does), machine(port, 1, other(run.path.parent), *does)]
    until(lambda: lives(run, 0) and lives(run, 1))
    both[rank].kill()
    code, said = ended(both[1 - rank])
    assert code == 3 and not lives(run, 0) and not lives(run, 1)
    told = said if rank == 0 else run.state()["problem"]["message"]
    assert f"machine {rank + 1} is gone" in told


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stop_on_any_machine_stops_all(run, port, rank):
    does = ("stopped", "done 0.1")
    both = [machine(port, 0, first_of(run), *does), machine(port, 1, other(run.path.parent), *does)]
    until(lambda: lives(run, 0))
    both[rank].stdin.close()
    (code, _), (theirs, said) = map(ended, both)
    assert (code, theirs) == (130, 130) and "the run is stopped" in said


def test_a_run_that_waits_for_machines_can_be_stopped(run, port):
    process = machine(port, 0, first_of(run))
    until(lambda: any(event.get("stage") for event in run.events.read()))
    run.command("stop")
    assert ended(process)[0] == 130 and run.state()["status"] == "stopped"


def test_a_machine_without_the_run_refuses_and_says_where_it_looked(run, port, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    both = [machine(port, 0, first_of(run)), machine(port, 1, other(tmp_path / "elsewhere"))]
    (code, _), (theirs, said) = map(ended, both)
    assert (code, theirs) == (1, 1)
    sentence = f"runs_dir: machine 2 finds no run {run.id} in {tmp_path / 'elsewhere'}."
    assert sentence in said and sentence in error_of(run)


def test_a_machine_that_was_given_other_settings_refuses(run, port):
    config = {**run.config.as_dict(), "learning_rate": 0.5}
    both = [machine(port, 0, first_of(run)), machine(port, 1, other(run.path.parent), config=config)]
    (code, _), (theirs, said) = map(ended, both)
    assert (code, theirs) == (1, 1)
    assert "learning_rate: machine 2 was given another learning_rate than the run" in said
    assert "machine 2 was given another learning_rate" in error_of(run)


def test_machines_that_do_not_fit_together_are_refused_and_the_run_waits_on(run, port):
    first = machine(port, 0, first_of(run), "done", "done")
    another = run_folder.create(run.path.parent, RunConfig(name="another"))
    for words, options, sentence in (
        (other(run.path.parent), {"count": 3}, "waits for 2 machines in all, this one for 3"),
        (first_of(another), {}, f"trains the run {run.id}, this one is to train {another.id}"),
    ):
        code, said = ended(machine(port, 1, words, "done", "done", **options))
        assert code == 1 and sentence in said, said
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        time.sleep(0.3)
    assert ended(machine(port, 1, other(run.path.parent), "done", "done"))[0] == 0
    assert ended(first)[0] == 0


def test_a_port_that_is_taken_is_named(run, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert ended(machine(port, 0, first_of(run)))[0] == 1
    assert f"main_address: cannot listen at 127.0.0.1:{port}" in error_of(run)


def test_nobody_is_waited_for_for_ever(run, port, monkeypatch, tmp_path):
    monkeypatch.setattr(machines, "PATIENCE", 0.3)
    place = machines.Place(3, 0, "127.0.0.1", port, 1)
    with pytest.raises(machines.UserError, match=r"1, 2 did not come within 0 minutes"):
        machines.Meeting(place, {"run": "x"}, lambda: False).hold(lambda there: None)
    with pytest.raises(machines.UserError, match="nobody answered at 127"):
        machines.go_to(place, {"processes": 1, "run": None}, lambda: False, lambda: None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_the_interface_to_this_machine_is_its_loopback():
    assert machines.interface_to("127.0.0.1", 1) == "lo" and machines.interface_to("nowhere.invalid", 1) == ""
