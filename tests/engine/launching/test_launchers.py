"""`train` started by what people have: torchrun, accelerate launch, and srun of Slurm, played by its variables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreambooth_ext.core.runs import run_list
from dreambooth_ext.core.runs.run_folder import Run
from tests import training
from tests.commands.test_cli import REPOSITORY, needs_environment
from tests.engine.launching.test_together import workers
from tests.engine.launching.test_two_machines import free_address, options, steps
from tests.training import Trainer
from tests.waiting import until

pytestmark = [needs_environment, pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "bf16", "--dynamo_backend", "no", "--main_process_port"]


def begin(launcher: list[str], *words: object, **variables: str) -> subprocess.Popen:
    module = [*launcher, "dreambooth_ext"] if launcher else ["dreambooth_ext"]
    return subprocess.Popen(
        [sys.executable, "-m", *module, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", **variables},
        start_new_session=True,
    )


def ended(process: subprocess.Popen, seconds: float = 150) -> tuple[int, str]:
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def train(tmp_path: Path, **settings: object) -> list[object]:
    return ["train", "--runs-dir", tmp_path / "runs", *options(Trainer(tmp_path), **settings)]


def only_run(tmp_path: Path) -> Run:
    (run,) = run_list.list_runs(tmp_path / "runs")
    return run


def test_torchrun_starts_one_run(tmp_path):
    code, said = ended(begin(TORCHRUN, *train(tmp_path, max_train_steps=2)))
    assert code == 0, said
    assert training.trainer_state(only_run(tmp_path))["batches"] == 4


@pytest.mark.slow
def test_accelerate_launch_starts_one_run_and_is_refused_by_name_where_it_splits_the_model(tmp_path):
    words = train(tmp_path, max_train_steps=2)
    launcher = [*ACCELERATE, free_address().rpartition(":")[2]]
    code, said = ended(begin([*launcher, "-m"], *words))
    assert code == 0, said
    assert training.trainer_state(only_run(tmp_path))["batches"] == 4
    code, said = ended(begin([*launcher, "-m"], *words, ACCELERATE_USE_FSDP="true"))
    assert code != 0 and "accelerate is configured for FSDP" in said
    only_run(tmp_path)  # no other was made


@pytest.mark.slow
def test_torchrun_is_stopped_by_a_signal_and_a_killed_worker_ends_it(tmp_path):
    words = train(tmp_path, max_train_steps=100000)
    launcher = begin(TORCHRUN, *words)
    until(lambda: steps(tmp_path / "runs") >= 2 or launcher.poll() is not None, 120)
    run = only_run(tmp_path)
    os.kill(workers(run)[1], signal.SIGKILL)
    killed = time.monotonic()
    code, said = ended(launcher)
    assert code != 0 and time.monotonic() - killed < 15 and not workers(run)
    assert "process 2 of 2 ended without a word" in said
    launcher = begin(TORCHRUN, "resume", run.path)
    until(lambda: bool(workers(run)) and run.state()["status"] == "training", 120)
    launcher.send_signal(signal.SIGTERM)
    ended(launcher)
    assert run.state()["status"] == "stopped" and not workers(run)


@pytest.mark.slow
def test_tasks_of_srun_train_one_run(tmp_path):
    address, words = free_address(), train(tmp_path, max_train_steps=2)
    slurm = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}
    both = [
        begin([], *words, "--main-address", address, **slurm, SLURM_PROCID=str(n), SLURM_LOCALID=str(n)) for n in (0, 1)
    ]
    for code, said in map(ended, both):
        assert code == 0, said
    assert training.trainer_state(only_run(tmp_path))["batches"] == 4
