"""Models of runs that a terminal trains: they come to the folder that its user named, whoever is killed meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreambooth_ext import __main__
from dreambooth_ext.commands import demo, resume, train
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import job_options, run_folder, run_list
from dreambooth_ext.core.runs.job_options import JobOptions
from dreambooth_ext.host.jobs.queue import status_of
from dreambooth_ext.host.publishing import publisher
from tests.bad_input.sound import settings as good
from tests.host.jobs.test_dispatcher import REPOSITORY, FakeEnvironment, said
from tests.waiting import until


class Environment(FakeEnvironment):
    """Its workers pretend."""

    def ensure(self) -> None:
        pass


class Terminal:
    """The command line in this process, with what it is told to do; `home` holds runs and pictures."""

    def __init__(self, home: Path, capsys):
        self.home, self.capsys = home, capsys
        self.out = home / "their models"
        self.runs_dir = home / "runs"

    def call(self, *argv: object) -> tuple[int, str, str]:
        """(exit status, stdout, stderr)"""
        code = __main__.main([*map(str, argv), "--runs-dir", str(self.runs_dir)])
        return code, *self.capsys.readouterr()

    def options(self, **settings) -> list[object]:
        values = {**good(self.home), "max_train_steps": 6, "text_encoder_steps": 2, "device": "cpu", **settings}
        (self.home / "c.json").write_text(json.dumps({"checkpointing_steps": 2, **values}), encoding="utf-8")
        return ["train", "--config", self.home / "c.json"]

    def train(self, *argv: object, **settings) -> tuple[int, str, str]:
        return self.call(*self.options(**settings), *(argv or ("--output-dir", self.out)))

    def webui(self) -> Path:
        """An empty one, whose checkpoints are in `out` from here on."""
        folder = self.home / "webui"
        folder.mkdir()
        (folder / "webui.py").touch()
        self.out = folder / "models" / "Stable-diffusion"
        self.out.mkdir(parents=True)
        return folder

    @property
    def run(self) -> run_folder.Run:
        (run,) = run_list.list_runs(self.runs_dir)
        return run

    def models(self) -> list[str]:
        return sorted(path.name for path in self.out.glob("*.safetensors"))

    def published(self) -> list[str]:
        return sorted(event["name"] for event in said(self.run, "published"))


@pytest.fixture
def terminal(tmp_path, monkeypatch, capsys):
    for module in (train, resume):
        monkeypatch.setattr(module, "Environment", lambda: Environment(tmp_path / "environment"))
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield Terminal(tmp_path, capsys)
    for number, handler in before:
        signal.signal(number, handler)


ALL = ["model.safetensors", "model_2.safetensors", "model_4.safetensors"]
NAMES = ["model", "model_2", "model_4"]


def test_all_models_come_to_the_folder_and_done_is_said_after_that(terminal):
    code, out, err = terminal.train()
    assert code == 0 and terminal.models() == ALL and out.splitlines()[-1] == str(terminal.out / "model.safetensors")
    assert err.count("wrote ") == 3 and terminal.published() == NAMES
    told = terminal.run.events.read()
    assert told[-1]["status"] == "done" and max(e["n"] for e in told if e["type"] == "published") < told[-1]["n"]
    assert status_of(terminal.run) == "done" and job_options.read(terminal.run).settled


def test_into_a_webui_goes_the_last_model_alone_and_the_others_are_named(terminal):
    """A checkpoint of each save, 2 to 7 GB, would stay in its list for ever."""
    code, out, err = terminal.train("--webui", terminal.webui())
    assert code == 0 and terminal.models() == ALL[:1] and terminal.published() == NAMES[:1]
    assert out.splitlines() == [str(terminal.out / ALL[0])]
    for name in ALL[1:]:
        assert f"wrote {terminal.run.artifacts / name}" in err and (terminal.run.artifacts / name).is_file()
    assert json.loads((terminal.run.path / "host.json").read_text(encoding="utf-8"))["intermediate"] is False


@pytest.mark.parametrize("said", [["--publish-intermediate"], ["--publish-intermediate", "true"]])
def test_all_of_them_where_that_is_said(terminal, said):
    code, out, _ = terminal.train("--webui", terminal.webui(), *said)
    assert code == 0 and terminal.models() == ALL and len(out.splitlines()) == 3


def test_of_a_folder_of_one_s_own_they_may_be_kept_out(terminal):
    assert terminal.train("--output-dir", terminal.out, "--publish-intermediate=false")[0] == 0
    assert terminal.models() == ALL[:1]


@pytest.mark.parametrize(("said", "models"), [([], ALL[:1]), (["--publish-intermediate"], ALL)])
@pytest.mark.parametrize("again", [False, True])
def test_a_resume_publishes_what_train_was_told_to(terminal, said, models, again):
    webui = terminal.webui()
    left(terminal, "--webui", webui, *said)
    assert terminal.models() == []
    code, _, err = terminal.call("resume", "last", *(["--webui", webui] if again else []))
    assert code == 0 and terminal.models() == models and err.count("published ") == len(models)


def test_those_that_were_kept_out_follow_when_a_resume_says_so(terminal):
    terminal.train("--webui", terminal.webui())
    code, out, _ = terminal.call("resume", "last", "--publish-intermediate")
    assert code == 0 and terminal.models() == ALL
    assert out.splitlines() == [str(terminal.out / name) for name in ALL[1:]]
    assert terminal.call("resume", "last", "--max-train-steps", "10")[0] == 0
    assert terminal.models() == [*ALL, "model_8.safetensors"]


def test_another_folder_is_filled_as_if_the_run_began_with_it(terminal):
    """As a user of that folder expects it: nothing crowds a WebUI's list, nothing is missing beside other tools."""
    left(terminal)
    elsewhere, webui = terminal.out, terminal.webui()
    assert terminal.call("resume", "last", "--webui", webui)[0] == 0 and terminal.models() == ALL[:1]
    terminal.out = elsewhere
    assert terminal.call("resume", "last", "--output-dir", elsewhere)[0] == 0 and terminal.models() == ALL


