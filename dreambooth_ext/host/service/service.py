"""The service for the tab, the API and other programs: runs, queue, checks, presets, pictures, the environment.

It knows no HTTP: values are JSON types, and what cannot be done raises a `Refusal` or a `UserError`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.messages.message import beside
from ...core.runs.events import PROTOCOL
from ...core.runs.run_folder import Run
from ...core.version import __version__
from ..captions import tagging, trained_captions
from ..captions.caption_editing import CaptionEditing
from ..captions.tagging import Tagging
from ..captions.word_check import WordCheck
from ..downloads.downloads import Downloads
from ..drawing.comparisons import Comparisons
from ..drawing.device_jobs import DeviceJobs
from ..drawing.drawing_job import DrawingJob
from ..drawing.idle_judge import IdleJudge
from ..drawing.verdicts import Verdicts
from ..environment.environment import Environment
from ..environment.maintenance import Maintenance
from ..errors import Refusal
from ..hosts import host_limits, model_lists, path_policy
from ..hosts.options import OPTIONS
from ..jobs import planned_time, queue
from ..jobs.dispatcher import Dispatcher
from ..jobs.planned_time import PlannedTimes
from ..pictures.copy_jobs import CopyJobs
from ..pictures.edits import PictureEdits
from ..pictures.findings import PictureFindings
from ..pictures.picture_worker import PictureWorker
from ..pictures.uploads import PictureSets
from ..runs.run_index import FAULTS, RunIndex
from . import preset_store, schema
from .config_completion import complete_form
from .deep_check import DeepCheck
from .models import Models
from .new_runs import NewRuns
from .picture_folders import PictureFolders
from .preset_store import Presets
from .run_commands import RunCommands
from .runs import Runs

if TYPE_CHECKING:
    from ..hosts.host import Host

SHOWN_OF_ENVIRONMENT = ("state", "reason", "reason_code", "reason_values", "building", "problem")  # every second


class Service:
    """The service of one host and its process; every method may be called from any thread, and may take long.

    Operations on runs, models and pictures are in its parts: `new_runs`, `runs`, `commands`, `models`, `pictures`,
    `comparisons`, `verdicts`, `edits`.
    """

    def __init__(self, host: Host, environment: Environment | None = None, dispatcher: Dispatcher | None = None):
        self.host = host
        self.environment = environment or Environment()
        self.runs_dir = host.runs_folder()
        self.dispatcher = dispatcher or Dispatcher(self.runs_dir, self.environment, host)
        self.run_index = RunIndex(self.runs_dir, lambda: host.folders().values())
        self.maintenance = Maintenance(self.environment)
        self.deep_check = DeepCheck(self.environment, self.runs_dir)
        self.drawing = DeviceJobs(self.environment, host, self.dispatcher)
        self.drawing.before = self.deep_check.close  # its process holds memory
        self.presets = Presets(host.data_folder() / preset_store.FOLDER)
        self.sets = PictureSets(path_policy.pictures_folder(host))
        self.picture_worker = PictureWorker(self.environment)
        self.findings = PictureFindings(self.picture_worker)
        self.edits = PictureEdits(self.sets, self.picture_worker.ask)
        self.planned_times = PlannedTimes(self.runs_dir)
        self._lists = model_lists.Mark(self.about_host)
        self.new_runs = NewRuns(host, self.dispatcher, self.maintenance, self.deep_check, self.planned_times, self.sets)
        self.runs = Runs(self.run_index, self.maintenance, host.name)
        self.commands = RunCommands(host, self.run_index, self.dispatcher, self.maintenance)
        self.models = Models(host, self.run_index, self.dispatcher, self.maintenance, DrawingJob(self.drawing))
        self.comparisons = Comparisons(host, self.drawing, self.runs_dir, self.models.find)
        self.verdicts = Verdicts(host, self.drawing, self.comparisons, self.run_index.find)
        self.idle_judge = IdleJudge(host, self.dispatcher, self.drawing, self.verdicts, self.maintenance)
        self.captions = CaptionEditing(host, self.sets)
        self.words = WordCheck(host, self.drawing, self.runs_dir)
        self.downloads = Downloads(host, self.environment)
        self.tagging = Tagging(host, self.sets, self.drawing, self.downloads)
        self.copies = CopyJobs(self.sets, self.picture_worker.ask)
        self.pictures = PictureFolders(host, self.run_index, self.dispatcher, self.sets, self.copies)

    def start(self) -> None:
        """Start training queued runs. Does nothing if already started."""
        self.dispatcher.start()
        self.idle_judge.start()
        self.downloads.start()

    def close(self) -> None:
        self.copies.close()
        self.downloads.close()
        self.idle_judge.close()
        self.dispatcher.close()
        self.drawing.close()
        self.deep_check.close()
        self.picture_worker.close()

    def delete(self, id: str) -> None:
        """Delete a run with everything it made, except published models."""
        run = self.run_index.find(id)
        self.drawing.check_unused(id)
        self.commands.delete(run)
        self.runs.forget(run)

    # --- what there is ---

    def version(self) -> dict[str, Any]:
        return {"version": __version__, "protocol": PROTOCOL, "host": self.host.name}

    def about_host(self) -> dict[str, Any]:
        lacks = self.host.lacks()
        return {
            "name": self.host.name,
            "version": __version__,
            "bases": host_limits.told(self.host.bases(), lacks),
            "current": self.host.current_base(),
            "files": model_lists.files(self.host.folders()),
            "folders": {kind: str(path) for kind, path in self.host.folders().items()},
            "runs_folder": str(self.runs_dir),
            "publishing": self.host.publishing(),
            "lacks": {kind: beside("reason", why) for kind, why in lacks.items()},
            **beside("restricted", self.host.restricted()),
            "devices": self.maintenance.status()["devices"],
            "options": {option.name: self.host.option(option.name) for option in OPTIONS if not option.is_secret},
        }

    def publish_into(self, folder: str) -> dict[str, Any]:
        """Choose where models go, where there is no WebUI around; what `about_host` says then. Raises UserError."""
        if why := self.host.restricted():
            raise Refusal(403, "service.path_restricted", "folder", reason=why)
        self.host.publish_into(folder)
        return self.about_host()

    def schema(self) -> dict[str, Any]:
        return schema.schema()

    def state(self) -> dict[str, Any]:
        """What a page asks for every second. "lists" changes whenever the answer of GET host does."""
        environment = self.maintenance.status()
        return {
            "version": __version__,
            "time": time.time(),
            "revision": self.dispatcher.revision,
            "published": self.dispatcher.published,
            "lists": self._lists(),
            "job": self.drawing.status(),
            "jobs_ended": self.drawing.ended,
            "downloads": self.downloads.state(),
            **self.queue(),
            "environment": {key: known for key, known in environment.items() if key in SHOWN_OF_ENVIRONMENT},
        }

    def mend(self, action: str) -> None:
        """Repair or verify the environment in a thread. Raises a Refusal (409) if that would disturb a run or another
        program."""
        if action == "repair" and (job := self.drawing.current):
            raise Refusal(409, "drawing.busy", "action", reason=job.task.reason)
        if action == "repair" and self.dispatcher.running:
            raise Refusal(409, "service.environment_in_use", "action", run=self.dispatcher.running[-1].id)
        if action == "repair":
            try:
                self.environment.check_unused()  # also by trainings from a terminal
            except UserError as error:
                raise Refusal.of(409, error.problem, "action") from error
        self.deep_check.close()  # its process holds files of the environment open
        self.picture_worker.close()  # and so does its
        self.maintenance.begin(action)

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
            raise Refusal(409, "service.preset_built_in", "preset", name=preset.title)
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
            raise Refusal.of(404, error.problem, "preset") from None

    def read_import(self, text: str) -> dict[str, Any]:
        from ..importers import read  # a WebUI's start has no use for them

        return read.read(text, self.host.bases(), may_look=not self.host.restricted()).as_dict()

    # --- captions and words ---

    def captions_as_trained(self, values: Mapping[str, Any], start: int) -> dict[str, Any]:
        """The captions of a config as they will be trained (`trained_captions.trained`)."""
        return trained_captions.trained(complete_form(values, self.host, self.runs_dir), start)

    def fetch_tagger(self, name: str) -> dict[str, Any]:
        """Begin to fetch a tagger from Hugging Face (`Tagging.fetch`)."""
        self.maintenance.check_ready()
        return self.tagging.fetch(name)

    def propose_captions(self, name: str, tagger: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Begin to let a tagger look at a set (`Tagging.start`)."""
        if not tagger.startswith(tagging.HOSTS):
            self.maintenance.check_ready()
        return self.tagging.start(name, tagger, options)

    def draw_word(self, word: str, base: str) -> dict[str, Any]:
        """Begin to draw what a base makes of a word (`WordCheck.draw`)."""
        self.maintenance.check_ready()
        return self.words.draw(word, base)

    # --- what draws ---

    def compare(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a comparison (`Comparisons.start`)."""
        self.maintenance.check_ready()
        return self.comparisons.start(asked)

    def judge(self, id: str, steps_only: bool, model: str | None) -> dict[str, Any]:
        """Begin to judge a run (`Verdicts.judge`); answers with its job."""
        self.maintenance.check_ready()
        return self.verdicts.judge(id, steps_only, model).status()

    def look_up(self, link: str, file: str) -> dict[str, Any]:
        """Look up what is behind a link to a model (`Downloads.look`)."""
        self.maintenance.check_ready()
        return self.downloads.look(link, file)

    def change_download(self, id: str, action: str, link: str, file: str) -> dict[str, Any]:
        """action: "look" (another `file` of several), "fetch", "pause" or "resume"."""
        if action == "pause":
            return self.downloads.pause(id)
        self.maintenance.check_ready()
        if action == "look":
            return self.downloads.look_again(id, file)
        if action == "resume":
            return self.downloads.resume(id, link)
        if action == "fetch":
            return self.downloads.fetch(id)
        raise UserError("web.no_choice", "action", value=shown(action), choices=["look", "fetch", "pause", "resume"])

    # --- the queue ---

    def queue(self) -> dict[str, Any]:
        """`active`: the newest of those that are `running`, one on each device; `trouble`: what is wrong with it."""
        having, waiting = self.dispatcher.running, self.dispatcher.queue()
        is_paused = self.dispatcher.is_paused
        running = [self._shown(run) for run in having]
        active = running[-1] if running else None
        return {
            "active": active,
            "running": running,
            "queue": waiting,
            "paused": is_paused,
            **self._timetable(having, waiting, is_paused),
            **beside("waiting", self.dispatcher.waiting),
            "trouble": active and active["trouble"],
            "models_away": self.host.models_away(),
            "models_loaded": self.host.models_loaded(),
        }

    def _timetable(self, having: list[Run], waiting: list[str], is_paused: bool) -> dict[str, Any]:
        """`planned`: steps and seconds of each run, and of one that waits, since when, and how many seconds until it
        `begins`; `seconds` until all are done. None where nobody knows."""
        planned = self.planned_times.of([*(run.id for run in having), *waiting])

        def job(run: Run, rest: float | None = None) -> planned_time.Job:
            if rest is None:
                known = planned.get(run.id, {})
                rest = planned_time.left(known.get("seconds"), known.get("steps"), *queue.place(run))
            return planned_time.Job(run.id, self.dispatcher.devices(run), rest)

        begins, seconds = planned_time.beginnings(
            [job(run, self.dispatcher.left(run)) for run in having], [job(Run(self.runs_dir / id)) for id in waiting]
        )
        since = self.dispatcher.waiting_since()
        for id in waiting:
            times = {"begins": None if is_paused else begins[id], "since": since.get(id)}
            planned[id] = {"steps": None, "seconds": None, **planned.get(id, {}), **times}
        return {"planned": planned, "seconds": seconds}

    def _shown(self, run: Run) -> dict[str, Any]:
        """A training run, with its worker's trouble and the time `since` which it has the device."""
        try:
            known = self.run_index.brief(run)
        except FAULTS:
            known = {"id": run.id}
        return {**known, "trouble": self.dispatcher.trouble(run), "since": self.dispatcher.since(run)}

    def reorder(self, ids: list[str]) -> dict[str, Any]:
        """Move these runs to the front of the queue, in this order."""
        strangers = sorted(set(ids) - set(self.dispatcher.queue()))
        if strangers:
            raise Refusal(409, "service.not_queued", "order", run=shown(strangers[0]))
        self.dispatcher.order(ids)
        return self.queue()

    def pause(self, paused: bool) -> dict[str, Any]:
        """Start nothing more after what trains now, until it is let go on."""
        self.dispatcher.pause(paused)
        return self.queue()
