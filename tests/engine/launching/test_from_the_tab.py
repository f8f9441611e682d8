"""A queued run with two processes, as the tab starts it: killed, taken over by the next host, stopped with it."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from dreambooth_ext.core.runs.job_options import JobOptions
from tests import training
from tests.engine.launching.test_together import workers
from tests.host.jobs.test_dispatcher import Place, alive, ended
from tests.training import Trainer
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")]


def test_a_queued_run_of_two_processes(tmp_path):
    config = Trainer(tmp_path).config(max_train_steps=100000, processes=2)
    place = Place(tmp_path / "place", engine=True)
    try:
        first = place.dispatcher()
        run = first.submit(config, JobOptions())
        until(lambda: alive(run), 60)
        os.kill(workers(run)[1], signal.SIGKILL)
        problem = ended(run, "failed", patience=20)["problem"]
        assert "process 2 of 2 ended without a word" in problem["message"] and not workers(run)
        reached = training.newest(run).step

        first.resume(run)
        until(lambda: alive(run) and run.state()["step"] > reached, 60)
        first.kill(run)  # as the tab's button
        problem = ended(run, "failed", patience=20)["problem"]
        assert "You ended the training process" in problem["message"] and not workers(run)

        first.resume(run)
        until(lambda: alive(run) and run.state()["step"] > reached, 60)
        first.close()
        assert len(workers(run)) == 2  # it goes on without a host
        place.host.options["on_close"] = "stop"
        second = place.dispatcher()
        until(lambda: second.running == [run], 20)
        second.kill(run)  # which did not start it, and finds the first process alone
        ended(run, "failed", patience=20)
        until(lambda: not workers(run), 10)

        second.resume(run)
        until(lambda: alive(run) and run.state()["step"] > reached, 60)
        second.close()
        until(lambda: run.state()["status"] == "stopped" and not workers(run), 20)
        assert training.newest(run).step == run.state()["step"]
    finally:
        place.end()