def test_it_is_said_where_that_has_no_effect(terminal):
    code, _, err = terminal.train("--publish-intermediate")
    assert code == 1 and "error: publish_intermediate: there is no folder to publish into." in err
    code, _, err = terminal.train(
        "--output-dir", terminal.out, "--publish-intermediate", save_intermediate_models=False
    )
    assert code == 1 and "publish_intermediate: has no effect: no intermediate models are saved." in err
    assert terminal.call(*terminal.options())[0] == 0
    code, _, err = terminal.call("resume", "last", "--publish-intermediate")
    assert code == 1 and "there is no folder to publish into" in err and not (terminal.run.path / "host.json").exists()


def test_a_wish_to_select_each_save_does_not_bring_them_back():
    wanted = JobOptions(select="every").with_intermediate(False)
    assert not wanted.wants({"final": False, "stops": False}) and wanted.wants({"final": True})
    assert JobOptions(select="every").with_intermediate(True).select == "every"


HOLD = """
import sys, time
sys.path[:0] = [{repository!r}]
from dreambooth_ext.core.runs.run_folder import Run
from pathlib import Path
with Run(Path({run!r})).claim():
    print("held", flush=True)
    time.sleep(60)
"""


def left(terminal, *argv: object) -> run_folder.Run:
    """A run that has a folder for its models; its worker is done, its terminal was killed before it published any."""
    terminal.train(*argv)
    run = terminal.run
    for path in terminal.out.iterdir():
        path.unlink()
    kept = [event for event in run.events.read() if event["type"] != "published" and event.get("status") != "done"]
    lines = [json.dumps({**event, "n": n}) for n, event in enumerate(kept, 1)]
    run.events.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run.write_state(status="saving", ending="done")
    job_options.read(run).but(settled=False).write(run)
    return run


@pytest.mark.parametrize("verb", ["resume", "runs", "show"])
def test_what_a_killed_terminal_left_is_published_by_resume_and_runs_once(terminal, verb):
    run = left(terminal)
    argv = {"resume": ["resume", "last"], "runs": ["runs"], "show": ["runs", "show"]}[verb]
    code, _, err = terminal.call(*argv)
    assert code == 0 and terminal.models() == ALL and err.count("published ") == 3
    assert terminal.published() == NAMES and status_of(run) == "done" and run.events.read()[-1]["status"] == "done"
    code, _, err = terminal.call(*argv)
    assert code == 0 and "published " not in err and terminal.published() == NAMES


