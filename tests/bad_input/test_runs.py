"""Damaged and unknown runs: told as such, and no other is hidden or lost."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from dreambooth_ext.commands import resume
from dreambooth_ext.commands import runs as runs_command
from dreambooth_ext.commands.support import run_output
from dreambooth_ext.commands.support.exit_status import FAILED
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import event_text, run_folder, run_list
from dreambooth_ext.core.system import files
from dreambooth_ext.core.system.terminal import Progress
from dreambooth_ext.host.jobs import worker_process


def made_run(folder: Path) -> run_folder.Run:
    return run_folder.create(folder, RunConfig(name="mine", max_train_steps=10))


DAMAGE = [("state.json", text) for text in ("", "hi", "[]", "{}", "\0\1")]
DAMAGE += [("config.json", text) for text in ("", "[]", '{"name": "mi', '{"xyzzy": 1}', None)]


@pytest.mark.parametrize(("file", "content"), DAMAGE, ids=lambda value: repr(value)[:20])
def test_a_damaged_run_is_listed_as_such_and_hides_no_other(tmp_path, capsys, file, content):
    damaged, sound = made_run(tmp_path), made_run(tmp_path)
    if content is None:
        (damaged.path / file).unlink()
    else:
        (damaged.path / file).write_text(content, encoding="utf-8")
    parser = argparse.ArgumentParser()
    runs_command.add_arguments(parser)
    for argv in (["list"], ["show", str(damaged.path)]):
        assert runs_command.run(parser.parse_args([*argv, "--runs-dir", str(tmp_path)])) == 0
        assert "damaged" in capsys.readouterr().out
    assert runs_command.run(parser.parse_args(["list", "--json", "--runs-dir", str(tmp_path)])) == 0
    listed = {item["id"]: item for item in json.loads(capsys.readouterr().out)}
    assert listed[damaged.id]["status"] == "damaged" and listed[damaged.id]["problem"]["remedy"]
    assert listed[sound.id]["status"] == "queued"


def test_unknown_runs(tmp_path):
    first, _ = made_run(tmp_path), made_run(tmp_path)
    for name, part in {"nobody": "there is no run", "20": "matches 2 runs", "..": "there is no run"}.items():
        with pytest.raises(UserError) as caught:
            run_list.find(tmp_path, name)
        assert caught.value.problem.field == "run" and part in caught.value.problem.message.lower()
    assert run_list.find(tmp_path, str(first.path)) == first


def test_a_living_run_cannot_be_deleted(tmp_path):
    run = made_run(tmp_path)
    with run.take(), pytest.raises(UserError) as caught:
        run.delete()
    assert caught.value.problem.field == "run" and "still training" in caught.value.problem.message
    assert run.path.exists()


def test_a_run_is_deleted_whole_or_not_at_all(tmp_path, monkeypatch):
    run, other = made_run(tmp_path), made_run(tmp_path)
    with monkeypatch.context() as patched:  # the machine goes down in the middle of it
        patched.setattr("shutil.rmtree", lambda path, **_: None)
        run.delete()
    assert [it.id for it in run_list.list_runs(tmp_path)] == [other.id]
    assert len(list(tmp_path.glob(f"{files.TEMPORARY}*"))) == 1
    other.delete()
    assert not list(tmp_path.glob(f"{files.TEMPORARY}*")) and not run_list.list_runs(tmp_path)


def test_deleting_needs_a_name(tmp_path):
    parser = argparse.ArgumentParser()
    runs_command.add_arguments(parser)
    made_run(tmp_path)
    with pytest.raises(UserError) as caught:
        runs_command.run(parser.parse_args(["delete", "--runs-dir", str(tmp_path)]))
    assert caught.value.problem.field == "run" and "no run is named" in caught.value.problem.message
    assert len(run_list.list_runs(tmp_path)) == 1


def test_the_follower_shows_what_is_wrong(tmp_path, capsys):
    follower = run_output.Follower(made_run(tmp_path), None, None)
    follower.show({"type": "error", "field": "device", "what": "'cuda' is not here.", "remedy": "Use cpu."})
    assert capsys.readouterr().err == "error: device: 'cuda' is not here. Use cpu.\n"


def test_the_follower_tells_how_long_is_waited_and_no_time_that_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Progress, "LEAST", 0.0)
    follower = run_output.Follower(made_run(tmp_path), None, None)
    waiting = {"type": "status", "status": "queued", "stage": "waiting for the other machines", "done": 1, "of": 2}
    follower.show({**waiting, "minutes": 30})
    line = capsys.readouterr().err
    assert "1/2" in line and "for 30 minutes more at most" in line and " left" not in line and "each" not in line
    assert event_text.told({**waiting, "minutes": 30}).endswith("1/2, for 30 minutes more at most")


def test_the_follower_tells_one_time_that_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Progress, "LEAST", 0.0)
    follower = run_output.Follower(made_run(tmp_path), None, None)
    step = {"type": "step", "step": 4, "total": 9, "loss": 0.5, "lr": {"unet": 1e-6}, "memory": {"peak": 0}}
    follower.show({**step, "eta_s": 55.0})
    line = capsys.readouterr().err
    assert line.count(" left") == 1 and "to go" not in line and "loss 0.5000" in line
    assert event_text.told({**step, "eta_s": 55.0}).endswith(", 0:55 left")  # the log's, which has no bar


def test_how_to_go_on_can_be_copied_into_the_terminal(tmp_path, monkeypatch):
    run = made_run(tmp_path / "my runs")
    monkeypatch.chdir(tmp_path)
    told = run_output.onward(run_folder.Run(run.path.relative_to(tmp_path)))
    written = f'"{run.path}"' if os.name == "nt" else f"'{run.path}'"
    assert told == f"Go on with: python -m dreambooth_ext resume {written}"


def test_a_failed_run_that_left_a_state_says_where_it_is(tmp_path, capsys):
    run = made_run(tmp_path)
    follower = run_output.Follower(run, None, None)
    follower.refused = True  # its worker has said what is wrong
    assert follower._ending(FAILED) == FAILED and capsys.readouterr().err == ""
    (run.checkpoints / "4").mkdir(parents=True)
    assert follower._ending(FAILED) == FAILED and run_output.onward(run) in capsys.readouterr().err


def test_a_run_that_goes_on_may_be_shared_in_another_way(tmp_path, monkeypatch):
    run, asked = made_run(tmp_path), []
    monkeypatch.setattr(worker_process.subprocess, "Popen", lambda words, **options: asked.append(words))
    environment = SimpleNamespace(command=list, variables=dict)
    worker_process.start(run, environment, distribution="ddp", processes=2)
    worker_process.start(run, environment, distribution="fsdp", processes=1)
    worker_process.start(run, environment)
    assert [words[words.index("--distribution") + 1] for words in asked[:2]] == ["ddp", "fsdp"]
    assert "--distribution" not in asked[2]
    parser = argparse.ArgumentParser()
    resume.add_arguments(parser)
    given = parser.parse_args([str(run.path), "--distribution", "fsdp"])
    monkeypatch.setattr(resume.Environment, "ensure", lambda self: None)
    monkeypatch.setattr(resume.Follower, "train", lambda follower, total: asked.append(follower.distribution) or 0)
    assert resume.run(given) == 0 and asked[-1] == "fsdp"
