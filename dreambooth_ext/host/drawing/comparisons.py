"""Comparisons: the same prompts and seeds by the base and by models, each kept in a folder of the runs' folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.config import links
from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.messages.message import beside
from ...core.runs.run_folder import base_name
from ...core.system import files
from ..errors import Refusal
from ..hosts import path_policy
from ..hosts.host import Host
from ..runs.run_index import is_component
from . import comparison_request, votes
from .comparison_request import Finder, Request
from .device_jobs import RUNNING, DeviceJobs, Task

FOLDER = "comparisons"  # in the runs' folder
ABOUT = "comparison.json"  # what was asked for, and how it ended
SHEET = "sheet.png"  # of the verb
KIND = "compare"
LONGEST_NAME = 200


class Comparisons:
    """Starts, lists, shows and deletes comparisons, and keeps the votes on them."""

    def __init__(self, host: Host, jobs: DeviceJobs, runs_dir: Path, find: Finder):
        """find: gives a run and the event of one of its models; raises a Refusal (404)."""
        self.host, self.jobs, self.find = host, jobs, find
        self.folder = runs_dir / FOLDER

    def start(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Begin one; answers as `show`. Raises what `comparison_request.read` and `DeviceJobs.start` do."""
        request = comparison_request.read(asked, self.host, self.find)
        name = asked.get("name") or ""
        if not isinstance(name, str):
            raise UserError("web.not_text", "name", name="name")
        if len(name) > LONGEST_NAME:
            raise UserError("drawing.too_long", "name", most=LONGEST_NAME)
        place = self._fresh()
        words, variables = links.handed(request.words(place))
        pictures = [place / file for _, _, _, file in grid(request.names, request.prompts, request.seeds)]
        task = Task(
            KIND,
            place.name,
            words,
            self.jobs.dispatcher.device_called(request.options.device),
            self.host.option("while_training"),
            variables,
            frozenset(model.run for model in request.models if model.run),
            total=len(pictures),
            done=lambda: sum(path.exists() for path in pictures),
            ended=lambda state, problem: self._note_end(place, state, problem),
        )
        self.jobs.start(task, lambda: self._note(place, name.strip(), request))
        return self.show(place.name)

    def _fresh(self) -> Path:
        stem = time.strftime("%Y%m%d-%H%M%S")
        names = [stem, *(f"{stem}-{number}" for number in range(2, 100))]
        return next(place for name in names if not (place := self.folder / name).exists())

    def _note(self, place: Path, name: str, request: Request) -> None:
        base = {"name": request.names[0], "file": base_name(request.base), "kind": ""}
        models = [{"name": key, **model.about()} for key, model in zip(request.names[1:], request.models, strict=True)]
        about = {"name": name, "created": time.time(), "state": "running", "problem": "", "base": base}
        place.mkdir(parents=True)
        files.write_json(place / ABOUT, {**about, "models": models, "prompts": request.prompts, "seeds": request.seeds})

    def _note_end(self, place: Path, state: str, problem: str) -> None:
        known = files.read_json(place / ABOUT)
        files.write_json(place / ABOUT, {**known, "state": state, **beside("problem", problem)})

    # --- what there is

    def list(self) -> dict[str, Any]:
        """All of them, newest first, without their pictures."""
        found = []
        for id in sorted(_names(self.folder), reverse=True):
            try:
                told = self.show(id)
            except UserError:  # a folder that is no comparison, or a damaged one
                continue
            found.append({name: value for name, value in told.items() if name != "pictures"})
        return {"comparisons": found}

    def show(self, id: str) -> dict[str, Any]:
        """One with every picture that is there by now. Raises a Refusal (404)."""
        place = self._find(id)
        about = self._about(place)
        job = self.jobs.of(KIND, id)
        count = votes.counted(votes.read(place / votes.FILE))
        listed = [{"weight": None, "run": "", "step": 0, **about["base"]}, *about["models"]]
        models = [{**model, "votes": count.get(model["name"])} for model in listed]
        cells = list(grid([model["name"] for model in models], about["prompts"], about["seeds"]))
        known = set(_names(place))
        pictures = [
            {"model": model, "prompt": prompt, "seed": seed, "file": file}
            for model, prompt, seed, file in cells
            if file in known
        ]
        going_on = bool(job and job["state"] in RUNNING)
        state = job["state"] if job and going_on else about["state"]
        return {
            "id": id,
            "name": about["name"],
            "created": about["created"],
            "state": "stopped" if state in RUNNING and not going_on else state,  # this program ended meanwhile
            **{name: value for name, value in about.items() if name.startswith("problem")},
            "models": models,
            "prompts": about["prompts"],
            "seeds": about["seeds"],
            "done": len(pictures),
            "total": len(cells),
            "sheet": SHEET in known,
            "size": files.size(place),
            "pictures": pictures,
        }

    def _find(self, id: str) -> Path:
        place = self.folder / id if is_component(id) else None
        if place is None or not (place / ABOUT).is_file() or not path_policy.inside(place, [self.folder]):
            raise Refusal(404, "drawing.no_comparison", "comparison", id=shown(id))
        return place

    def _about(self, place: Path) -> dict[str, Any]:
        try:
            about = files.read_json(place / ABOUT)
            fits = isinstance(about["base"], dict) and isinstance(about["created"], int | float)
            lists = {"models": dict, "prompts": str, "seeds": int}
            if fits and all(isinstance(one, kind) for name, kind in lists.items() for one in list(about[name])):
                return about
        except (OSError, ValueError, LookupError, TypeError):
            pass
        raise Refusal(404, "drawing.no_comparison", "comparison", id=shown(place.name))

    def picture(self, id: str, file: str) -> tuple[Path, str]:
        """(file, media type) of a picture or the sheet. Raises a Refusal (404)."""
        place = self._find(id)
        path = place / file if is_component(file) else place
        if path.suffix != ".png" or not path.is_file() or not path_policy.inside(path, [place]):
            raise Refusal(404, "drawing.no_picture", "file", file=shown(file))
        return path, "image/png"

    # --- what users do with it

    def vote(self, id: str, vote: Mapping[str, Any]) -> dict[str, Any]:
        """Keep one more vote; answers with the count by model: {"votes": {name: {"shown", "better"}}}."""
        place = self._find(id)
        return {"votes": votes.counted(votes.add(place / votes.FILE, vote, self.show(id)["pictures"]))}

    def delete(self, id: str) -> None:
        """Raises a Refusal (409) while it is being drawn."""
        place = self._find(id)
        self.jobs.check_unused(id)
        files.remove(place)

    def votes_of(self, run: str) -> dict[str, dict[str, int]]:
        """By file of a run's models: in how many pairs of all comparisons it was `shown`, in how many `better`."""
        found: dict[str, dict[str, int]] = {}
        for model in (model for told in self.list()["comparisons"] for model in told["models"]):
            if model["run"] == run and model["votes"]:
                count = found.setdefault(model["artifact"], {"shown": 0, "better": 0})
                for name in count:
                    count[name] += model["votes"][name]
        return found


def grid(names: list[str], prompts: list[str], seeds: list[int]) -> Iterator[tuple[str, int, int, str]]:
    """(model, prompt's number, seed, file) of every picture, as the verb names them."""
    for prompt in range(len(prompts)):
        for seed in seeds:
            for name in names:
                yield name, prompt, seed, f"{name}_{prompt}_{seed}.png"


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