def test_a_run_that_is_done_is_published_where_it_is_told_to(terminal, tmp_path):
    assert terminal.call(*terminal.options())[0] == 0
    assert not (terminal.run.path / "host.json").exists()
    code, out, err = terminal.call("resume", "last", "--output-dir", terminal.out)
    assert code == 0 and "is done, with 6 steps" in err and terminal.models() == ALL
    assert out.splitlines() == [
        str(terminal.out / name) for name in ("model_2.safetensors", "model_4.safetensors", "model.safetensors")
    ]
    terminal.call("resume", "last", "--output-dir", tmp_path / "elsewhere")
    assert [path.name for path in (tmp_path / "elsewhere").glob("*.safetensors")] == ["model.safetensors"]


def test_what_could_not_be_published_is_a_failure_and_tried_again(terminal):
    terminal.out.mkdir()
    (terminal.out / "model_2.safetensors").write_bytes(b"somebody's")
    code, _, err = terminal.train()
    assert code == 3 and "was not made by this extension" in err and terminal.models() == ALL
    (terminal.out / "model_2.safetensors").unlink()
    assert terminal.call("resume", "last")[0] == 0
    assert terminal.models() == ALL and terminal.published() == NAMES


def test_what_a_worker_warns_of_while_its_models_are_published_is_no_failure(terminal, monkeypatch):
    publish = publisher.Publisher._put

    def warned(self, run, *given):
        run.events.append("warning", what="the memory was not enough for a preview.", field="", remedy="")
        return publish(self, run, *given)

    monkeypatch.setattr(publisher.Publisher, "_put", warned)
    assert terminal.train()[0] == 0 and terminal.models() == ALL


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_terminal_that_is_killed_while_it_trains_loses_no_model(terminal):
    code = f"""
import sys
sys.path[:0] = [{str(REPOSITORY)!r}]
from pathlib import Path
from dreambooth_ext import __main__
from dreambooth_ext.commands import train
from tests.commands.support.test_delivery import Environment
train.Environment = lambda: Environment(Path({str(terminal.home / "environment")!r}))
sys.exit(__main__.main(sys.argv[1:]))
"""
    argv = [*terminal.options(max_train_steps=40), "--output-dir", terminal.out, "--runs-dir", terminal.runs_dir]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, argv)])
    try:
        until(lambda: run_list.list_runs(terminal.runs_dir) and terminal.published())
    finally:
        process.kill()
        process.wait()
    until(lambda: not terminal.run.is_held())
    assert terminal.run.state()["ending"] == "stopped"
    code, _, _ = terminal.call("resume", "last")
    assert code == 0 and terminal.run.state()["step"] == 40
    made = {event["name"] for event in said(terminal.run, "artifact")}
    assert len(made) == 20 and terminal.models() == sorted(f"{name}.safetensors" for name in made)
    assert set(terminal.published()) == made


def test_of_several_that_resume_at_once_the_others_say_why(terminal, monkeypatch):
    run = left(terminal)
    code = HOLD.format(repository=str(REPOSITORY), run=str(run.path))
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        code, _, err = terminal.call("resume", "last")
        assert code == 1 and "is already being resumed or published by another program. Wait for it" in err
        assert terminal.models() == [] and status_of(run) == "saving"
        assert terminal.call("runs")[0] == 0 and terminal.models() == []
    finally:
        other.kill()
        other.wait()
    assert terminal.call("resume", "last")[0] == 0 and terminal.models() == ALL


def test_a_worker_that_dies_before_its_first_word_is_told_with_its_log_which_stays(terminal):
    code, _, err = terminal.train(name="crash")
    assert code == 3 and "No module named 'diffusers'" in err and "The end of its log" in err
    assert "No module named" in (terminal.run.path / "log.txt").read_text(encoding="utf-8")


def test_a_run_that_was_refused_goes(terminal):
    code, _, err = terminal.train(name="refused")
    assert code == 1 and "error: base_model: is no model. Choose another." in err
    assert run_list.list_runs(terminal.runs_dir) == []


def test_a_run_s_folder_that_is_deleted_while_it_trains_does_not_come_back(terminal):
    def delete() -> None:
        until(lambda: run_list.list_runs(terminal.runs_dir) and terminal.run.state()["step"] > 2)
        while terminal.run_folder().exists():
            shutil.rmtree(terminal.run_folder(), ignore_errors=True)

    terminal.run_folder = lambda: next(terminal.runs_dir.glob("2*"), terminal.runs_dir / "gone")
    thread = threading.Thread(target=delete)
    thread.start()
    code, _, err = terminal.train(max_train_steps=200)
    thread.join()
    assert code == 3 and "was deleted during training" in err and "Traceback" not in err
    assert run_list.list_runs(terminal.runs_dir) == [] and not list(terminal.runs_dir.glob("2*"))


