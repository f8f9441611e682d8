"""Killed at any instant, also in the middle of a save: at most the steps since the last state are lost, and no file
that is listed is broken. The machine's power is simulated by file operations that stop at the k-th one, for every k.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pytest
import torch

from dreambooth_ext.core.runs.events import EventReader
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.core.system import files
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.models.architecture import write_clip_folder
from dreambooth_ext.engine.tensors.tensor_file import open_tensors
from dreambooth_ext.engine.training import training_state
from tests import training
from tests.dying import dying
from tests.training import Trainer

SETTINGS = {
    "text_encoder_steps": 5,
    "checkpointing_steps": 1,
    "checkpoints_total_limit": 2,
    "validation_prompts": ["a photo of sksper person"],
    "validation_steps": 3,
    "use_ema": True,
    "ema_decay": 0.9,
}


# --- real processes


@pytest.fixture(scope="module")
def processes():
    """Real processes, from a server that has imported torch already where the system can fork."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(["tests.training"])
    return context


def check_what_is_there(run: Run) -> None:
    """After a kill: the state says so, and all that is listed is whole."""
    assert run.state()["status"] == "failed"
    assert "killed" in run.state()["problem"]["message"]
    for path in run.artifacts.glob("[!.]*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in open_tensors(path).values())
    for event in run.artifact_events():
        assert (run.artifacts / event["file"]).stat().st_size == event["size"]
    for state in training_state.found(run.checkpoints):
        state.trainer()
        assert state.weights().keys() == {"unet", "text_encoder"}
        assert all(len(dict(tensors)) for tensors in state.weights().values())
    numbers = [event["n"] for event in run.events.read()]
    assert numbers == list(range(1, len(numbers) + 1))


def kill_at_random(run: Run, process, dice: random.Random) -> None:
    """During the preparations, or after some events of training: with a save at every step, mostly within one."""
    if dice.random() < 0.15:
        time.sleep(dice.random())
    else:
        reader, wanted = EventReader(run.path / "events.jsonl", from_end=True), dice.randint(1, 12)
        while wanted > 0 and process.is_alive():
            wanted -= sum(event.get("status") != "preparing" for event in reader.new())
            time.sleep(0.002)
        time.sleep(dice.random() * 0.05)
    process.kill()
    process.join()


def survive(trainer: Trainer, processes, kills: int, steps: int, seed: int) -> None:
    settings = {**SETTINGS, "max_train_steps": steps}
    whole = trainer.train(**settings)
    run, dice, killed = trainer.create(**settings), random.Random(seed), 0
    while killed < kills:
        process = processes.Process(target=training.work_in_child, args=(str(run.path),))
        process.start()
        kill_at_random(run, process, dice)
        if process.exitcode == worker.DONE:
            break
        killed += 1
        if run.state()["status"] != "queued":
            check_what_is_there(run)
    assert killed >= kills // 2, training.log(run)
    assert training.go_on(run) == worker.DONE, training.log(run)
    training.assert_same_run(whole, run)
    assert training.difference(training.artifact(whole), training.artifact(run)) == ""
    assert sorted(p.name for p in run.artifacts.iterdir()) == sorted(p.name for p in whole.artifacts.iterdir())
    assert sorted(p.name for p in run.checkpoints.iterdir()) == sorted(p.name for p in whole.checkpoints.iterdir())
    assert list(run.path.rglob(f"{files.TEMPORARY}*")) == []


def test_kills_at_random_instants(shared_trainer, processes):
    survive(shared_trainer, processes, kills=6, steps=12, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_hundreds_of_kills(shared_trainer, processes, seed):
    survive(shared_trainer, processes, kills=20, steps=30, seed=100 + seed)


def test_the_worker_itself_killed_as_the_supervisor_starts_it(shared_trainer, real_starts):
    whole, run = shared_trainer.train(checkpointing_steps=2), shared_trainer.create(checkpointing_steps=2)
    process = training.start(run)
    deadline = time.monotonic() + 120
    while not training.events(run, "checkpoint") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() not in (0, 1, 3), training.log(run)
    assert run.state()["status"] == "failed"
    assert training.go_on(run) == worker.DONE
    training.assert_same_run(whole, run)


# --- every single file operation


@pytest.fixture
def ends(monkeypatch):
    return dying(monkeypatch, (torch, "save"))


def state(step: int) -> tuple[dict, dict]:
    filled = torch.full((7, 3), float(step))
    return {"unet": {"a": filled, "b": filled + 1}, "text_encoder": {"c": filled}}, {"optimizer": {"step": step}}


def loaded_step(folder: Path) -> int:
    """The newest state's step, taken from every file of it."""
    newest = training_state.latest(folder, lambda message: None)
    steps = {int(newest.weights()["unet"]["a"][0, 0]), int(newest.weights()["unet"]["b"][0, 0]) - 1}
    steps |= {int(newest.weights()["text_encoder"]["c"][0, 0]), newest.trainer()["optimizer"]["step"], newest.step}
    assert len(steps) == 1, steps
    return steps.pop()


@pytest.mark.parametrize("limit", [1, None])
def test_a_save_that_dies_at_any_operation(tmp_path, ends, limit):
    died = 0
    for k in range(1000):
        (folder := tmp_path / str(k)).mkdir()
        training_state.save(folder, 1, *state(1), limit)
        if ends(k, training_state.save, folder, 2, *state(2), limit):
            break
        died += 1
        assert loaded_step(folder) in (1, 2)
        assert {path.name for path in folder.iterdir()} <= {"1", "2"}  # `latest` cleaned up
        training_state.save(folder, 3, *state(3), limit)
        assert loaded_step(folder) == 3
        if limit:
            assert [path.name for path in folder.iterdir()] == ["3"]
    assert died > 20
    assert loaded_step(folder) == 2


def test_a_file_that_is_replaced_is_the_old_or_the_new_one_at_any_operation(tmp_path, ends):
    path = tmp_path / "state.json"
    for k in range(100):
        files.write_json(path, {"is": "old"})
        if ends(k, files.write_json, path, {"is": "new"}):
            break
        assert files.read_json(path)["is"] in ("old", "new")
        files.remove_unfinished(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
    assert k > 3


def test_what_a_kill_left_is_removed_from_models_that_are_folders_and_from_folders_beside_them(tmp_path):
    run = Run(tmp_path)
    left = [
        run.artifacts / "taught-clip",
        run.artifacts / "ddpm" / "unet",
        run.checkpoints,
        run.samples / "3",
        run.path,
    ]
    for folder in left:
        files.write_text(folder / "whole", "whole")
        (folder / f"{files.TEMPORARY}1-2-part").write_bytes(b"1")
    worker.remove_unfinished(run)
    assert all([path.name for path in folder.iterdir() if path.is_file()] == ["whole"] for folder in left)


def test_no_file_of_a_clip_folder_is_ever_cut_short(tmp_path, ends):
    config = {"max_position_embeddings": 77, "hidden_size": 32}
    write_clip_folder(config, tmp_path / "whole")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    for k in range(100):
        if ends(k, write_clip_folder, config, tmp_path / str(k)):
            break
        found = (path for path in (tmp_path / str(k)).glob("[!.]*"))
        assert all(path.read_bytes() == whole[path.name] for path in found)
    assert k > 6


def test_an_ordinary_error_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "state.json"
    files.write_json(path, {"is": "old"})
    with pytest.raises(TypeError):
        files.write_json(path, {"is": object()})
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "part").write_bytes(b"1")
        _ = 1 / 0
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_a_removed_folder_is_gone_or_whole_at_any_operation(tmp_path, ends):
    for k in range(100):
        folder = tmp_path / str(k) / "7"
        for name in ("a", "b"):
            files.write_text(folder / name, name)
        if ends(k, files.remove, folder):
            break
        assert not folder.exists() or len(list(folder.iterdir())) == 2
        files.remove_unfinished(folder.parent)
    assert k > 2
