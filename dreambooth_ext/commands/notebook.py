"""What the cells of `notebooks/` call: a session with its pictures, training and models, kept where it outlives the
machine (Google Drive, Kaggle's output folder). Not a verb of the command line.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.config import links
from ..core.config.names import name_problems
from ..core.data.folder_scan import EXTENSIONS
from ..core.errors import Problem, UserError
from ..core.messages.message import Message, from_json
from ..core.runs import run_list, training_states
from ..core.runs.events import ENDED
from ..core.runs.run_folder import Run
from ..core.system import files
from ..core.system.terminal import clock, say
from ..host.environment.environment import Environment
from ..host.environment.interpreter import REPOSITORY, clean_variables
from ..host.web import localization
from . import train
from .support import config_options, session_copy
from .support.exit_status import DONE

PLACE = "DREAMBOOTH_EXT_SESSIONS"  # a variable: the folder of the sessions, where it is neither Drive nor Kaggle's
MOUNT = Path("/content/drive")  # where Colab shows Drive
ON_DRIVE = Path("MyDrive", "dreambooth")
KAGGLE = Path("/kaggle/working")
WORK = Path(tempfile.gettempdir(), "dreambooth_ext_sessions")  # runs while they train: this machine's own disk
LOOK = 1.0  # seconds between looks at a training
CAPTIONS = (".txt",)
LOG_LINES = 15  # of a training that failed
MODEL_OPTIONS = {"lora": "--lora", "textual_inversion": "--embedding", "hypernetwork": "--hypernetwork"}


class Stop(Exception):
    """Ends a cell, and those behind it, without a traceback: what is wrong has been shown."""

    def _render_traceback_(self) -> list[str]:
        return [f"{self}"]


def open_session(name: str, language: str = "en") -> Session:
    """Prepare the trainer, mount Drive where there is one, and open or make the session of that name."""
    screen = Screen(language)
    with screen.explained():
        for problem in name_problems(name):
            raise problem.as_error()
        place, kept = sessions_folder()
        screen.say(Message("notebook.on_drive" if kept else "notebook.on_machine", folder=place / name))
        screen.bar("")
        Environment().ensure(progress=lambda share, text: screen.bar(text, share))
        screen.bar(Message("environment.ready"), 1.0)
        session = Session(place / name, WORK / name, screen)
        session_copy.restore(session.copies, session.runs)
    return session


def sessions_folder() -> tuple[Path, bool]:
    """The folder of all sessions, and whether it outlives this machine by itself."""
    if named := os.environ.get(PLACE):
        return Path(named).absolute(), True
    with contextlib.suppress(ImportError):
        importlib.import_module("google.colab.drive").mount(str(MOUNT))
        return MOUNT / ON_DRIVE, True
    return (KAGGLE if KAGGLE.is_dir() else Path.cwd()) / "dreambooth", False


class Screen:
    """Texts, progress and pictures below a cell; on a terminal where there is no notebook around."""

    def __init__(self, language: str):
        known = localization.languages()
        self.language = next((name for name in known if name.startswith(f"{language}_")), "")
        self._bar: Any = None
        try:
            self.display: Any = importlib.import_module("IPython.display")
            self.is_notebook = importlib.import_module("IPython").get_ipython() is not None
        except ImportError:
            self.is_notebook = False

    def words(self, text: str) -> str:
        return localization.translated(text, self.language) if isinstance(text, Message) else text

    def say(self, *texts: str) -> None:
        say(*map(self.words, texts), stream=sys.stdout)

    def problem(self, problem: Problem) -> None:
        field = f"{problem.field}: " if problem.field else ""
        self.say(f"{field}{self.words(problem.message)} {self.words(problem.remedy)}".rstrip())

    def bar(self, text: str, share: float | None = None) -> None:
        """The progress, in one place until `new_bar`; a share of None is unknown."""
        if not self.is_notebook:
            return
        value = "" if share is None else f' value="{share:.4f}"'
        words = html.escape(self.words(text))
        made = self.display.HTML(f'<progress max="1" style="width: 60%"{value}></progress><br><code>{words}</code>')
        if self._bar is None:
            self._bar = self.display.display(made, display_id=True)
        else:
            self._bar.update(made)

    def new_bar(self) -> None:
        self._bar = None

    def picture(self, path: Path) -> None:
        self.say(f"{path.parent.name}/{path.name}")
        if self.is_notebook:
            self.display.display(self.display.Image(filename=str(path)))

    @contextlib.contextmanager
    def explained(self) -> Any:
        """What is wrong with an input becomes a sentence, and ends the cell."""
        try:
            yield
        except UserError as error:
            self.problem(error.problem)
            raise Stop(self.words(error.problem.message)) from None


class Session:
    """One training subject: `folder` is kept, `work` belongs to this machine."""

    def __init__(self, folder: Path, work: Path, screen: Screen):
        self.folder, self.screen = folder, screen
        self.pictures, self.models, self.copies = (folder / name for name in ("pictures", "models", "runs"))
        self.runs = work / "runs"
        self.links: dict[str, str] = {}  # the variable by which programs get whole links, that of the base say
        self._copy: session_copy.RunCopy | None = None
        for place in (self.pictures, self.models, self.copies, self.runs):
            place.mkdir(parents=True, exist_ok=True)

    # --- pictures

    def take_pictures(self, folder: str = "") -> None:
        """Add the pictures and captions of a folder, of Drive say; without one, those that are chosen for upload.

        Pictures of an earlier time stay: a session that goes on needs no second upload.
        """
        with self.screen.explained():
            if folder:
                self._copy_pictures(Path(folder).expanduser())
            elif not self._count():
                self._upload()
            self.screen.say(Message("notebook.pictures", count=self._count(), folder=self.pictures))

    def _count(self) -> int:
        return sum(path.suffix.lower() in EXTENSIONS for path in self.pictures.iterdir())

    def _copy_pictures(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError("notebook.no_folder", "folder", folder=folder)
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in (*EXTENSIONS, *CAPTIONS) and path.is_file():
                shutil.copy2(path, self.pictures / path.name)

    def _upload(self) -> None:
        try:
            chosen = importlib.import_module("google.colab.files").upload()
        except ImportError:
            raise UserError("notebook.no_upload", "folder") from None
        for name, content in chosen.items():
            (self.pictures / Path(name).name).write_bytes(content)

    # --- training

    def train(self, settings: Mapping[str, Any], longer: int = 0) -> None:
        """Train, or go on: with what a machine that is gone has left, or for `longer` more steps with what is done.

        Other settings than the last time begin a new training. The cell's stop button saves and stops.
        """
        wanted = {
            **{name: without_secrets(value) for name, value in settings.items()},
            "instance_data_dir": str(self.pictures),
        }
        self.links = links.variables(value.whole for value in wanted.values() if isinstance(value, links.Link))
        run = self._last()
        begun = self._known() == wanted and run is not None
        with self.screen.explained():
            if begun:
                files.write_json(self.folder / "settings.json", wanted)
            if run and begun and run.state()["status"] == "done" and not longer:
                self._keep(run)  # Drive may have been away or full when it was done
                self.screen.say(Message("notebook.done_already", steps=run.state()["step"]))
            elif run and begun:
                total = ["--max-train-steps", str(run.state()["step"] + longer)] if longer else []
                self.screen.say(Message("notebook.goes_on", run=run.id, step=training_states.newest_step(run) or 0))
                self._follow(["resume", str(run.path), *total], run)
            else:
                self._check(wanted)
                files.write_json(self.folder / "settings.json", wanted)
                self._follow(["train", "--config", str(self.folder / "settings.json")], None)
        self.show_models()

    def _last(self) -> Run | None:
        return next(iter(run_list.list_runs(self.runs)), None)

    def _known(self) -> Any:
        try:
            known = files.read_json(self.folder / "settings.json")
            return {name: without_secrets(value) for name, value in known.items()}  # an earlier version kept them
        except (OSError, ValueError, AttributeError):
            return None

    def _check(self, wanted: Mapping[str, Any]) -> None:
        """Show every problem, before anything is loaded. Raises Stop."""
        files.write_json(self.runs.parent / "asked.json", dict(wanted))
        parser = argparse.ArgumentParser()
        train.add_arguments(parser)
        arguments = parser.parse_args(["--config", str(self.runs.parent / "asked.json")])
        problems = config_options.complete_arguments(arguments).problems
        for problem in problems:
            self.screen.problem(problem)
        if problems:
            raise Stop(self.screen.words(problems[0].message))

    def _follow(self, verb: list[str], run: Run | None) -> None:
        """Run a verb of the command line in a process of its own, and show and keep what its run tells. A run that
        still trains, because only the notebook was started anew, is followed as it is."""
        known = {one.id for one in run_list.list_runs(self.runs)} if run is None else set()
        told = max((event["n"] for event in run.events.read()), default=0) if run else 0
        self.screen.new_bar()
        log = self.runs.parent / "log.txt"
        process = None if run and run.is_held() else self._start([*verb, "--runs-dir", str(self.runs)], log)
        while True:
            try:
                over = process.poll() is not None if process else run is None or not run.is_held()
                run = run or next((one for one in run_list.list_runs(self.runs) if one.id not in known), None)
                told = self._show(run, told) if run else told
                if over:
                    break
                time.sleep(LOOK)
            except KeyboardInterrupt:  # the cell's stop button; the process may hear of it, too
                if run:
                    run.command("stop")
                    self.screen.say(Message("notebook.stopping"))
                elif process:
                    process.terminate()
        is_done = process.returncode == DONE if process else run is not None and run.state()["status"] == "done"
        self._ended(is_done, run, log)

    def _start(self, verb: Iterable[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "dreambooth_ext", *verb],
                cwd=REPOSITORY,
                env=clean_variables(PYTHONUNBUFFERED="1", **self.links),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _show(self, run: Run, told: int) -> int:
        """Show the events after number `told`, keep what is new; the last event's number."""
        for event in run.events.read(after=told):
            told = event["n"]
            if event["type"] == "status" and "stage" in event:
                of = event["of"]
                known = {"code": event.get("stage_code"), "values": event.get("stage_values") or {}}
                stage = from_json({**known, "text": event["stage"]})
                self.screen.bar(f"{self.screen.words(stage)} {event['done']}", event["done"] / of if of else None)
            elif event["type"] == "step":
                about = {"step": event["step"], "total": event["total"], "left": clock(event["eta_s"])}
                loss = "-" if event["loss"] is None else f"{event['loss']:.4f}"
                self.screen.bar(Message("notebook.step", **about, loss=loss), event["step"] / max(event["total"], 1))
            elif event["type"] == "sample":
                self.screen.picture(Path(event["path"]))
                self.screen.new_bar()
            elif event["type"] in ("warning", "error"):
                self.screen.problem(Problem.from_dict({**event, "message": event["what"]}))
        with contextlib.suppress(OSError):  # Drive may be away for a moment: the next look tries again
            if self._copy_of(run).save():
                self.screen.say(
                    Message("notebook.kept", step=training_states.newest_step(run) or 0, folder=self.folder)
                )
        return told

    def _copy_of(self, run: Run) -> session_copy.RunCopy:
        if self._copy is None or self._copy.run.path != run.path:
            self._copy = session_copy.RunCopy(run, self.copies / run.id)
        return self._copy

    def _ended(self, is_done: bool, run: Run | None, log: Path) -> None:
        status = run.state()["status"] if run else ""
        if run and is_done:
            self._keep(run)
        elif run and status in ENDED and status != "failed":
            self._copy_of(run).save(all=True)
            self.screen.say(Message("notebook.stopped", step=run.state()["step"]))
        else:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            self.screen.say(Message("notebook.failed"), *lines[-LOG_LINES:])
            raise Stop(self.screen.words(Message("notebook.failed")))

    def _keep(self, run: Run) -> None:
        """Copy a finished run's models and records to where they outlive this machine, unless they are there."""
        for event in run.artifact_events():
            model = run.artifacts / event["file"]
            if event["final"] and model.exists():  # another machine has only what was kept
                session_copy.save_model(model, self.models)
        self._copy_of(run).save(all=True)

    # --- models

    def show_models(self) -> None:
        found = [path for path in sorted(self.models.iterdir()) if path.suffix in (".safetensors", ".ckpt", ".pt")]
        for path in found:
            self.screen.say(Message("notebook.model", file=path, size=files.human_size(path.stat().st_size)))

    def draw(self, prompts: Iterable[str], count: int = 1, **options: Any) -> None:
        """Pictures of the finished model, shown and kept in `drawn`. options: those of `generate`, such as seed=1."""
        with self.screen.explained():
            run = self._last()
            made = [event for event in run.artifact_events() if event["final"]] if run else []
            kept = self.models / self._final_name(run)
            if run is None or not (made or kept.is_file()):
                raise UserError("notebook.no_model", "model")
            model = run.artifacts / made[-1]["file"] if made else kept
            out = self.folder / "drawn" / time.strftime("%Y%m%d-%H%M%S")
            option = MODEL_OPTIONS.get(run.config.method)
            verb = ["generate", "--model", str(run.config.base_model if option else model), "--out", str(out)]
            verb += [option, str(model)] if option else []
            verb += ["--num-images", str(count), *(word for prompt in prompts for word in ("--prompt", prompt))]
            for name, value in options.items():
                verb += [f"--{name.replace('_', '-')}", str(value)]
            log = self.runs.parent / "log.txt"
            if self._start(verb, log).wait() != DONE:
                self._ended(False, None, log)
            for path in sorted(out.glob("*.png")):
                self.screen.picture(path)

    def _final_name(self, run: Run | None) -> str:
        return run.config.model_file(run.config.name) if run else "-"


def without_secrets(value: Any) -> Any:
    """A setting as files may hold it: a link with secrets as `Link`, also between quotation marks."""
    link = links.hidden(value.strip("\"' \n")) if isinstance(value, str) else value
    return link if isinstance(link, links.Link) else value
