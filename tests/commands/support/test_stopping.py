"""`runs stop`: from another terminal, whatever the run's worker does and whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from dreambooth_ext import __main__
from dreambooth_ext.commands.support import delivery, stopping
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import job_options, run_folder
from dreambooth_ext.core.runs.job_options import JobOptions
from dreambooth_ext.host.jobs.queue import Queue, status_of
from tests.host.jobs.test_dispatcher import SCRIPT, alive, ended, place, said  # noqa: F401
from tests.waiting import until

posix = pytest.mark.skipif(os.name == "nt", reason="signals")


def call(place, capsys, *argv: object) -> tuple[int, str]:  # noqa: F811
    """(exit status, what was said)"""
    code = __main__.main(["runs", *map(str, argv), "--runs-dir", str(place.runs)])
    return code, "".join(capsys.readouterr())


@pytest.fixture
def started(place):  # noqa: F811
    """Make a run, and let a worker begin it as a terminal does that publishes nothing."""
    workers = []

    def start(name: str = "cat", wanted: JobOptions | None = None, steps: int = 500) -> run_folder.Run:
        config = RunConfig(name=name, device="cpu", max_train_steps=steps)
        run = run_folder.create(place.runs, config, wanted and wanted.as_dict())
        workers.append(subprocess.Popen([sys.executable, SCRIPT, run.path], env=place.environment.variables({})))
        until(lambda: alive(run) or run.last_word() or status_of(run) == "done")
        return run

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()


def test_a_run_that_trains_saves_and_stops(place, started, capsys):  # noqa: F811
    run = started()
    code, told = call(place, capsys, "delete", "cat")
    assert code == 1 and f"runs stop {run.path}" in told
    code, told = call(place, capsys, "stop", "cat")
    assert code == 0 and "its training state is saved" in told and f"{run.id} is stopped, at step" in told
    assert status_of(run) == "stopped" and not run.artifact_events()
    code, told = call(place, capsys, "stop", "cat")
    assert code == 1 and "neither waiting nor training" in told
    assert call(place, capsys, "delete", "cat")[0] == 0 and not run.path.exists()


def test_with_a_model(place, started, capsys):  # noqa: F811
    """It is published where the run's user said, though the terminal is gone."""
    run = started(wanted=delivery.wished({"checkpoint": str(place.folder / "named")}, intermediate=False))
    code, told = call(place, capsys, "stop", "cat", "--save")
    (model,) = (place.folder / "named").glob("*.safetensors")
    assert code == 0 and f"published {model}" in told and "is stopped" in told
    assert status_of(run) == "stopped" and job_options.read(run).settled


@posix
def test_a_worker_that_is_paused_is_told_and_killed(place, started, capsys, monkeypatch):  # noqa: F811
    run = started()
    os.kill(run.state()["pid"], signal.SIGSTOP)
    monkeypatch.setattr(stopping.Patience, "silent", 0.5)
    code, told = call(place, capsys, "stop", "cat")
    assert code == 3 and "it is paused or hangs" in told and f"runs stop {run.path} --kill" in told
    code, told = call(place, capsys, "stop", "cat", "--kill")
    assert code == 0 and "is stopped, at step" in told and not run.is_held()
    assert status_of(run) == said(run, "status")[-1]["status"] == "stopped"
    code, told = call(place, capsys, "stop", "cat", "--kill")
    assert code == 1 and "no worker on this machine. There is nothing to end" in told


@pytest.mark.parametrize("status", ["queued", "training", "done", "stopped", "failed"])
def test_a_worker_is_killed_whatever_the_status_says(place, started, capsys, status):  # noqa: F811
    run = started("lingers", steps=1)
    until(lambda: status_of(run) == "done")
    run.write_state(status=status)
    code, told = call(place, capsys, "stop", "lingers", "--kill")
    assert code == 0 and not run.is_held() and f"is {status if status in ('done', 'failed') else 'stopped'}" in told


def test_a_worker_that_has_said_its_last_word_and_hangs_is_ended(place, started, capsys):  # noqa: F811
    run = started("lingers", steps=1)
    until(lambda: status_of(run) == "done")
    assert call(place, capsys, "stop", "lingers")[0] == 0 and not run.is_held() and status_of(run) == "done"


def test_a_run_that_waits_leaves_the_queue(place, capsys):  # noqa: F811
    run = place.submit(place.dispatcher(start=False))
    code, told = call(place, capsys, "stop", "last")
    assert code == 0 and "has left the queue" in told
    assert Queue(place.runs).ids() == [] and status_of(run) == "stopped"


@pytest.mark.parametrize("how", ["--save", "--kill"])
def test_a_run_of_a_webui_is_stopped_and_that_tells_how_it_ended(place, capsys, how):  # noqa: F811
    run = place.submit(place.dispatcher(), steps=500)
    until(lambda: alive(run))
    code, told = call(place, capsys, "stop", "cat", how)
    status = "stopped" if how == "--save" else "failed"
    assert code == 0 and f"{run.id} is {status}, at step" in told
    ended(run, status)
    assert len(place.names()) == (how == "--save")


def test_a_run_of_a_webui_that_is_gone(place, capsys):  # noqa: F811
    """The model is left to the next WebUI, and so is how it ended; without one, the command line says so."""
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, steps=500)
    until(lambda: alive(run))
    dispatcher.close()
    code, told = call(place, capsys, "stop", "cat", "--save")
    assert code == 0 and "its models are published when the WebUI starts, or by resume" in told
    code, told = call(place, capsys, "show", "cat")
    assert code == 0 and "owes " in told and "saving, step" in told
    dispatcher.start()
    ended(run, "stopped")
    time.sleep(0.1)
    code, told = call(place, capsys, "show", "cat")
    assert "owes " not in told and "stopped, step" in told


def test_a_run_of_another_machine(place, capsys):  # noqa: F811
    run = run_folder.create(place.runs, RunConfig(name="cat"))
    run.write_state(status="training", host="elsewhere", pid=7, heartbeat=time.time())
    code, told = call(place, capsys, "stop", "cat", "--kill")
    assert code == 1 and "End process 7 on elsewhere." in told


@pytest.mark.parametrize(
    ("argv", "code", "part"),
    [
        (["stop"], 1, "no run is named"),
        (["stop", "no such run"], 1, "there is no run"),
        (["delete", "x", "--kill"], 1, "Use them with: python -m dreambooth_ext runs stop RUN"),
        (["stop", "x", "--save", "--kill"], 2, "not allowed with"),
    ],
)
def test_wrong_ways_to_say_it(place, capsys, argv, code, part):  # noqa: F811
    try:
        ended_with, told = call(place, capsys, *argv)
    except SystemExit as usage:
        ended_with, told = usage.code, "".join(capsys.readouterr())
    assert ended_with == code and part in told