def test_ctrl_c_ends_a_worker_that_hangs_after_its_last_word(terminal):
    def interrupt() -> None:
        until(lambda: run_list.list_runs(terminal.runs_dir) and terminal.run.last_word())
        time.sleep(0.5)
        signal.raise_signal(signal.SIGINT) if os.name == "nt" else os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, _, _ = terminal.train(name="lingers")
    thread.join()
    assert code == 0 and status_of(terminal.run) == "done" and len(terminal.models()) == 3


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_second_ctrl_c_is_the_user_s_own_end_of_a_run(terminal):
    def interrupt() -> None:
        until(lambda: run_list.list_runs(terminal.runs_dir))
        time.sleep(1)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, _, err = terminal.train(name="asleep")
    thread.join()
    assert code == 130 and status_of(terminal.run) == "stopped" and "SIGKILL" not in err
    assert "stopping as soon as possible; nothing has been trained yet" in err
    assert "ended without saving at step 0; nothing was saved yet: resume starts from the beginning" in err


def test_a_host_s_run_that_a_terminal_resumes_goes_where_the_host_would_have_put_it(terminal):
    wanted = JobOptions(host_folders={"checkpoint": str(terminal.out)}, settled=True)
    config = RunConfig(name="model", device="cpu", max_train_steps=4)
    run = run_folder.create(terminal.runs_dir, config, wanted.as_dict())
    run.write_state(status="stopped")
    assert terminal.call("resume", run.id)[0] == 0
    assert terminal.models() == ["model.safetensors"] and terminal.published() == ["model"]
    assert (
        job_options.read(run).settled
        and not job_options.read(run).by_terminal
        and job_options.read(run).folders is None
    )


def test_the_demo_s_model_is_where_a_webui_looks(terminal, monkeypatch, tmp_path):
    monkeypatch.setattr(Environment, "run_inside", lambda *anything: 0, raising=False)
    monkeypatch.setattr(demo, "Environment", lambda: Environment(tmp_path / "environment"))
    monkeypatch.setattr(demo, "draw_pictures", lambda *anything: 0)
    assert __main__.main(["demo", "--max-train-steps", "3", "--out", str(tmp_path / "out")]) == 0
    (run,) = run_list.list_runs(tmp_path / "out" / "runs")
    folder = tmp_path / "out" / "models" / "Stable-diffusion"
    assert (folder / f"{run.config.name}.safetensors").exists() and status_of(run) == "done"


def test_a_word_that_is_an_embeddings_name_in_that_webui_is_told(terminal):
    """A folder that is no WebUI's has no embeddings, whatever files are in it."""
    elsewhere, webui = terminal.out, terminal.webui()
    for folder in (webui / "embeddings", elsewhere):
        folder.mkdir()
        (folder / "sksper.safetensors").touch()
    *_, said = terminal.call(*terminal.options(name="one"), "--webui", webui)
    assert "'sksper' is the name of an installed embedding (sksper.safetensors)" in said
    assert (terminal.out / "one.safetensors").is_file()
    *_, said = terminal.train("--output-dir", elsewhere, name="two")
    assert "installed embedding" not in said


def test_comfyui_gets_the_last_model_once_and_nothing_of_others_is_touched(terminal):
    folder = terminal.home / "ComfyUI"
    terminal.out = folder / "models" / "checkpoints"
    for name in ("comfy", "models/checkpoints"):
        (folder / name).mkdir(parents=True)
    (folder / "folder_paths.py").touch()
    assert terminal.train("--comfyui", folder)[0] == 0
    assert terminal.models() == ["model.safetensors"] and terminal.published() == ["model"]
    assert terminal.call("resume", "last")[0] == 0 and terminal.published() == ["model"]
    (terminal.out / "other.ckpt").write_bytes(b"somebody's")
    code, _, err = terminal.train("--comfyui", folder, name="other")
    assert code == 1 and "was not made by this extension" in err
    code, _, err = terminal.train("--comfyui", folder, "--output-dir", folder)
    assert code == 1 and "error: output_dir: --comfyui already names a folder" in err
    code, _, err = terminal.train("--sdnext", folder)
    assert code == 1 and "error: sdnext: " in err and "does not look like SD.Next" in err
