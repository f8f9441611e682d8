"""The report of a run: the same from the API and the command line, with what is needed and nothing private."""

from __future__ import annotations

import json
import sys

import pytest

from dreambooth_ext.__main__ import main, make_parser
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import REPORT
from dreambooth_ext.core.runs import run_folder, run_list
from dreambooth_ext.host.service import report
from tests.host.asking import Asked

ENVIRONMENT = {
    "state": "ready",
    "reason": "",
    "folder": "/webui/extensions/anna_s/environment",
    "kind": "overlay",
    "python_version": [3, 10, 13],
    "torch": "2.1.2+cu121",
    "device": "NVIDIA GeForce RTX 4090, 24 GB, CUDA 12.1",
    "packages": {"diffusers": "0.35.2", "numpy": "1.26.2"},
    "optional": {"xformers": {"reason": "not installed"}},
}


@pytest.fixture
def run(tmp_path):
    """A failed one, of somebody called Anna."""
    base, folder = f"{tmp_path}/Anna's models/sd15.safetensors", f"{tmp_path}/Anna's: own/pictures"
    config = RunConfig(
        name="mine",
        method="lora",
        base_model="https://anna:geheim@example.org/sd15.safetensors?token=geheim",
        network_weights=base,
        instance_data_dir=folder,
        instance_prompt="a photo of sksper person",
        concepts=[{"instance_data_dir": folder, "instance_prompt": "zkz"}],
        learning_rate=2e-4,
        max_train_steps=100,
    )
    made = run_folder.create(Asked(tmp_path).service.runs_dir, config)
    problem = {"field": "", "message": f"unexpected KeyError: '{folder}/1.png'", "remedy": "Please report this."}
    made.write_state(status="failed", step=3, problem=problem, problems=[problem], host="annas-computer")
    lines = [f"line {number}" for number in range(500)]
    lines += ["| Traceback (most recent call last):", f'|   File "{tmp_path}/Anna/loop.py", line 3', "| KeyError: 'é'"]
    lines += [
        "progress 1/3\rprogress 2/3",
        "got HF_TOKEN=hf_geheimgeheimgeheim from https://anna:geheim@h.org/x?token=geheim",
    ]
    (made.path / "log.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


def test_it_holds_what_is_asked_for(run):
    text = report.report(run, ENVIRONMENT, "AUTOMATIC1111 v1.10.1")
    for part in (
        f"DreamBooth extension {report.__version__}, AUTOMATIC1111 v1.10.1",
        f"Python {'.'.join(map(str, sys.version_info[:3]))}",
        "overlay, Python 3.10.13, torch 2.1.2+cu121",
        "diffusers 0.35.2",
        "card: NVIDIA GeForce RTX 4090, 24 GB, CUDA 12.1",
        "not available: xformers (not installed)",
        f"run: failed at step 3 of 100, started with version {report.__version__}",
        "problem: unexpected KeyError: '1.png' Please report this.",
        '"method": "lora"',
        '"learning_rate": 0.0002',
        '"base_model": "https://example.org/sd15.safetensors"',
        '"network_weights": "sd15.safetensors"',
        "|   File \"loop.py\", line 3\n| KeyError: 'é'\nprogress 2/3\n",
    ):
        assert part in text, part
    assert "line 499" in text and "line 300\n" not in text  # the log's end
    assert '"lr_scheduler"' not in text  # as it is by itself


def test_it_holds_nothing_private(run, tmp_path):
    text = report.report(run, ENVIRONMENT, "standalone")
    for private in ("geheim", "nna", str(tmp_path), str(report.REPOSITORY), "/webui", "progress 1/3"):
        assert private not in text, text[max(0, text.index(private) - 80) :][:160]


def test_of_a_damaged_run_it_says_so(run):
    (run.path / "config.json").write_text("{", encoding="utf-8")
    (run.path / "state.json").write_text("[]", encoding="utf-8")
    (run.path / "log.txt").unlink()
    text = report.report(run, {"state": "missing", "reason": "It has not been made yet."}, "standalone")
    assert "its state cannot be read" in text and "config.json cannot be read" in text and "There is no log." in text
    assert "trainer's environment: missing It has not been made yet." in text


def test_many_settings_are_cut_short(run):
    values = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
    values["validation_prompts"] = [f"a photo of sksper person, number {number}" for number in range(5000)]
    (run.path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    text = report.report(run, ENVIRONMENT, "standalone")
    assert len(text) < 60_000  # what an issue takes
    assert "KeyError: 'é'" in text


def test_the_api_and_the_command_line_tell_the_same(run, tmp_path, capsys):
    asked = Asked(tmp_path)
    answer = asked.get(f"runs/{run.id}/report")
    assert answer.status == 200
    assert main(["runs", "report", "mine", "--runs-dir", str(run.path.parent)]) == 0
    printed = capsys.readouterr().out
    assert answer.json()["text"].partition("run: ")[2] == printed.partition("run: ")[2] != ""
    assert main(["runs", "report", "--json", "--runs-dir", str(run.path.parent)]) == 0  # the newest
    assert json.loads(capsys.readouterr().out)["text"] == printed
    assert asked.get("runs/no_such_run/report").status == 404


def test_without_a_run_it_tells_of_the_machine(tmp_path, capsys):
    assert main(["runs", "report", "--runs-dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "DreamBooth extension" in printed and "card: " in printed and "settings" not in printed
    assert main(["runs", "report", "mine", "--runs-dir", str(tmp_path)]) == 1


def test_an_unexpected_error_inside_the_environment_names_it_too(monkeypatch, capsys):
    inside = pytest.importorskip("dreambooth_ext.engine.__main__")
    monkeypatch.setattr(inside, "carried_out", lambda argv: 1 / 0)
    assert inside.main(["generate"]) == 3
    said = capsys.readouterr().err
    assert "| Traceback" in said and "unexpected ZeroDivisionError" in said and said.rstrip().endswith(REPORT)


def test_an_unexpected_error_names_the_command(monkeypatch, capsys):
    monkeypatch.setattr(run_list, "list_runs", lambda folder: 1 / 0)
    assert main(["runs"]) == 3
    assert capsys.readouterr().err.rstrip().endswith(REPORT)
    arguments = make_parser().parse_args(REPORT.partition("-m dreambooth_ext ")[2].split())
    assert (arguments.verb, arguments.action) == ("runs", "report")
