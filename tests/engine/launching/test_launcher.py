"""The launcher of several processes: they start, end, stop and fail as one, however that comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine.launching import launch as launch_module
from dreambooth_ext.engine.launching import member
from tests import training
from tests.waiting import until

PLAYED = "import sys; from dreambooth_ext.engine.launching import launcher, member; member.WORKER = sys.argv.pop(1)"
PLAYED += "; launcher.end_as(launcher.main())"


def start(run: Run, *does: str, **options) -> subprocess.Popen:
    """The launcher, with processes that pretend."""
    said = {f"DOES_{rank}": what for rank, what in enumerate(does)}
    words = [sys.executable, "-c", PLAYED, "tests.engine.launching.scripted", f"--processes={len(does)}"]
    environment = {**os.environ, **said, "PYTHONPATH": str(training.REPOSITORY), "PYTHONUTF8": "1"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    return subprocess.Popen([*words, str(run.path), *options.pop("more", ())], env=environment, **streams)


def launch(run: Run, *does: str) -> tuple[int, str, float]:
    """(exit status, what it said, seconds)"""
    begun = time.monotonic()
    process = start(run, *does)
    said = "".join(process.communicate(timeout=60))
    assert "Traceback" not in said, said
    assert not [rank for rank in range(len(does)) if lives(run, rank)]
    return process.returncode, said, time.monotonic() - begun


def lives(run: Run, rank: int) -> bool:
    path = run.path / f"{rank}.pid"
    return path.exists() and is_alive(int(path.read_text() or 0))


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def run(tmp_path) -> Run:
    return run_folder.create(tmp_path / "мои runs", RunConfig(name="mine", max_train_steps=10))


def test_its_exit_status_is_the_first_process_s(run):
    code, said, _ = launch(run, "done", "done")
    assert code == 0 and said.count("a library says something") == 2 and "\x1e" not in said
    assert launch(run, "fails", "hangs")[0] == 1


def test_a_failed_process_is_told_with_its_number_and_its_reason(run):
    """The first one is given the time to save what there is, and says why."""
    code, _, seconds = launch(run, "waits", "hangs", "fails")
    assert code == 1 and seconds < 10
    problem = run.state()["problem"]
    assert problem["message"] == "process 3 of 3 failed: 'cuda:2' is not on this machine."
    assert problem["remedy"] == "Use auto or cpu, or check the card's driver." and problem["field"] == "device"


def test_when_the_first_process_has_ended_in_order_the_others_end_by_themselves(run, monkeypatch):
    """As at a stop while they prepare, in the middle of an exchange."""
    monkeypatch.setattr(member, "WORKER", "tests.engine.launching.scripted")
    monkeypatch.setenv("PYTHONPATH", str(training.REPOSITORY))
    monkeypatch.setenv("DOES_1", "hangs")
    other = member.Member([str(run.path)], rank=1, local=1, here=2, world=2, address=("127.0.0.1", 1))
    try:
        until(lambda: lives(run, 1))
        launch_module.leave([other], 130)
        assert other.code == 130
    finally:
        other.kill()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_who_crashed_is_the_cause_not_who_lost_it(run):
    code, _, seconds = launch(run, "waits", "exchange", "crashes 0.5")
    assert code == 3 and seconds < 10
    message = run.state()["problem"]["message"]
    assert message.startswith("process 3 of 3 ended without a word: a library crashed it") and "SIGSEGV" in message


def test_the_launcher_says_it_when_the_first_process_cannot(run):
    code, said, seconds = launch(run, "hangs", "fails")
    assert code == 1 and seconds < 12
    assert run.state()["status"] == "failed" and "process 2 of 2 failed" in run.state()["problem"]["message"]
    assert [event for event in run.events.read() if event["type"] == "error"] and "process 2 of 2" in said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_a_crash_of_the_first_process_is_its_own(run):
    code, _, _ = launch(run, "crashes", "hangs")
    assert code == -signal.SIGSEGV  # which whoever started the launcher explains


def test_a_command_to_stop_comes_to_the_first_process(run):
    process = start(run, "stopped", "hangs", more=["--tied"])
    until(lambda: lives(run, 0) and lives(run, 1))
    process.stdin.close()  # the terminal is gone
    assert process.wait(30) == 130 and not lives(run, 1)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it(run, how):
    process = start(run, "stopped", "hangs")
    until(lambda: lives(run, 0) and lives(run, 1))
    time.sleep(0.2)
    process.send_signal(how)
    assert process.wait(30) == 130 and not lives(run, 1)


def test_no_process_outlives_a_launcher_that_is_killed(run):
    process = start(run, "hangs", "hangs")
    until(lambda: lives(run, 0) and lives(run, 1))
    process.kill()
    process.wait(10)
    until(lambda: not lives(run, 0) and not lives(run, 1), 5)
