"""The notebooks: both have the same code; it trains, keeps, goes on and draws, with a stand-in for Colab's Drive."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dreambooth_ext.commands.support import session_copy
from dreambooth_ext.core.config import links
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.guide import demo_recipe
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.system import files
from tests import tiny

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = [REPOSITORY / "notebooks" / name for name in ("dreambooth.ipynb", "dreambooth_ru.ipynb")]
COLAB = {
    "google/__init__.py": "",
    "google/colab/__init__.py": "",
    "google/colab/drive.py": """
import os
from pathlib import Path
from dreambooth_ext.commands import notebook
notebook.MOUNT = Path(os.environ["STANDIN_DRIVE"])  # tests may not write to /content
def mount(place):
    Path(os.environ["STANDIN_DRIVE"], "MyDrive").mkdir(parents=True, exist_ok=True)
""",
    "google/colab/files.py": """
import os
from pathlib import Path
def upload():
    return {path.name: path.read_bytes() for path in Path(os.environ["STANDIN_PICTURES"]).iterdir()}
""",
}
SMALL: dict[str, Any] = {"max_train_steps": 4, "text_encoder_steps": 1, "checkpointing_steps": 2, "device": "cpu"}


def cells(path: Path) -> list[str]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


class Machine:
    """A machine of Colab's: its own disk, and a Drive that others have, too."""

    def __init__(self, folder: Path, drive: Path):
        self.folder = folder
        for name, text in COLAB.items():
            path = folder / "site" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        (folder / "tmp").mkdir()
        (folder / "tmp" / "dreambooth_ext").symlink_to(REPOSITORY, target_is_directory=True)
        self.variables = {
            **os.environ,
            "PYTHONPATH": str(folder / "site"),
            "PYTHONUTF8": "1",
            "TMPDIR": str(folder / "tmp"),
            "STANDIN_DRIVE": str(drive),
            "STANDIN_PICTURES": str(demo_recipe.PICTURES),
        }
        self.variables.pop("DREAMBOOTH_EXT_SESSIONS", None)

    def start(self, code: str) -> subprocess.Popen:
        script = self.folder / f"cells-{time.monotonic_ns()}.py"
        script.write_text(code, encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, str(script)],
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        )


def with_settings(code: list[str], **changes: Any) -> list[str]:
    """The cells, with one of a user's behind the settings."""
    at = next(index for index, cell in enumerate(code) if cell.startswith("WORD"))
    return [*code[: at + 1], f"settings |= {changes!r}", *code[at + 1 :]]


def test_both_have_the_same_code():
    english, russian = (cells(path) for path in NOTEBOOKS)
    assert english[0].replace('LANGUAGE = "en"', 'LANGUAGE = "ru"') == russian[0] != english[0]
    assert english[1:] == russian[1:] and len(english) == 5
    for path in NOTEBOOKS:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert all(not cell.get("outputs") for cell in content["cells"])
        assert content["nbformat"] == 4 and len({cell["id"] for cell in content["cells"]}) == len(content["cells"])


@pytest.mark.skipif(os.name == "nt", reason="symbolic links, process groups")
def test_a_session_on_drive_outlives_its_machine(tmp_path):
    """The first machine is killed in the middle of training; another one goes on from Drive, and draws."""
    base = tiny.single_file(tmp_path / "tiny.safetensors")
    drive = tmp_path / "мой диск"
    small = {**SMALL, "base_model": str(base), "resolution": 64, "validation_steps": 0, "report_to": "none"}
    code = with_settings(cells(NOTEBOOKS[1]), **{**small, "max_train_steps": 60, "checkpointing_steps": 4})
    first = Machine(tmp_path / "first", drive).start("\n\n".join(code[:-1]))
    said = []
    for line in first.stdout:
        said.append(line)
        if "сохранён в" in line:
            break
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait(60) < 0, "".join(said)
    assert "Картинок в" in "".join(said)
    session = drive / "MyDrive" / "dreambooth" / "portrait"
    assert len(list((session / "pictures").glob("*.png"))) == 12 and not list((session / "models").iterdir())
    known = json.loads((session / "settings.json").read_text(encoding="utf-8"))
    draw = code[-1].replace("count=2", "count=1, steps=2")
    done = Machine(tmp_path / "second", drive).start("\n\n".join([*code[:-1], draw]))
    told, _ = done.communicate(timeout=500)
    assert done.returncode == 0, told
    assert re.search(r"продолжается с шага (4|8|[1-5]\d)", told), told
    assert json.loads((session / "settings.json").read_text(encoding="utf-8")) == known
    (model,) = (session / "models").glob("*.safetensors")
    assert str(model) in told and len(list((session / "drawn").rglob("*.png"))) == 2


