"""The real command line in processes of its own: exit statuses, help, JSON, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreambooth_ext.__main__ import VERBS, main
from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.runs import run_folder, run_list
from dreambooth_ext.core.system import terminal
from dreambooth_ext.host.environment.environment import Environment

REPOSITORY = Path(__file__).parents[2]
# Verbs that need the trainer's environment would make it, which takes minutes and a network
READY = Environment().status().state == "ready"
needs_environment = pytest.mark.skipif(not READY, reason="the trainer's environment is not ready")


def start(*argv: object, cwd: Path = REPOSITORY, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "dreambooth_ext", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"},
        **options,
    )


def call(*argv: object, cwd: Path = REPOSITORY) -> tuple[int, str, str]:
    """(exit status, stdout, stderr)"""
    process = start(*argv, cwd=cwd)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in out + err, err
    return process.returncode, out, err


@pytest.fixture
def workshop(tmp_path) -> Path:
    """A folder with odd letters: a base, pictures, one of them broken."""
    image = pytest.importorskip("PIL.Image")
    tiny = pytest.importorskip("tests.tiny")
    folder = tmp_path / "Моя папка (写真)"
    folder.mkdir()
    tiny.single_file(folder, name="base")
    (folder / "фото").mkdir()
    for number in range(5):
        image.new("RGB", (64, 64), (50 * number, 0, 0)).save(folder / "фото" / f"sksper ({number}).png")
    (folder / "фото" / "sksper (9).jpg").write_bytes(b"<html>")
    return folder


def options(folder: Path) -> list[str]:
    given = {"name": "x", "base-model": folder / "base.safetensors", "instance-data-dir": folder / "фото"}
    given |= {"instance-prompt": "sksper", "resolution": 64, "max-train-steps": 2, "device": "cpu"}
    return [str(word) for name, value in given.items() for word in (f"--{name}", value)]


# --- without the trainer's environment


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"] if verb else ["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "usage: python -m dreambooth_ext" in said and len(said) > 200
    if verb in ("train", "check"):
        assert all(known.option in said for known in SETTINGS.values())
        assert "Default: 42." in said and "0 to 4294967295." in said
    if not verb:
        assert all(name in said for name in VERBS)


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ([], "required: VERB"),
        (["trian"], "invalid choice: 'trian'"),
        (["check", "--ranks-of", "5"], "unrecognized arguments: --ranks-of 5"),
        (["check", "--learning_rate", "5"], "did you mean --learning-rate?"),
        (["train", "--lerning-rate=5"], "did you mean --learning-rate?"),
        (["train", "--output-dir", ""], "needs a path"),
        (["train", "--seed"], "--seed: expected one argument"),
        (["resume"], "required: RUN"),
        (["resume", "last", "--max-train-steps", "x"], "invalid int value: 'x'"),
        (["runs", "remove"], "invalid choice: 'remove'"),
        (["generate", "--out", "x"], "required: --model"),
        (["generate", "--model", "a", "--prompt", "b", "--out", "c", "--sampler", "x"], "invalid choice: 'x'"),
        (["convert", "a"], "required: DST"),
        (["convert", "a", "b", "--precision", "fp8"], "invalid choice: 'fp8'"),
    ],
)
def test_wrong_usage_ends_with_2(argv, part, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert part in capsys.readouterr().err


def test_unexpected_errors_are_one_line(monkeypatch, capsys):
    for error, part in ((KeyError("x"), "unexpected KeyError: 'x' (test_cli.py, line"), (OSError(28, "full"), "full")):

        def fail(arguments, error=error):
            raise error

        monkeypatch.setattr(VERBS["runs"], "run", fail)
        assert main(["runs"]) == 3
        said = capsys.readouterr().err
        assert part in said and said.count("\n") == 1


def test_runs_and_environment_as_json(tmp_path):
    run = run_folder.create(tmp_path / "run folder", RunConfig(name="mine", max_train_steps=10))
    status, out, err = call("runs", "--json", "--runs-dir", tmp_path / "run folder", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert [(item["id"], item["status"]) for item in json.loads(out)] == [(run.id, "queued")]
    status, out, _ = call("env", "--json")
    assert status in (0, 1) and json.loads(out)["state"] in ("ready", "missing", "outdated", "broken")


def test_runs_are_noted_starred_searched_and_lose_their_states(tmp_path, capsys):
    folder = tmp_path / "runs"
    good = run_folder.create(folder, RunConfig(name="good", base_model="sd15.safetensors", train_batch_size=3))
    other = run_folder.create(folder, RunConfig(name="other"))
    for run in (good, other):
        run.write_state(status="stopped", step=4)
    (good.checkpoints / "weights").write_bytes(bytes(3000))

    def runs(*argv: str) -> str:
        assert main(["runs", *argv, "--runs-dir", str(folder)]) == 0
        return capsys.readouterr().out

    assert "the best" in runs("note", "good", "--text", "the best so far") and "*" in runs("star", "good")
    listed = runs("list", "--search", "BEST sd15", "--sort", "size")
    assert "* the best so far" in listed and other.id not in listed
    assert "3 KB" in runs("delete-states", "good") and not any(good.checkpoints.iterdir())
    shown = runs("show", "good")
    assert "note     the best so far" in shown and "Batch size: 3" in shown
    assert "*" not in runs("unstar", "good")
    for wrong in (["note"], ["star", "good", "--text", "x"], ["delete-states", "good"]):
        assert main(["runs", *wrong, "--runs-dir", str(folder)]) == 1
        assert "error: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["runs", "--sort", "luck", "--runs-dir", str(folder)])


def test_every_problem_of_the_settings_is_printed(tmp_path):
    argv = ["--seed", "x", "--resolution", "100", "--name", "a b", "--instance-data-dir", tmp_path / "none"]
    status, out, err = call("train", *argv, "--runs-dir", tmp_path / "runs")
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1 and out == "" and not (tmp_path / "runs").exists()
    fields = [line.split(": ")[1] for line in lines]
    assert sorted(fields) == ["base_model", "instance_data_dir", "name", "resolution", "seed"]


def test_unknown_runs(tmp_path, capsys):
    for argv in (["resume", "nobody"], ["runs", "show", "nobody"], ["runs", "delete", "nobody"]):
        assert main([*argv, "--runs-dir", str(tmp_path)]) == 1
        assert "error: run: there is no run 'nobody'" in capsys.readouterr().err


# --- with it


@needs_environment
def test_check_as_json_with_everything_wrong_at_once(workshop):
    wrong = ["--mixed-precision", "fp16", "--clip-skip", "9", "--optimizer-args", '{"foo": 1}', "--resolution", "100"]
    argv = ["check", *options(workshop), *wrong, "--runs-dir", workshop / "runs", "--json"]
    status, out, _ = call(*argv, cwd=workshop)
    found = json.loads(out)
    assert status == 1
    assert sorted(p["field"] for p in found["problems"]) == [
        "clip_skip",
        "mixed_precision",
        "optimizer_args",
        "resolution",
    ]
    assert all(problem["message"] and problem["remedy"] for problem in found["problems"])
    assert found["plan"]["pictures"] == 5
    assert any("sksper (9).jpg" in warning for warning in found["warnings"])
    assert not (workshop / "runs").exists()


@needs_environment
def test_a_good_check_and_a_base_that_is_none(workshop):
    status, out, err = call("check", *options(workshop), "--runs-dir", workshop / "runs")
    assert status == 0 and "error:" not in err and "pictures   5" in out
    (workshop / "lora.safetensors").write_bytes(b"<html>")
    argv = [*options(workshop), "--base-model", workshop / "lora.safetensors", "--runs-dir", workshop / "runs"]
    status, out, err = call("train", *argv)
    assert status == 1 and "error: base_model: lora.safetensors is a web page" in err
    assert run_list.list_runs(workshop / "runs") == []


class SeesNothing:
    """Stands in for the look into models, whose process takes six seconds to start."""

    def __init__(self, *anything: object):
        pass

    def inspect(self, config: object) -> dict:
        return {"plan": {}, "problems": [], "warnings": []}

    def close(self) -> None:
        pass


@needs_environment
def test_a_check_says_how_memory_and_time_are_saved(workshop):
    saving = ("--vae-tiling", "on", "--compile", "on", "--weight-precision", "bf16", "--mixed-precision", "bf16")
    status, out, err = call("check", *options(workshop), *saving, "--runs-dir", workshop / "runs")
    assert "precision bf16, weights in bf16, VAE in bands, compiled" in out, (status, out, err)


@needs_environment
def test_check_looks_at_the_place_of_the_model_as_train_does_and_plans_nothing_for_no_pictures(
    workshop, monkeypatch, capsys
):
    argv = [*options(workshop), "--runs-dir", str(workshop / "runs")]
    (workshop / "taken").mkdir()
    (workshop / "taken" / "x.safetensors").write_bytes(b"another's")
    monkeypatch.setattr(VERBS["check"], "DeepCheck", SeesNothing)
    for option, place, said in (
        ("--output-dir", "base.safetensors", "error: output_dir: "),
        ("--webui", "", "error: webui: "),
        ("--output-dir", "taken", "not made by this extension"),
    ):
        assert main(["check", *argv, option, str(workshop / place)]) == 1
        assert said in capsys.readouterr().err
    status, out, err = call("check", *argv, "--instance-data-dir", workshop / "nowhere")
    assert status == 1 and "error: instance_data_dir: " in err and out == ""


@needs_environment
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_picture_whose_name_is_no_text_is_trained_on_all_the_same(workshop):
    pictures = workshop / "фото"
    (pictures / os.fsdecode(b"more\xff")).mkdir()
    os.replace(pictures / "sksper (0).png", pictures / os.fsdecode(b"more\xff/zkz\xff.png"))
    argv = [*options(workshop), "--instance-prompt", "sksper [filewords]", "--method", "lora", "--rank", "2"]
    argv += ["--runs-dir", workshop / "runs"]
    status, out, err = call("check", *argv, "--json")
    assert status == 0 and json.loads(out)["plan"]["pictures"] == 5, err
    status, _, err = call("train", *argv)
    assert status == 0, err
    status, _, err = call("resume", "last", "--max-train-steps", "3", "--runs-dir", workshop / "runs")
    assert status == 0 and "warning: since" not in err, err


FORGED = "evil\x1b[2J\x1b]0;owned\x07\n12:00:00  a forged line\u202e\x9b1m.jpg"  # as a file's name
SHOWN = r"evil\x1b[2J\x1b]0;owned\x07\n12:00:00  a forged line\u202e\u009b1m.jpg"


def assert_plain(text: str) -> None:
    """Nothing in it that a terminal obeys, and no line that a name made."""
    assert not terminal.COMMANDS.search(text.replace("\n", "")), text
    assert not any(line.startswith("12:00:00") for line in text.split("\n")), text


@needs_environment
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_names_command_no_terminal_and_forge_no_line(workshop):
    os.replace(workshop / "фото" / "sksper (9).jpg", workshop / "фото" / FORGED)
    argv = [*options(workshop), "--runs-dir", workshop / "runs"]
    status, out, err = call("check", *argv)
    assert status == 0 and SHOWN in err
    assert_plain(out + err)
    status, out, err = call("check", *argv, "--json")
    assert any(FORGED in warning for warning in json.loads(out)["warnings"])
    prompt = "a photo of sksper\x1b[31m\nerror: a forged line"
    status, out, err = call("train", *argv, "--instance-prompt", prompt, "--output-dir", workshop / "out")
    assert status == 0, err
    log = (run_list.list_runs(workshop / "runs")[0].path / "log.txt").read_text(encoding="utf-8")
    assert SHOWN in err and SHOWN in log
    for text in (out, err, log):
        assert_plain(text)
        assert "error: a forged line" not in text.split("\n")


@needs_environment
def test_generate_and_convert_refuse_in_words(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"")
    status, _, err = call("convert", tmp_path / "a.ckpt", tmp_path / "b.safetensors")
    assert status == 1 and "a.ckpt is empty" in err and not (tmp_path / "b.safetensors").exists()
    argv = ["generate", "--model", tmp_path / "a.ckpt", "--prompt", "x", "--width", "100", "--steps", "0"]
    status, _, err = call(*argv, "--out", tmp_path / "out")
    assert status == 1 and err.count("error: ") == 2 and not (tmp_path / "out").exists()


@needs_environment
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_with_130_and_the_run_goes_on_to_any_step(workshop):
    argv = [*options(workshop), "--max-train-steps", "100000", "--runs-dir", workshop / "runs"]
    process = start("train", *argv, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            known = run_list.list_runs(workshop / "runs")
            if known and known[0].state()["step"] >= 2:
                break
            assert process.poll() is None, process.communicate()
            time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err
    assert "python -m dreambooth_ext resume" in err
    state = run_list.list_runs(workshop / "runs")[0].state()
    assert state["status"] == "stopped"
    shorter = state["step"] + 1
    status, _, err = call("resume", "last", "--max-train-steps", shorter, "--runs-dir", workshop / "runs")
    assert status == 0 and f" now ends at step {shorter} instead of 100000" in err, err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux' device that is always full")
@pytest.mark.parametrize("argv", [["runs", "list"], ["runs", "list", "--json"], ["env", "--status"]])
def test_a_full_standard_output_is_no_fault_of_a_run(argv):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "dreambooth_ext", *argv]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, encoding="utf-8", cwd=REPOSITORY)
    assert ended.returncode == 1
    assert ended.stderr == "error: standard output cannot be written (no space left on device)\n"
