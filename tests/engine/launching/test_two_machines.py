"""Two machines on one run, by the commands that people give: as two groups of processes on 127.0.0.1, and in two
network namespaces of Linux, between which a cable can be cut."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreambooth_ext.core.runs import run_list
from tests import tiny, training
from tests.commands.test_cli import REPOSITORY, needs_environment
from tests.engine.launching.test_together import workers
from tests.training import Trainer
from tests.waiting import until

pytestmark = [needs_environment, pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")]


def command(before: list[str], rank: int, address: str, *words: object) -> subprocess.Popen:
    several = ("--machines", 2, "--machine-rank", rank, "--main-address", address)
    return subprocess.Popen(
        [*before, sys.executable, "-m", "dreambooth_ext", *map(str, (*words, *several))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def options(trainer: Trainer, **settings: object) -> list[str]:
    given = {**trainer.settings, **settings}
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]


def ended(process: subprocess.Popen, seconds: float = 120) -> tuple[int, str]:
    said, _ = process.communicate(timeout=seconds)
    assert "Traceback" not in said, said
    return process.returncode, said


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_machines_share_a_folder_and_go_on_with_a_copied_one(tmp_path):
    trainer, runs, theirs = Trainer(tmp_path), tmp_path / "runs", tmp_path / "the other machine's"
    settings = {"max_train_steps": 2, "processes": 1, "text_encoder_steps": 3}  # at whose end a file is written
    words = ["train", "--runs-dir", runs, *options(trainer, **settings)]
    address = free_address()
    (code, said), (other, heard) = map(ended, [command([], rank, address, *words) for rank in (0, 1)])
    assert (code, other) == (0, 0), said + heard
    run = run_list.list_runs(runs)[0]
    assert len(run_list.list_runs(runs)) == 1 and f"found in {runs}" in heard
    assert training.trainer_state(run)["batches"] == 4  # two steps of two processes
    shutil.copytree(run.path, theirs / run.id)
    before = content(theirs)
    address = free_address()
    both = [
        command([], rank, address, "resume", path, "--max-train-steps", 4)
        for rank, path in enumerate((run.path, theirs / run.id))
    ]
    (code, said), (other, heard) = map(ended, both)
    assert (code, other) == (0, 0), said + heard
    assert training.newest(run).step == 4 and content(theirs / run.id) == {
        name.partition("/")[2]: data for name, data in before.items()
    }  # only the first machine writes
    both = [
        command([], rank, address, "resume", path, "--max-train-steps", 5)
        for rank, path in enumerate((run.path, theirs / run.id))
    ]
    (code, said), (other, heard) = map(ended, both)  # the copy has not gone on
    assert (code, other) == (1, 1), said + heard
    sentence = f"process 2 would go on from step 2 of {theirs / run.id}, the first one from step 4."
    assert sentence in said and sentence in heard
    assert run.state()["status"] == "done"  # as before


# --- network namespaces


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def cable() -> Iterator[list[list[str]]]:
    """What starts a program on the first machine, 10.203.77.1, and on the second, 10.203.77.2."""
    names = [f"dbx{os.getpid()}{letter}" for letter in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "dbxa", "netns", names[0], "type", "veth", "peer", "name", "dbxb", "netns", names[1])
        for number, (name, end) in enumerate(zip(names, ("dbxa", "dbxb"), strict=True), 1):
            ip("-n", name, "address", "add", f"10.203.77.{number}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError):
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        pytest.skip("network namespaces need Linux, iproute2 and root")
    try:
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.mark.slow
def test_two_machines_train_together_until_the_cable_is_cut(tmp_path, cable):
    trainer, runs = Trainer(tmp_path), tmp_path / "runs"
    words = ["train", "--runs-dir", runs, *options(trainer, max_train_steps=3, processes=2)]
    both = [command(before, rank, "10.203.77.1:29600", *words) for rank, before in enumerate(cable)]
    (code, said), (other, heard) = map(ended, both)
    assert (code, other) == (0, 0), said + heard
    run = run_list.list_runs(runs)[0]
    assert training.trainer_state(run)["batches"] == 12  # three steps of four processes

    words = ["resume", run.path, "--max-train-steps", 100000]
    both = [command(before, rank, "10.203.77.1:29600", *words) for rank, before in enumerate(cable)]
    until(lambda: len(training.losses(run)) >= 6 or both[0].poll() is not None, 120)
    assert both[0].poll() is None, ended(both[0])
    ip("-n", cable[1][-1], "link", "set", "dbxb", "down")
    cut = time.monotonic()
    (code, said), (other, heard) = map(ended, both)
    assert time.monotonic() - cut < 20 and not workers(run)
    assert (code, other) == (3, 3), said + heard
    assert "machine 2 (--machine-rank 1) is gone" in said and "machine 1 (--machine-rank 0) is gone" in heard


@pytest.mark.slow
def test_a_machine_that_is_killed_costs_no_step(tmp_path, cable):
    trainer, runs = Trainer(tmp_path), tmp_path / "runs"
    words = ["train", "--runs-dir", runs, *options(trainer, max_train_steps=100000, processes=1)]
    both = [command(before, rank, "10.203.77.1:29600", *words) for rank, before in enumerate(cable)]
    until(lambda: steps(runs) >= 3 or both[0].poll() is not None, 120)
    run = run_list.list_runs(runs)[0]
    os.kill(workers(run)[1], signal.SIGKILL)
    killed = time.monotonic()
    (code, said), (other, _) = map(ended, both)
    assert time.monotonic() - killed < 10 and not workers(run)
    assert code == other == 3 and "process 2 of 2 ended without a word: it was killed" in said
    assert training.newest(run).step == len(training.losses(run))


def steps(runs: Path) -> int:
    return max((len(training.losses(run)) for run in run_list.list_runs(runs)), default=0)


# --- machines whose files differ


def elsewhere(shown: Path, instead: Path) -> list[str]:
    """What starts a program that sees something else under a path, as on another machine."""
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(instead), str(shown)]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts of its own need Linux and root")
    return command


@pytest.mark.slow
@pytest.mark.parametrize("what", ["pictures", "base", "settings"])
def test_a_machine_with_other_files_is_refused_by_what_differs(tmp_path, what):
    trainer, runs = Trainer(tmp_path), tmp_path / "runs"
    words = ["train", "--runs-dir", runs, *options(trainer, max_train_steps=2)]
    pictures, base, other = Path(trainer.settings["instance_data_dir"]), trainer.base, tmp_path / "other"
    if what == "pictures":
        shutil.copytree(pictures, other)
        training.draw(next(other.glob("*.png")), 77)
        before, sentence = elsewhere(pictures, other), "instance_data_dir: "
    elif what == "base":
        other.mkdir()
        before = elsewhere(base, tiny.single_file(other, "sd1", seed=5))
        sentence = "base_model: process 2 opens another base than the first one."
    else:
        before, sentence = [], "learning_rate: machine 2 (--machine-rank 1) was given learning_rate 0.002, the run "
    address = free_address()
    theirs = [*words, "--learning-rate=0.002"] if what == "settings" else words
    both = [command([], 0, address, *words), command(before, 1, address, *theirs)]
    (code, said), (their_code, heard) = map(ended, both)
    assert (code, their_code) == (1, 1), said + heard
    assert sentence in said and sentence in heard, said + heard
    assert run_list.list_runs(runs) == []  # refused before it trained