def test_what_is_wrong_ends_the_cell_with_a_sentence(tmp_path, monkeypatch, capsys):
    from dreambooth_ext.commands import notebook

    session = notebook.Session(tmp_path / "kept", tmp_path / "work", notebook.Screen("ru"))
    with pytest.raises(notebook.Stop):
        session.take_pictures(str(tmp_path / "nowhere"))
    assert "Нет папки" in capsys.readouterr().out
    with pytest.raises(notebook.Stop):
        session.take_pictures()
    assert "Выбрать файлы можно только в Colab" in capsys.readouterr().out
    with pytest.raises(notebook.Stop):
        session.train({"method": "dreambooth", "name": "my photo", "base_model": "none.safetensors"})
    said = capsys.readouterr().out
    assert "name: " in said and "base_model: " in said and "instance_data_dir: " in said
    with pytest.raises(notebook.Stop):
        session.draw(["x"])
    monkeypatch.setenv(notebook.PLACE, str(tmp_path / "elsewhere"))
    assert notebook.sessions_folder() == (tmp_path / "elsewhere", True)
    monkeypatch.delenv(notebook.PLACE)
    monkeypatch.setattr(notebook, "KAGGLE", tmp_path)
    assert notebook.sessions_folder() == (tmp_path / "dreambooth", False)


def test_a_token_in_the_base_s_link_reaches_the_training_and_no_file(tmp_path, monkeypatch):
    from dreambooth_ext.commands import notebook

    session = notebook.Session(tmp_path / "kept", tmp_path / "work", notebook.Screen("en"))
    session._copy_pictures(demo_recipe.PICTURES)
    began: list[dict[str, str]] = []
    monkeypatch.setattr(notebook.subprocess, "Popen", lambda command, env, **more: began.append(env) or Ended())
    monkeypatch.delenv(links.VARIABLE, raising=False)
    link = "https://user:word4711@example.org/base.safetensors?token=TOKEN4711"
    for given in (link, f' "{link}" '):
        settings = {"method": "lora", "name": "x", "instance_prompt": "a zkz figure", "base_model": given}
        with pytest.raises(notebook.Stop):
            session.train(settings)
        assert began.pop()[links.VARIABLE] == link
    written = {path.name: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert b"https://example.org/base.safetensors" in written["settings.json"]
    assert {"asked.json", "log.txt"} <= written.keys() and not any(b"4711" in content for content in written.values())


class Ended:
    """A program that failed at once."""

    returncode = 1

    def poll(self) -> int:
        return self.returncode


def test_a_model_that_drive_could_not_take_when_it_was_done_is_kept_the_next_time(tmp_path, monkeypatch):
    from dreambooth_ext.commands import notebook

    session = notebook.Session(tmp_path / "kept", tmp_path / "work", notebook.Screen("en"))
    settings = {"method": "lora", "name": "x", "base_model": "https://example.org/x.safetensors?token=TOKEN4711"}
    files.write_json(session.folder / "settings.json", {**settings, "instance_data_dir": str(session.pictures)})
    run = run_folder.create(session.runs, parse(settings)[0])
    (run.artifacts / "x.safetensors").write_bytes(b"weights")
    run.events.append("artifact", kind="lora", name="x", file="x.safetensors", step=4, final=True)
    run.write_state(status="done", step=4)
    really = session_copy.shutil.copyfile
    monkeypatch.setattr(session_copy.shutil, "copyfile", full)
    with pytest.raises(OSError):
        session._ended(True, run, tmp_path / "log.txt")
    monkeypatch.setattr(session_copy.shutil, "copyfile", really)
    session.train(settings)
    assert "4711" not in (session.folder / "settings.json").read_text(encoding="utf-8"), "an earlier version wrote it"
    assert (session.models / "x.safetensors").read_bytes() == b"weights"
    assert (session.copies / run.id / "state.json").is_file()
    monkeypatch.setattr(session_copy.shutil, "copyfile", full)
    assert session_copy.save_model(run.artifacts / "x.safetensors", session.models).is_file()  # it is there


def test_a_stage_that_only_another_version_knows_is_shown_in_its_words(tmp_path):
    from dreambooth_ext.commands import notebook

    session = notebook.Session(tmp_path / "kept", tmp_path / "work", notebook.Screen("en"))
    run = run_folder.create(session.runs, parse({"name": "x"})[0])
    shown: list[str] = []
    session.screen.bar = lambda text, share=None: shown.append(text)
    stage = {"done": 1, "of": 2}
    run.events.append("status", stage="dreaming", stage_code="other.version_s", stage_values={"file": "x"}, **stage)
    run.events.append("status", stage="ready", stage_code="environment.ready", stage_values={}, **stage)
    run.events.append("status", stage="plain", **stage)
    session._show(run, 0)
    assert shown == ["dreaming 1", f"{notebook.Message('environment.ready')} 1", "plain 1"]


def full(source: Path, target: Path) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the kernel's packages are pinned for others")
def test_it_runs_in_a_real_kernel_on_the_demo_s_base(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    machine = Machine(tmp_path / "machine", tmp_path / "drive")
    for name, value in machine.variables.items():
        monkeypatch.setenv(name, value)
    book = nbformat.read(NOTEBOOKS[0], as_version=4)
    changes = {**SMALL, "base_model": str(demo_recipe.BASE), "resolution": 128, "validation_steps": 2}
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    code[2].source += f"\nsettings |= {changes!r}"
    nbclient.NotebookClient(book, timeout=900, kernel_name="python3").execute()
    shown = [output for cell in code for output in cell.outputs]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2 + 4, "previews of two prompts, and four pictures of the model"
    assert any("<progress" in output.get("data", {}).get("text/html", "") for output in shown)
    assert list((tmp_path / "drive" / "MyDrive" / "dreambooth" / "portrait" / "models").glob("*.safetensors"))
