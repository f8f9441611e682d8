"""What the tab, the API and other programs can ask for: runs, queue, checks, presets, pictures, the environment.

No HTTP here: values go in and out as JSON has them, and what cannot be done is a `Refusal` or a `UserError`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.checks import config_checks, config_warnings
from ...core.config import links
from ...core.config.run_config import SETTINGS, RunConfig
from ...core.data import picture_entries, picture_list
from ...core.errors import Problem, UserError
from ...core.facts.methods import KINDS, PROMPTED_METHODS
from ...core.guide import completion
from ...core.runs import job_options, run_folder
from ...core.runs.events import COMMANDS, ENDED, PROTOCOL
from ...core.runs.job_options import Wishes
from ...core.runs.run_folder import Run
from ...core.version import __version__
from ..environment.deep_check import Inspector
from ..environment.environment import Environment
from ..environment.maintenance import Mending
from ..errors import Refusal
from ..hosts import model_lists
from ..hosts.options import OPTIONS
from ..importers import read
from ..jobs import time_estimate
from ..jobs.curves import LAST, POINTS, RunCurves
from ..jobs.dispatcher import Dispatcher
from ..jobs.drawing_job import FOLDER as DRAWN
from ..jobs.drawing_job import Drawing
from ..jobs.event_pages import EventPages, of_kinds, text_page
from ..jobs.planned_time import Planned
from ..jobs.run_index import FAULTS, Catalogue, is_component
from ..publishing import model_files, unpublish, word_conflicts
from . import path_policy, presets, report, schema
from .config_completion import complete
from .presets import Presets
from .uploads import PictureSets

if TYPE_CHECKING:
    from ..hosts.host import Host

SHOWN_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
WISHED = ("publish", "intermediate", "select", "while_training")  # what may be said of one run, else the options count
RUN_COMMANDS = (*COMMANDS, "resume", "continue", "kill")
GOING = 15.0  # seconds for a killed worker to be gone, and its host to have noticed


class Service:
    """One for a host and its process; every method may be called from any thread, and may take its time."""

    def __init__(self, host: Host, environment: Environment | None = None, dispatcher: Dispatcher | None = None):
        self.host = host
        self.environment = environment or Environment()
        self.runs_dir = host.runs_folder()
        self.dispatcher = dispatcher or Dispatcher(self.runs_dir, self.environment, host)
        self.catalogue = Catalogue(self.runs_dir)
        self.mending = Mending(self.environment)
        self.inspector = Inspector(self.environment, self.runs_dir)
        self.drawing = Drawing(self.environment)
        self.presets = Presets(host.data_folder() / presets.FOLDER)
        self.sets = PictureSets(path_policy.pictures_folder(host))
        self.planned = Planned(self.runs_dir)
        self._events = EventPages()
        self._lists = model_lists.Mark(self.about_host)
        self._curves = RunCurves()
        self._changing = threading.Lock()  # looks at a run's state that lead to a change of it

    def start(self) -> None:
        """Begin to train what waits. Nothing happens if that is being done already."""
        self.dispatcher.start()

    def close(self) -> None:
        self.dispatcher.close()
        self.drawing.close()
        self.inspector.close()

    # --- what there is ---

    def version(self) -> dict[str, Any]:
        return {"version": __version__, "protocol": PROTOCOL, "host": self.host.name}

    def about_host(self) -> dict[str, Any]:
        return {
            "name": self.host.name,
            "version": __version__,
            "bases": self.host.bases(),
            "current": self.host.current_base(),
            "files": model_lists.files(self.host.folders()),
            "folders": {kind: str(path) for kind, path in self.host.folders().items()},
            "runs_folder": str(self.runs_dir),
            "lacks": self.host.lacks(),
            "restricted": self.host.restricted(),
            "options": {option.name: self.host.option(option.name) for option in OPTIONS},
        }

    def schema(self) -> dict[str, Any]:
        return schema.schema()

    def state(self) -> dict[str, Any]:
        """What a page asks every second. "lists": another text when GET host would tell something else."""
        environment = self.mending.status()
        return {
            "version": __version__,
            "time": time.time(),
            "revision": self.dispatcher.revision,
            "published": self.dispatcher.published,
            "lists": self._lists(),
            **self.queue(),
            "environment": {key: environment[key] for key in ("state", "reason", "building", "problem")},
        }

    def mend(self, action: str) -> None:
        """Repair or verify the environment, in a thread. Raises a Refusal (409) while that would be in the way."""
        if action == "repair" and self.dispatcher.running:
            message = f"the run {self.dispatcher.running[-1].id} uses the environment."
            raise Refusal(409, message, "Wait for it, or stop it first.", "action")
        if action == "repair":
            try:
                self.environment.check_unused()  # also by trainings from a terminal
            except UserError as error:
                raise Refusal(409, error.problem.message, error.problem.remedy, "action") from error
        self.inspector.close()  # its process holds files of the environment open
        self.mending.begin(action)

    # --- presets and imports ---

    def list_presets(self) -> dict[str, Any]:
        return {"presets": [preset.as_dict() for preset in self.presets.list()]}

    def save_preset(self, name: str, settings: Mapping[str, Any], description: str = "") -> dict[str, Any]:
        return self.presets.save(name, settings, description).as_dict()

    def show_preset(self, name: str) -> dict[str, Any]:
        return self._preset(name).as_dict()

    def delete_preset(self, name: str) -> None:
        preset = self._preset(name, damaged=True)
        if preset.built_in:
            raise Refusal(409, f"'{preset.title}' is built in.", "Only your own presets can be deleted.", "preset")
        self.presets.delete(preset.name)

    def _preset(self, name: str, damaged: bool = False) -> Any:
        wanted = name.strip().casefold()
        known = self.presets.list()
        if damaged:
            for preset in known:
                if wanted in (preset.name.casefold(), preset.title.casefold()):
                    return preset
        try:
            return self.presets.get(name)
        except UserError as error:
            raise Refusal(404, error.problem.message, error.problem.remedy, "preset") from None

    def read_import(self, text: str) -> dict[str, Any]:
        return read.read(text, self.host.bases(), may_look=not self.host.restricted()).as_dict()

    # --- checks and new runs ---

    def check(self, values: Mapping[str, Any], deep: bool = False) -> dict[str, Any]:
        """The plan and every problem of a config. Raises a Refusal (403) for paths that the host keeps back."""
        completed, choices, entries, problems = complete(values, self.host, self.runs_dir)
        count = picture_entries.trained(entries)
        clashes = word_conflicts.taken(completed, entries, self.host.folders().get("textual_inversion"))
        warned = [*config_warnings.warnings(completed, count), *picture_entries.warnings(completed, entries), *clashes]
        warned += model_files.replaced(completed, self.host.folders().get(KINDS[completed.method]))
        warnings = [warning.as_dict() for warning in warned]
        plan = {
            "steps": completed.max_train_steps,
            "pictures": count,
            "class_pictures": sum(e.is_class for e in entries),
        }
        answer: dict[str, Any] = {}
        if (
            deep
            and (completed.base_model or completed.method not in PROMPTED_METHODS)
            and not any(p.field in ("base_model", "runs_dir") for p in problems)
        ):
            answer = self._inspect(config_checks.usable(completed, problems), count)
            found = [Problem(**item) for item in answer["problems"]]
            problems += config_checks.independent(found, problems)
            warnings += [{"field": "", "message": text, "remedy": ""} for text in answer["warnings"]]
            plan |= answer["plan"]
        card = self.mending.status()["device"]
        return {
            "plan": plan,
            "problems": [problem.as_dict() for problem in problems],
            "warnings": warnings,
            "filled_in": {name: {"value": choice.value, "reason": choice.reason} for name, choice in choices.items()},
            "estimate": time_estimate.seconds(self.runs_dir, completed, answer.get("plan", {}), card),
            "superseded": bool(answer.get("superseded")),
        }

    def create(self, values: Mapping[str, Any], **wanted: Any) -> Run:
        """A new run at the end of the queue. Raises `Problems` (422) with everything that is wrong."""
        self._check_environment()
        completed, _, entries, problems = complete(values, self.host, self.runs_dir)
        chosen = self._wishes(wanted)
        folder = self.host.folders().get(KINDS[completed.method])  # there is none for what no WebUI can load
        if chosen.publish and folder and not any(problem.field in ("name", "save_format") for problem in problems):
            try:
                model_files.check_ours(folder / completed.model_file(completed.name))
            except UserError as error:
                problems.append(error.problem)
        if problems:
            raise Problems(problems)
        self.inspector.close()  # the memory that its process holds is the training's now
        run = self.dispatcher.submit(run_folder.absolute(completed), chosen)
        self.planned.note(run, *self._expect(completed, picture_entries.trained(entries)))
        for folder in _picture_folders(run):
            self.sets.use(Path(folder))
        return run

    def _expect(self, config: RunConfig, count: int) -> tuple[int | None, float | None]:
        """Steps and seconds of a completed config, as far as the last check knows them."""
        usable, _ = completion.complete(config, count)
        plan = self.inspector.known(run_folder.absolute(usable)).get("plan", {})
        seconds = time_estimate.seconds(self.runs_dir, config, plan, self.mending.status()["device"])["seconds"]
        return plan.get("steps", config.max_train_steps), seconds

    def _inspect(self, config: RunConfig, count: int) -> dict[str, Any]:
        self._check_environment()
        usable, _ = completion.complete(config, count)
        return self.inspector.inspect(run_folder.absolute(usable))

    def _check_environment(self) -> None:
        """Raises a Refusal (503) unless the trainer can run, or soon will."""
        status = self.mending.status()
        if status["state"] == "ready":
            return
        if self.mending.is_building():
            raise Refusal(503, "The trainer's environment is being made.", "Wait until it is ready.", "environment")
        raise Refusal(503, status["reason"], "Repair the environment: the tab has a button for it.", "environment")

    def _wishes(self, wanted: Mapping[str, Any], before: Wishes | None = None) -> Wishes:
        """What is to be done with a run, as asked, else as before, else as the host's options say."""
        chosen = before or Wishes(**{name: self.host.option(name) for name in WISHED})
        given = {name: value for name, value in wanted.items() if value is not None}
        for name in ("publish", "intermediate"):
            if not isinstance(given.get(name, True), bool):
                raise UserError(name, "is neither true nor false.", "Give true or false.")
        for name in ("select", "while_training"):
            if not isinstance(given.get(name, ""), str):
                raise UserError(name, "is not a text.", "Leave it out, or choose one of its values.")
        return chosen.but(**given)

    # --- runs ---

    def runs(self, since: str = "") -> dict[str, Any]:
        """`Catalogue.changed`."""
        return self.catalogue.changed(since)

    def curves(self, id: str, first: int | None, last: int | None, points: int | None) -> dict[str, Any]:
        """All of a run at once, thinned out, or closely from one step to another (`curves`)."""
        path = self.catalogue.find(id).path / "events.jsonl"
        if first is None and last is None:
            return self._curves.whole(path)
        return self._curves.part(path, first or 0, LAST if last is None else last, points or POINTS)

    def run(self, id: str) -> dict[str, Any]:
        run = self.catalogue.find(id)
        known = job_options.read(run)
        chosen = known and {name: getattr(known, name) for name in WISHED}
        return {**self.catalogue.describe(run), "path": str(run.path), "wishes": chosen}

    def config(self, id: str) -> dict[str, Any]:
        return self.catalogue.find(id).config.as_dict()

    def pictures_of(self, id: str) -> dict[str, Any]:
        """What has changed among a run's own pictures since it was queued; changes: None where nothing was noted."""
        run = self.catalogue.find(id)
        listed = picture_list.noted(run.path, are_class=False)
        entries, problems = picture_entries.entries(run.config)
        if problems and not entries:
            raise Problems(problems)
        if listed is None:
            return {"count": len(entries), "changes": None}
        changes = picture_list.compare(listed, [entry for entry in entries if not entry.is_class])[1]
        return {"count": changes.count, "changes": {name: list(names) for name, names in changes.names().items()}}

    def events(self, id: str, after: int = 0) -> dict[str, Any]:
        """By pages: ask again with "next" while there are "more"."""
        found, more = self._events.page(self.catalogue.find(id).path / "events.jsonl", after)
        return {"events": found, "next": found[-1]["n"] if found else after, "more": more}

    def log(self, id: str, after: int | None = None) -> dict[str, Any]:
        return text_page(self.catalogue.find(id).path / "log.txt", after)

    def report(self, id: str) -> dict[str, Any]:
        """The text for an issue about a run."""
        return {"text": report.report(self.catalogue.find(id), self.mending.status(), self.host.name)}

    def sample(self, id: str, step: str, file: str) -> tuple[Path, str]:
        """(file, media type) of a preview picture. Raises a Refusal (404)."""
        run = self.catalogue.find(id)
        path = run.samples / step / file if step.isascii() and step.isdigit() and is_component(file) else run.samples
        kind = SHOWN_TYPES.get(path.suffix.lower())
        if not kind or not path.is_file() or not path_policy.inside(path, [run.samples]):
            raise Refusal(404, f"there is no preview {file[:80]!r} of step {step[:20]}.", "Reload the page.", "file")
        return path, kind

    def artifacts(self, id: str) -> dict[str, Any]:
        """What the run made and still has.

        Each with the place where it is `published`, None where it is not or not any more, and whether the host has
        `selected` it now.
        """
        run = self.catalogue.find(id)
        places, latest = {}, {}
        for event in of_kinds(run.path / "events.jsonl", "artifact", "published"):
            if event["type"] == "published":
                places[event.get("name")] = event.get("path")
            else:
                latest[event["file"]] = event
        there = [event for file, event in latest.items() if (run.artifacts / file).exists()]
        current = self.host.current_base()
        return {"artifacts": [self._placed(run, event, places.get(event["name"]), current) for event in there]}

    def _placed(self, run: Run, event: dict[str, Any], place: str | None, current: str) -> dict[str, Any]:
        is_there = place and unpublish.is_published(run.artifacts / event["file"], Path(place), run.id)
        published = place if is_there else None
        return {**event, "published": published, "selected": bool(published) and same_path(published, current)}

    def _artifact(self, id: str, file: str) -> dict[str, Any]:
        for artifact in self.artifacts(id)["artifacts"]:
            if artifact["file"] == file:
                return artifact
        raise Refusal(404, f"{id} has no artifact {file[:80]!r}.", "GET its artifacts lists them.", "artifact")

    def publish(self, id: str, file: str, select: bool) -> dict[str, Any]:
        self._artifact(id, file)
        path = str(self.dispatcher.publish(self.catalogue.find(id), file, select))
        done = [item for item in self.dispatcher.published if item["path"] == path]
        # what could not be selected is published all the same, and a warning of the run says why
        return {"path": path, "selected": bool(done and done[-1]["selected"]), "revision": self.dispatcher.revision}

    def unpublish(self, id: str, file: str) -> dict[str, Any]:
        """Take one artifact out of the host's folders; it stays in the run. Raises a Refusal (404, 409)."""
        run, place = self.catalogue.find(id), self._artifact(id, file)["published"]
        if not place:
            raise Refusal(404, f"'{file}' is not in the WebUI as this run's model.", "Reload the page.", "artifact")
        path = Path(place)
        why = "" if path.parent in self.host.folders().values() else f"{path.parent} is no folder of {self.host.name}."
        why = why or self.host.needs(path) or self._needed_as_base(path)
        if why:
            raise Refusal(409, why, "Choose another model there first, or wait for the run.", "artifact")
        removed = self.dispatcher.unpublish(run, file, path)
        return {"path": place, "removed": removed, "revision": self.dispatcher.revision}

    def _needed_as_base(self, path: Path) -> str:
        for run in [*self.dispatcher.running, *map(self._quietly, self.dispatcher.queue())]:
            if run and same_path(_base_of(run), str(path)):
                return f"The run {run.id} trains on {path.name}."
        return ""

    def draw(self, id: str, file: str, wanted: dict[str, int]) -> None:
        """Let a run's unconditional model draw (`Drawing.start`). Raises a Refusal (409) while a training runs."""
        run = self.catalogue.find(id)
        self._artifact(id, file)
        if self.dispatcher.active:
            message = f"the run {self.dispatcher.active.id} trains, and needs the memory."
            raise Refusal(409, message, "Wait for it, or stop it first.", "artifact")
        self._check_environment()
        self.drawing.start(run, file, wanted)

    def drawn(self, id: str) -> dict[str, Any]:
        return self.drawing.status(self.catalogue.find(id))

    def drawn_picture(self, id: str, artifact: str, file: str) -> tuple[Path, str]:
        """(file, media type) of one of them. Raises a Refusal (404)."""
        run = self.catalogue.find(id)
        folder = run.path / DRAWN
        path = folder / artifact / file if is_component(artifact) and is_component(file) else folder
        if path.suffix != ".png" or not path.is_file() or not path_policy.inside(path, [folder]):
            raise Refusal(404, f"there is no picture {file[:80]!r} of {artifact[:80]!r}.", "Reload the page.", "file")
        return path, "image/png"

    def command(
        self,
        id: str,
        command: str,
        total: int | None = None,
        wanted: Mapping[str, Any] | None = None,
        new_pictures: bool = False,
    ) -> None:
        """One of RUN_COMMANDS; `total`: the step up to which "continue" trains in all. new_pictures: "resume" and
        "continue" take pictures and captions as they are now."""
        run = self.catalogue.find(id)
        if command not in RUN_COMMANDS:
            raise UserError("command", f"cannot be {command[:40]!r}.", f"Choose one of {', '.join(RUN_COMMANDS)}.")
        with self._changing:
            state = run.state()
            if command in ("resume", "continue"):
                self._go_on(run, state, command, total, wanted or {}, new_pictures)
            elif command in ("stop", "stop_and_save") and state["status"] == "queued":
                self.dispatcher.cancel(run)
            elif command == "kill" and (state["status"] not in ENDED or run.is_held()):
                self._kill(run)  # also a worker that is stuck at its start, and does not count as alive yet
            elif command in ("stop", "stop_and_save") and only_hangs(run, state):
                self._kill(run)
            elif not run.is_alive(state):
                raise Refusal(409, f"{id} is {state['status']}: nothing is training it.", "Resume it first.", "command")
            else:
                self.dispatcher.command(run, command)

    def give_link(self, id: str, link: str) -> None:
        """The whole link of a run's base, for its next worker: a run's folder holds no tokens and passwords. Raises a
        Refusal (403) where links are refused."""
        run = self.catalogue.find(id)
        path_policy.check_paths(RunConfig(base_model=link), self.host)
        self.dispatcher.remember(run, [links.again(link, run.config.base_model, id)])

    def _kill(self, run: Run) -> None:
        try:
            self.dispatcher.kill(run)
        except UserError as error:
            raise Refusal(409, error.problem.message, error.problem.remedy, "command") from error

    def _end(self, run: Run) -> None:
        """Kill a worker and wait until everybody has let go of its run."""
        self._kill(run)
        deadline = time.monotonic() + GOING
        while (run.is_held() or run.is_followed()) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _go_on(
        self,
        run: Run,
        state: dict[str, Any],
        command: str,
        total: int | None,
        wanted: Mapping[str, Any],
        new_pictures: bool,
    ) -> None:
        if state["status"] == "queued" or run.is_alive(state) or run.is_followed():
            raise Refusal(409, f"{run.id} is {state['status']} already.", "Wait for it, or stop it first.", "command")
        if command == "resume" and "done" in (state["status"], run.last_word()) and total is None:
            raise Refusal(409, f"{run.id} is done.", "Use the command continue with more max_train_steps.", "command")
        if command == "continue" and total is None:
            raise UserError("max_train_steps", "is missing.", "Give the step to train up to in all.")
        if total is not None and total <= state["step"]:
            message = f"{run.id} is at step {state['step']} already."
            raise UserError("max_train_steps", message, "Give a larger number.")
        most = SETTINGS["max_train_steps"].maximum
        if total is not None and most is not None and total > most:
            raise UserError("max_train_steps", "is more than any training needs.", f"Give {most:.0f} at most.")
        self._check_environment()
        chosen = self._wishes(wanted, job_options.read(run)) if wanted or not job_options.read(run) else None
        if new_pictures:
            picture_list.forget(run.path)
        self.dispatcher.resume(run, chosen, total)

    def delete(self, id: str) -> None:
        run = self.catalogue.find(id)
        with self._changing:
            try:
                state = run.state()
                if only_hangs(run, state):
                    self._end(run)
                elif run.is_alive(state):
                    raise Refusal(409, f"{id} is still training.", "Stop it first.", "run")
                if state["status"] == "queued":
                    self.dispatcher.cancel(run)
            except FAULTS as error:  # a damaged run can only be deleted
                if isinstance(error, Refusal):
                    raise
            self.dispatcher.delete(run)
        self.catalogue.forget(run)
        self._events.forget(run.path / "events.jsonl")
        self._curves.forget(run.path / "events.jsonl")

    def open_folder(self, id: str) -> None:
        """Show the run's folder in this machine's file manager."""
        path = self.catalogue.find(id).path
        if os.name == "nt":
            os.startfile(path)
            return
        opener = "open" if sys.platform == "darwin" else "xdg-open"
        try:
            subprocess.Popen([opener, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            raise Refusal(409, "this machine has no file manager.", f"The folder is {path}.") from None

    # --- queue ---

    def queue(self) -> dict[str, Any]:
        """`active`: what began last of those that are `running`, one a device; `trouble`: what is wrong with it."""
        running, waiting = [self._shown(run) for run in self.dispatcher.running], self.dispatcher.queue()
        active = running[-1] if running else None
        return {
            "active": active,
            "running": running,
            "queue": waiting,
            "planned": self.planned.of([*(run["id"] for run in running), *waiting]),
            "waiting": self.dispatcher.waiting,
            "trouble": active and active["trouble"],
            "models_away": self.host.models_away(),
        }

    def _shown(self, run: Run) -> dict[str, Any]:
        """A run that trains, with its worker's trouble and `since` when it has the device."""
        try:
            known = self.catalogue.brief(run)
        except FAULTS:
            known = {"id": run.id}
        return {**known, "trouble": self.dispatcher.trouble(run), "since": self.dispatcher.since(run)}

    def reorder(self, ids: list[str]) -> dict[str, Any]:
        """Train these first, in this order."""
        strangers = sorted(set(ids) - set(self.dispatcher.queue()))
        if strangers:
            message = f"{strangers[0][:100]!r} does not wait in the queue."
            raise Refusal(409, message, "Look at the queue again.", "order")
        self.dispatcher.order(ids)
        return self.queue()

    # --- pictures ---

    def list_pictures(self, name: str | None, folder: str | None, start: int) -> dict[str, Any]:
        """A set's, or those of a folder of this machine; without either, all sets."""
        if name:
            return self.sets.list(name, start)
        if not folder:
            return {"sets": self.sets.sets()}
        path_policy.check_paths(RunConfig(instance_data_dir=folder), self.host)
        return self.sets.list_folder(Path(os.path.abspath(os.path.expanduser(folder))), start)

    def picture(self, name: str, picture: str, folder: str | None) -> Path:
        """The file of a set's picture, or of one in a folder that `list_pictures` showed. Raises a Refusal."""
        if not folder:
            return self.sets.picture(name, picture)
        path_policy.check_paths(RunConfig(instance_data_dir=folder), self.host)
        if not all(map(is_component, picture.split("/"))):
            raise Refusal(404, f"there is no picture {picture[:80]!r} in this folder.", "Reload the page.", "name")
        path = Path(os.path.abspath(os.path.expanduser(folder)), picture)
        path_policy.check_paths(RunConfig(instance_data_dir=str(path)), self.host)
        if path.suffix.lower() not in picture_entries.EXTENSIONS or not path.is_file():
            raise Refusal(404, f"there is no picture {picture[:80]!r} in this folder.", "Reload the page.", "name")
        return path

    def delete_pictures(self, name: str, picture: str | None = None, stamp: str = "") -> None:
        """A set or one of its pictures. Raises a Refusal (409) while a run needs them; `stamp`: see `PictureSets`."""
        folder = self.sets.path(name)
        for run in [*self.dispatcher.running, *map(self._quietly, self.dispatcher.queue())]:
            if run and any(path_policy.inside(path, [folder]) for path in _picture_folders(run)):
                raise Refusal(409, f"the run {run.id} needs these pictures.", "Wait for it, or stop it first.")
        self.sets.delete(name, picture, stamp)

    def _quietly(self, id: str) -> Run | None:
        try:
            return self.catalogue.find(id)
        except UserError:
            return None


def only_hangs(run: Run, state: Mapping[str, Any]) -> bool:
    """Whether a worker has said its last word and does not end: a driver that does not let go. It loses nothing."""
    return run.is_held() and (state["status"] in ENDED or run.last_word() is not None)


class Problems(UserError):
    """Everything that is wrong with a config."""

    def __init__(self, problems: list[Problem]):
        first = problems[0]
        super().__init__(first.field, first.message, first.remedy)
        self.problems = problems


def _picture_folders(run: Run) -> list[str]:
    try:
        return [
            concept.instance_data_dir for concept in picture_entries.concepts(run.config) if concept.instance_data_dir
        ]
    except FAULTS:
        return []


def _base_of(run: Run) -> str:
    try:
        return run.config.base_model
    except FAULTS:
        return ""


def same_path(one: str, other: str) -> bool:
    return bool(one and other) and os.path.normcase(os.path.abspath(one)) == os.path.normcase(os.path.abspath(other))
