"""Several machines as several launchers on 127.0.0.1: they meet, or say why not, and end together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import Problem, UserError
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.core.system import message_lines
from dreambooth_ext.engine.launching import launcher, machines
from dreambooth_ext.engine.launching.launch import Help, Launch, Stop
from dreambooth_ext.host.jobs.worker_process import stop_helper
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
    does = ("done", "done", "done")
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
    does = ("waits", "hangs", "fails 0.5")
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
    assert f"machine {rank + 1} (--machine-rank {rank}) is gone" in told


@pytest.mark.slow
def test_a_machine_whose_command_is_killed_fails_the_run(run, port):
    does = ("waits", "hangs")
    both = [machine(port, 0, first_of(run), *does), machine(port, 1, other(run.path.parent), *does)]
    until(lambda: lives(run, 0) and lives(run, 1))
    both[1].stdin.close()  # as the system does for one that is killed
    (code, _), (theirs, said) = map(ended, both)
    sentence = "machine 2 (--machine-rank 1) is gone"
    assert (code, theirs) == (3, 3) and sentence in said and not lives(run, 0) and not lives(run, 1)
    assert run.state()["status"] == "failed" and sentence in run.state()["problem"]["message"]


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stop_on_any_machine_stops_all(run, port, rank):
    does = ("stopped", "done 0.1")
    both = [machine(port, 0, first_of(run), *does), machine(port, 1, other(run.path.parent), *does)]
    until(lambda: lives(run, 0))
    stop_helper(both[rank])
    (code, told), (theirs, said) = map(ended, both)
    assert (code, theirs) == (130, 130) and "the run is stopped" in said
    assert ("machine 2 (--machine-rank 1) asks to stop the run." in told) == (rank == 1)


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
    sentence = f"runs_dir: machine 2 (--machine-rank 1) finds no run {run.id} in {tmp_path / 'elsewhere'}."
    assert sentence in said and sentence in error_of(run)


def test_a_machine_that_was_given_other_settings_refuses(run, port):
    config = {**run.config.as_dict(), "max_train_steps": 20}
    both = [machine(port, 0, first_of(run)), machine(port, 1, other(run.path.parent), config=config)]
    (code, _), (theirs, said) = map(ended, both)
    assert (code, theirs) == (1, 1)
    sentence = f"machine 2 (--machine-rank 1) was given max_train_steps 20, the run {run.id} in "
    assert sentence in said and sentence in error_of(run)


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
        machines.Meeting(place, {"run": "x"}, lambda: False).hold(nothing, nothing)
    with pytest.raises(machines.UserError, match="nobody answered at 127"):
        machines.go_to(place, {"processes": 1, "run": None}, lambda: False, nothing)


def nothing(*about: object) -> None:
    pass


# --- in this process


def unresolved(*about: object, **more: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_name_that_is_not_known_is_said_at_once_and_a_stop_ends_the_asking(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(socket, "create_connection", unresolved)
    words = ["--processes=1", "--machines=2", "--machine-rank=1", "--main-address=nohost.invalid:29600"]
    arguments = launcher.make_parser().parse_args([*words, "--runs-dir", str(tmp_path)])
    stop, given = Stop(), launcher.Input()
    timer = threading.Timer(0.5, stop.ask)
    timer.start()
    assert launcher.help_out(arguments, stop, given) == launcher.STOPPED
    said = capsys.readouterr().err
    assert said.count("the name nohost.invalid is not known here (Name or service not known)") == 1
    assert "machine 2 (--machine-rank 1): asking nohost.invalid:29600" in said
    assert "minutes" not in said and "does not answer" not in said and "stopped, before nohost.invalid:29600" in said


def test_a_machine_that_is_known_but_silent_is_reminded_of_later(monkeypatch, capsys):
    reminder = launcher.Reminder(machines.Place(2, 1, "somewhere", 29600, 1))
    reminder.tell(ConnectionRefusedError())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(launcher, "TELLING", 0.0)
    reminder.tell(ConnectionRefusedError())
    assert "somewhere:29600 does not answer yet" in capsys.readouterr().err


def test_an_address_of_another_machine_is_warned_of(port):
    warned: list[Problem] = []
    machines.listening(machines.Place(2, 0, "127.0.0.1", port, 1), warned.append).close()
    assert not warned
    machines.listening(machines.Place(2, 0, "192.0.2.1", port, 1), warned.append).close()
    assert "main_address: this machine has no address 192.0.2.1; it listens at port" in str(warned[0])


def test_a_name_that_only_this_machine_reaches_is_refused(port, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.1.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **options: found)
    with pytest.raises(UserError) as told:
        machines.listening(machines.Place(2, 0, "studio", port, 1), print)
    assert "main_address: the name studio stands for 127.0.1.1 on this machine" in str(told.value)
    machines.listening(machines.Place(2, 0, "studio", port, 1, is_one_machine=True), print).close()


@pytest.mark.parametrize("is_one_machine", [False, True])
def test_what_is_waited_for_is_told_with_the_minutes_that_are_left_at_most(run, is_one_machine):
    waiting = launcher.Waiting(run, machines.Place(2, 0, "a", 1, 1, is_one_machine))
    waiting.tell(1, 1795.0)
    waiting.tell(1, 1794.0)  # too soon
    (event,) = [event for event in run.events.read() if "minutes" in event]
    who = "processes" if is_one_machine else "machines"
    assert (event["stage"], event["minutes"]) == (f"waiting for the other {who}", 30)


def test_commands_that_a_launcher_started_on_one_machine_are_its_processes():
    words = ["--processes=1", "--machines=2", "--machine-rank=1", "--main-address=localhost:1"]
    names = []
    for more in ([], ["--local=1", "--locals=2"]):
        place = launcher.place_of(launcher.make_parser().parse_args([*words, *more]))
        names.append(place.name_of(place.rank))
    assert names == ["machine 2 (--machine-rank 1)", "process 2 of 2"]


class Heard:
    """A connection that keeps what is told. said: what the other machine said."""

    def __init__(self, **said: object):
        self.said, self.told, self.closed, self.name = said, [], threading.Event(), "machine 2 (--machine-rank 1)"
        self.has_failed = False

    def tell(self, **message: object) -> None:
        self.told.append(message)
        if "failed" in message:
            self.said.update(message)

    def hear(self, *names: str, seconds: float) -> str:
        return next(name for name in names if name in self.said)


def test_a_command_that_ended_without_a_word_is_a_failure_of_its_machine(capsys):
    stop, line = Stop(), Heard()
    stop.is_abandoned = True
    stop.ask()
    assert Help([], 2, stop, line, "machine 2 (--machine-rank 1)").follow() == 3
    (told,) = line.told
    assert "machine 2 (--machine-rank 1) is gone" in told["failed"]["message"] and told["is_exchange"] is False
    assert "Resume the run on all machines." in capsys.readouterr().err


def test_which_machine_asked_to_stop_is_recorded(run):
    line = Heard(stop=True)

    class First:
        failure = None
        codes: ClassVar = [None, 130, 130, 130, 130]

        @property
        def code(self):
            return self.codes.pop(0)

    line.wait = nothing
    assert Launch(run, [First()], 2, Stop(), [line]).follow() == 130
    (warning,) = [event for event in run.events.read() if event["type"] == "warning"]
    assert warning["what"] == "machine 2 (--machine-rank 1) asks to stop the run."


def test_standard_input_that_closes_without_a_word_is_no_wish(monkeypatch):
    for said, is_abandoned in (([{"config": {"rank": 4}, "filled": ["alpha"]}], True), ([{"stop": True}], False)):
        reading, writing = os.pipe()
        os.write(writing, b"".join(map(message_lines.line, said)))
        os.close(writing)
        stop, given = Stop(), launcher.Input()
        with os.fdopen(reading) as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            given.follow(stop)
        assert stop.is_asked() and stop.is_abandoned == is_abandoned
        assert (given.config, given.filled) == (({"rank": 4}, ["alpha"]) if is_abandoned else (None, []))


def test_the_setting_that_was_given_is_named_before_what_follows_from_it(tmp_path):
    run = run_folder.create(tmp_path / "runs", RunConfig(name="mine", rank=16, alpha=16.0, instance_data_dir="/a"))
    given = launcher.Input()
    for changes, filled, sentence in (
        ({"rank": 4, "alpha": 4.0}, ["alpha"], "rank: M was given rank 4, the run "),
        ({"rank": 4, "alpha": 4.0}, ["rank", "alpha"], "rank: M was given rank 4, "),
        ({"rank": 4, "alpha": 4.0}, ["rank"], "alpha: M was given alpha 4, "),
        ({"instance_data_dir": "/b"}, [], "instance_data_dir: M was given another instance_data_dir than"),
    ):
        given.config, given.filled = {**run.config.as_dict(), **changes}, filled
        problem = launcher.objection(run, given, "M")
        assert str(problem).startswith(sentence) and "/b" not in str(problem)
    given.config = run.config.as_dict()
    assert launcher.objection(run, given, "M") is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_the_interface_to_this_machine_is_its_loopback():
    assert machines.interface_to("127.0.0.1", 1) == "lo" and machines.interface_to("nowhere.invalid", 1) == ""
