"""Where runs and models go: nothing is made for what is refused, and what is not ours is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreambooth_ext.commands import train
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import run_list
from dreambooth_ext.host.publishing import model_files
from tests.bad_input import sound
from tests.bad_input.verbs import NoTraining, parsed


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    """Call `train` with the good settings and these options: (exit status, what it wrote to stderr)."""
    monkeypatch.setattr(train, "Environment", NoTraining)
    monkeypatch.setattr(train, "Follower", NoTraining)
    (tmp_path / "c.json").write_text(json.dumps(sound.settings(tmp_path)), encoding="utf-8")

    def call(*argv) -> tuple[int, str]:
        given = parsed(train.add_arguments, "--config", tmp_path / "c.json", "--runs-dir", tmp_path / "runs", *argv)
        return train.run(given), capsys.readouterr().err

    return call


def test_a_good_run_is_made(start, tmp_path):
    assert start()[0] == 0
    assert len(run_list.list_runs(tmp_path / "runs")) == 1


def place_rows(folder: Path) -> list[tuple[list, str]]:
    (folder / "file").write_bytes(b"")
    (folder / "empty").mkdir()
    (folder / "else").mkdir()
    (folder / "else" / "notes.txt").write_bytes(b"")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "model.safetensors").write_bytes(b"somebody's")
    (folder / "described").mkdir()
    (folder / "described" / "model.json").write_text('{"description": "mine"}', encoding="utf-8")
    return [
        (["--output-dir", folder / "file"], "error: output_dir: "),
        (["--output-dir", folder / "file" / "below"], "is a file. Give a folder."),
        (["--webui", folder / "else"], "does not look like a WebUI"),
        (["--webui", folder / "none"], "does not look like a WebUI"),
        (["--webui", folder, "--output-dir", folder], "error: output_dir: --webui already names a folder"),
        (["--output-dir", folder / "foreign"], "was not made by this extension. Choose another `name`"),
        (["--output-dir", folder / "described"], "was not made by this extension. Choose another `name`"),
        (["--runs-dir", folder / "file"], "error: runs_dir: "),
        (["--runs-dir", folder / "file" / "below"], "error: runs_dir: "),
        (["--resolution", "100"], "error: resolution: "),
    ]


def test_nothing_is_made_where_input_is_refused(start, tmp_path):
    rows = place_rows(tmp_path)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for argv, part in rows:
        status, said = start(*argv)
        assert status == 1 and part in said and said.count("error:") == 1, (argv, said)
        assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "foreign" / "model.safetensors").read_bytes() == b"somebody's"


def test_a_run_that_its_worker_refuses_leaves_no_folder(start, tmp_path, monkeypatch):
    monkeypatch.setattr(NoTraining, "train", lambda *anything: 1)
    monkeypatch.setattr(NoTraining, "refused", True)
    assert start()[0] == 1
    assert run_list.list_runs(tmp_path / "runs") == []


def test_a_run_whose_worker_ended_without_a_word_stays_with_its_log(start, tmp_path, monkeypatch):
    monkeypatch.setattr(NoTraining, "train", lambda *anything: 1)
    assert start()[0] == 1
    assert len(run_list.list_runs(tmp_path / "runs")) == 1


def test_a_run_that_was_refused_after_training_stays(start, tmp_path, monkeypatch):
    def refuse(follower):
        run_list.list_runs(tmp_path / "runs")[0].write_state(status="failed", step=3)
        return 1

    monkeypatch.setattr(NoTraining, "train", refuse)
    assert start()[0] == 1
    assert len(run_list.list_runs(tmp_path / "runs")) == 1


def test_foreign_models_of_every_kind_are_left_alone(tmp_path):
    for name in ("model.safetensors", "model.ckpt", "model.yaml", "model.preview.png"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError) as caught:
            model_files.check_ours(tmp_path / "model.safetensors")
        assert caught.value.problem.field == "name" and "not made by this extension" in caught.value.problem.message
        (tmp_path / name).unlink()
