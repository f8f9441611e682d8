"""Real processes on a real run: killed for real, and gone on with another number of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreambooth_ext.__main__ import main
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import run_folder, run_list
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.launching import member
from tests import training
from tests.commands import test_cli
from tests.commands.test_cli import needs_environment
from tests.training import Trainer
from tests.waiting import until


def start(run: Run, count: int = 2, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dreambooth_ext.engine.launching.launcher", str(run.path), f"--processes={count}"]
    with (run.path / "log.txt").open("ab") as stream:
        return subprocess.Popen(
            command,
            cwd=training.REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def workers(run: Run) -> dict[int, int]:
    """The pids of a run's workers, by rank (Linux)."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            places = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(member.WORKER) in words and os.fsencode(run.path) in words:
            found[next(int(place[5:]) for place in places if place.startswith(b"RANK="))] = int(path.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_process_that_is_killed_ends_all_and_loses_no_step(tmp_path):
    run = Trainer(tmp_path).create(max_train_steps=400)
    launcher = start(run)
    until(lambda: len(training.losses(run)) >= 3, 120)
    os.kill(workers(run)[1], signal.SIGKILL)
    killed = time.monotonic()
    assert launcher.wait(30) == worker.FAILED
    assert time.monotonic() - killed < 10 and not workers(run)
    message = run.state()["problem"]["message"]
    assert "process 2 of 2 ended without a word: it was killed" in message, training.log(run)
    steps = training.newest(run).step
    assert 3 <= steps == len(training.losses(run)) == run.state()["step"]
    assert training.go_on(run, total=steps + 1) == worker.DONE


@needs_environment
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_command_line_trains_with_two_processes_and_goes_on_with_one(tmp_path):
    """It takes commands, stops at Ctrl-C, and tells all once."""
    trainer = Trainer(tmp_path)
    folder = tmp_path / "runs"
    argv = ["--runs-dir", folder]
    settings = {**trainer.settings, "max_train_steps": 100000, "processes": 2, "validation_prompts": "sksper"}
    settings |= {"validation_inference_steps": 1, "validation_steps": 0}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if value is not None]
    process = test_cli.start("train", *given, *argv, start_new_session=True)
    try:
        until(lambda: known_steps(folder) or process.poll() is not None, 150)
        assert process.poll() is None, process.communicate()
        run = run_list.list_runs(folder)[0]
        run.command("sample")
        run.command("save")
        until(lambda: training.events(run, "sample") and training.events(run, "artifact"), 60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err and "stopping after this step" in err, err
    assert err.count("encoding captions") <= 2 and not workers(run)
    step = run.state()["step"]
    assert training.newest(run).step == step
    assert training.trainer_state(run)["batches"] == 2 * step
    status, _, err = test_cli.call("resume", run.path, "--processes", 1, "--max-train-steps", step + 2)
    assert status == 0, err
    assert training.trainer_state(run)["batches"] == 2 * step + 2


def known_steps(folder: Path) -> bool:
    return any(run.state()["step"] >= 2 for run in run_list.list_runs(folder))


@pytest.mark.parametrize("wrong", ["0", "-1", "abc", "65", "1.5"])
def test_a_wrong_number_of_processes_is_refused_by_a_sentence(wrong, tmp_path, capsys):
    assert main(["train", f"--processes={wrong}", "--runs-dir", str(tmp_path / "runs")]) == 1
    assert "error: processes: " in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_run_is_not_resumed_with_a_wrong_number_of_processes(tmp_path, capsys):
    run = run_folder.create(tmp_path, RunConfig(name="mine"))
    assert main(["resume", str(run.path), "--processes", "0"]) == 1
    assert "error: processes: 0 is out of range. Use 1 to 64." in capsys.readouterr().err
