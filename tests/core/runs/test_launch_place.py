"""Which place a command has among several: by options, torch's launcher or Slurm; and what is left over of these."""

from __future__ import annotations

import socket

import pytest

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs.launch_place import BY_SLURM, BY_TORCH, SPLITTING, LaunchPlace, chosen


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    for name in (*BY_TORCH, *BY_SLURM, *SPLITTING, "CUDA_VISIBLE_DEVICES", "SLURM_STEP_TASKS_PER_NODE", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)


def say(monkeypatch, **variables: object) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


# --- options


def test_a_command_by_itself_has_no_place():
    assert chosen(None, None, None) is None and chosen(1, 0, None) is None


def test_options_say_it():
    assert chosen(2, 1, "10.0.0.1:29600") == LaunchPlace(2, 1, "10.0.0.1:29600")
    assert chosen(2, None, "[fe80::1]:1").rank == 0


@pytest.mark.parametrize(
    ("given", "field", "part"),
    [
        ((0, 0, "a:1"), "machines", "0 is out of range. Use 1 to 1024."),
        ((-1, 0, "a:1"), "machines", "-1 is out of range"),
        ((2, 2, "a:1"), "machine_rank", "2 is out of range. Use 0 to 1."),
        ((2, -1, "a:1"), "machine_rank", "-1 is out of range"),
        ((None, 1, "a:1"), "machine_rank", "is for several machines. Add --machines"),
        ((2, 0, None), "main_address", "Add --main-address HOST:PORT"),
        ((2, 0, "a"), "main_address", "a is not an address"),
        ((2, 0, ":29600"), "main_address", "is not an address"),
        ((2, 0, "a:0"), "main_address", "with a port from 1 to 65535"),
        ((2, 0, "a:65536"), "main_address", "is not an address"),
        ((2, 0, "http://a:80"), "main_address", "is not an address"),
    ],
)
def test_wrong_options_are_refused(given, field, part):
    with pytest.raises(UserError) as refused:
        chosen(*given)
    assert refused.value.problem.field == field and part in str(refused.value)


# --- torchrun and accelerate launch


@pytest.fixture
def launcher(monkeypatch):
    """The store of a launcher that lives, and its variables for the third of four processes."""
    with socket.socket() as store:
        store.bind(("127.0.0.1", 0))
        store.listen()
        port = store.getsockname()[1]
        say(monkeypatch, RANK=2, WORLD_SIZE=4, LOCAL_RANK=0, LOCAL_WORLD_SIZE=2, TORCHELASTIC_RUN_ID="x")
        say(monkeypatch, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        yield port


def test_the_place_of_torch_s_launcher_is_taken(launcher):
    assert chosen(None, None, None) == LaunchPlace(4, 2, f"127.0.0.1:{launcher + 1}", 0, 2)
    assert chosen(2, 1, "a:1") == LaunchPlace(2, 1, "a:1")  # options come first


def test_a_launcher_that_has_ended_has_no_effect(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    say(monkeypatch, RANK=0, WORLD_SIZE=4, LOCAL_RANK=0, LOCAL_WORLD_SIZE=2, TORCHELASTIC_RUN_ID="x")
    say(monkeypatch, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    assert chosen(None, None, None) is None


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "MASTER_PORT"])
def test_half_of_its_variables_have_no_effect(launcher, monkeypatch, name):
    monkeypatch.delenv(name)
    assert chosen(None, None, None) is None


@pytest.mark.parametrize("variable", SPLITTING)
def test_accelerate_set_up_to_split_the_model_is_refused_by_name(launcher, monkeypatch, variable):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UserError, match=SPLITTING[variable]):
        chosen(None, None, None)


# --- Slurm


def test_the_place_of_a_task_of_srun_is_taken(monkeypatch):
    say(monkeypatch, SLURM_STEP_ID=0, SLURM_PROCID=5, SLURM_NTASKS=7, SLURM_LOCALID=1)
    say(monkeypatch, SLURM_STEP_TASKS_PER_NODE="2(x3),1", SLURM_NODEID=2)
    assert chosen(None, None, "node1:29600") == LaunchPlace(7, 5, "node1:29600", 1, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")  # --gpus-per-task=1
    assert chosen(None, None, "node1:29600") == LaunchPlace(7, 5, "node1:29600", 0, 1)
    monkeypatch.delenv("SLURM_STEP_TASKS_PER_NODE")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert chosen(None, None, "node1:29600") == LaunchPlace(7, 5, "node1:29600", 1, 2)
    with pytest.raises(UserError, match="Add --main-address"):
        chosen(None, None, None)


def test_a_script_of_sbatch_and_a_shell_in_a_job_are_no_tasks(monkeypatch):
    say(monkeypatch, SLURM_PROCID=0, SLURM_NTASKS=8, SLURM_LOCALID=0)  # sbatch without srun
    assert chosen(None, None, None) is None
    say(monkeypatch, SLURM_STEP_ID=0, SLURM_NTASKS=1)  # srun --pty bash
    assert chosen(None, None, None) is None
