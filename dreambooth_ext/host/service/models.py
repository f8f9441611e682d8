"""The models that runs made: lists, publishes, unpublishes and draws with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.config.parsing import shown
from ...core.errors import Problem
from ...core.runs.run_folder import Run
from ...core.system import files
from ..drawing.drawing_job import FOLDER as DRAWN
from ..drawing.drawing_job import DrawingJob
from ..environment.maintenance import Maintenance
from ..errors import Refusal
from ..hosts import path_policy
from ..jobs.dispatcher import Dispatcher
from ..publishing import model_files, unpublish
from ..runs.event_pages import of_kinds
from ..runs.run_index import RunIndex, is_component
from .runs_ahead import base_of, runs_ahead

if TYPE_CHECKING:
    from ..hosts.host import Host


class Models:
    """Operations on models, by a run's id and the model's file in it."""

    def __init__(
        self, host: Host, index: RunIndex, dispatcher: Dispatcher, maintenance: Maintenance, drawing_job: DrawingJob
    ):
        self.host, self.run_index, self.dispatcher = host, index, dispatcher
        self.maintenance, self.drawing_job = maintenance, drawing_job

    def list(self, id: str) -> dict[str, Any]:
        """The models that a run made and that still exist.

        Each with the path where it is `published`, None if it is not or no longer, and whether the host has `selected`
        it now.
        """
        run = self.run_index.find(id)
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
        return {**event, "published": published, "selected": bool(published and same_path(published, current))}

    def find(self, id: str, file: str) -> tuple[Run, dict[str, Any]]:
        """A run and the event of one of its models. Raises a Refusal (404)."""
        run = self.run_index.find(id)
        for event in run.artifact_events():
            if event["file"] == file:
                return run, event
        raise Refusal(404, "service.no_model", "artifact", run=id, file=shown(file))

    def _artifact(self, id: str, file: str) -> dict[str, Any]:
        for artifact in self.list(id)["artifacts"]:
            if artifact["file"] == file:
                return artifact
        raise Refusal(404, "service.no_model", "artifact", run=id, file=shown(file))

    def publish(self, id: str, file: str, select: bool) -> dict[str, Any]:
        self._artifact(id, file)
        path = str(self.dispatcher.publish(self.run_index.find(id), file, select))
        done = [item for item in self.dispatcher.published if item["path"] == path]
        # what could not be selected is published all the same, and a warning of the run says why
        return {"path": path, "selected": bool(done and done[-1]["selected"]), "revision": self.dispatcher.revision}

    def unpublish(self, id: str, file: str) -> dict[str, Any]:
        """Remove one artifact from the host's folders; it stays in the run. Raises a Refusal (404, 409)."""
        run, place = self.run_index.find(id), self._artifact(id, file)["published"]
        if not place:
            raise Refusal(404, "service.not_published", "artifact", file=file)
        path = Path(place)
        if path.parent not in self.host.folders().values():
            raise Refusal(409, "service.not_of_host", "artifact", folder=path.parent, host=self.host.name)
        if problem := self.host.needs(path) or self._needed_as_base(path):
            raise Refusal.of(409, problem, "artifact")
        removed = self.dispatcher.unpublish(run, file, path)
        return {"path": place, "removed": removed, "revision": self.dispatcher.revision}

    def delete(self, id: str, file: str) -> dict[str, Any]:
        """Delete a model from its run's folder, with its sidecars; what is published stays. Raises a Refusal (404, 409:
        while the run trains, or another one is to begin with it)."""
        run = self.run_index.find(id)
        self._artifact(id, file)
        path = run.artifacts / file
        if run.is_alive() or run.is_followed() or id in self.dispatcher.queue():
            raise Refusal(409, "queue.busy", "artifact", run=id)
        if problem := self._needed_as_base(path):
            raise Refusal.of(409, problem, "artifact")
        self.drawing_job.jobs.check_unused(id)
        freed = files.size(path)
        unpublish.delete(path)
        for suffix in (*model_files.SIDECAR_SUFFIXES, model_files.CLIP):
            if (beside := model_files.sidecar(path, suffix)).exists():
                unpublish.delete(beside)
        return {"freed": freed}

    def _needed_as_base(self, path: Path) -> Problem | None:
        for run in runs_ahead(self.dispatcher, self.run_index):
            if same_path(base_of(run), str(path)):
                return Problem("service.base_of_run", "artifact", run=run.id, file=path.name)
        return None

    def draw(self, id: str, file: str, wanted: dict[str, int]) -> None:
        """Draw with a run's unconditional model (`DrawingJob.start`)."""
        run = self.run_index.find(id)
        self._artifact(id, file)
        self.maintenance.check_ready()
        self.drawing_job.start(run, file, wanted)

    def drawn(self, id: str) -> dict[str, Any]:
        return self.drawing_job.status(self.run_index.find(id))

    def drawn_picture(self, id: str, artifact: str, file: str) -> tuple[Path, str]:
        """(file, media type) of one drawn picture. Raises a Refusal (404)."""
        run = self.run_index.find(id)
        folder = run.path / DRAWN
        path = folder / artifact / file if is_component(artifact) and is_component(file) else folder
        if path.suffix != ".png" or not path.is_file() or not path_policy.inside(path, [folder]):
            raise Refusal(404, "service.no_drawn_picture", "file", picture=shown(file), file=shown(artifact))
        return path, "image/png"


def same_path(one: str, other: str) -> bool:
    return bool(one and other) and os.path.normcase(os.path.abspath(one)) == os.path.normcase(os.path.abspath(other))
