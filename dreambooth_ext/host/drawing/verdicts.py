"""A run's verdict for the page: starts the verb `verdict`, and reads what it wrote into the run's folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.messages.message import catalogue
from ...core.runs.events import ENDED
from ...core.runs.run_folder import Run
from ...core.system import files
from ...core.verdict import verdict_file
from ..errors import Refusal
from ..hosts import path_policy
from ..hosts.host import Host
from ..runs.run_index import FAULTS, is_component
from . import votes
from .comparisons import Comparisons
from .device_jobs import DeviceJobs, Job, Task

KIND = "verdict"
SHOWN_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
NEAREST = re.compile(r"nearest_")  # begins the names of copies of training pictures
ARTIFACTS = "artifacts/"  # before a model's file in verdict.json
SMALL_BASE = 10**9  # bytes, up to which even a CPU draws in seconds


class Verdicts:
    """Judges runs, and shows and counts votes on what was judged."""

    def __init__(self, host: Host, jobs: DeviceJobs, comparisons: Comparisons, find: Callable[[str], Run]):
        """find: a run by its id; raises a Refusal (404)."""
        self.host, self.jobs, self.comparisons, self.find = host, jobs, comparisons, find

    def judge(self, id: str, steps_only: bool = False, model: str | None = None, is_automatic: bool = False) -> Job:
        """Start judging. model: the path of one that judges likeness, "" for the base, None for the host's option.

        Raises a Refusal (409) for a run that trains or made no model, and as `DeviceJobs.start`; 403 for a path that
        the caller may not name.
        """
        known = self.host.option("judge_model").strip()
        model = known if model is None else model.strip()
        if model not in ("", known) and (why := self.host.restricted()):
            raise path_policy.refused("judge", why)
        run = self.find(id)
        if run.state()["status"] not in ENDED or run.is_held():
            raise Refusal(409, "queue.training", "run", run=id)
        if not run.artifact_events():
            raise Refusal(409, "drawing.nothing_to_judge", "run", run=id)
        words = ["verdict", str(run.path), f"--device={run.config.device}"]
        words += ["--steps-only"] if steps_only else [f"--judge={model}"] if model else []
        mode = self.host.option("while_training")
        if is_automatic and mode == "refuse":
            mode = "wait"  # what nobody asked for must fail nobody's picture
        device = self.jobs.dispatcher.device_called(run.config.device)
        return self.jobs.start(Task(KIND, id, words, device, mode, is_automatic=is_automatic))

    def judge_when_idle(self, run: Run) -> Job:
        """From losses alone where there is nothing to choose from, or pictures would take hours."""
        is_slow = self.jobs.dispatcher.device_called(run.config.device) == "cpu" and is_large(run.config.base_model)
        return self.judge(run.id, len(run.artifact_events()) < 2 or is_slow, is_automatic=True)

    def is_judged(self, run: Run) -> bool:
        """Whether there is a verdict on all that the run has made."""
        try:
            judged = (run.path / verdict_file.FILE).stat().st_mtime
        except OSError:
            return False
        return all(event["time"] <= judged for event in run.artifact_events())

    # --- what the page shows

    def show(self, id: str) -> dict[str, Any]:
        """{"verdict": as in verdict.json, or None; "votes": by the models' files; "job"; "is_old": whether the run has
        made more since}."""
        run = self.find(id)
        verdict = read(run)
        if verdict and not self._shows_pictures(run):
            verdict["proof"] = [{**one, "nearest": None} for one in verdict.get("proof") or []]
        return {
            "verdict": verdict,
            "votes": self._votes(run, verdict or {}),
            "job": self.jobs.of(KIND, id),
            "is_old": bool(verdict) and not self.is_judged(run),
        }

    def _shows_pictures(self, run: Run) -> bool:
        """Whether strangers may see what the run learned from."""
        try:
            path_policy.check_paths(run.config, self.host)
        except FAULTS:
            return not self.host.restricted()
        return True

    def _votes(self, run: Run, verdict: Mapping[str, Any]) -> dict[str, dict[str, int]]:
        """Those of comparisons, and those on the verdict's own pictures."""
        found = self.comparisons.votes_of(run.id)
        by_step = {one.get("step"): one.get("file") for one in verdict.get("checkpoints") or []}
        for step, count in votes.counted(votes.read(run.path / votes.FILE)).items():
            if file := by_step.get(step):
                known = found.setdefault(file, {"shown": 0, "better": 0})
                for name in known:
                    known[name] += count[name]
        return found

    def picture(self, id: str, file: str) -> tuple[Path, str]:
        """(file, media type) of one of the verdict's pictures or curves. Raises a Refusal (404)."""
        run = self.find(id)
        folder = verdict_file.folder(run)
        path = folder / file if is_component(file) else folder
        is_hidden = NEAREST.match(file) and not self._shows_pictures(run)
        kind = SHOWN_TYPES.get(path.suffix)
        if is_hidden or not kind or not path.is_file() or not path_policy.inside(path, [folder]):
            raise Refusal(404, "drawing.no_picture", "file", file=shown(file))
        return path, kind

    def vote(self, id: str, vote: Mapping[str, Any]) -> dict[str, Any]:
        """Keep one more vote on the verdict's pictures, whose models are steps; answers with the votes as `show`."""
        run = self.find(id)
        verdict = read(run) or {}
        pictures = [{**one, "model": one.get("step")} for one in verdict.get("pictures") or []]
        votes.add(run.path / votes.FILE, vote, pictures)
        return {"votes": self._votes(run, verdict)}


def read(run: Run) -> dict[str, Any] | None:
    """The content of verdict.json with sentences that the page can translate, and files by their names alone; None
    without a verdict, or for one that cannot be read."""
    content = verdict_file.read(run)
    return told(content) if content and isinstance(content.get("sentence"), str) else None


def told(value: Any) -> Any:
    """ "message" beside "sentence" becomes the sentence's code and values; "next_run_message" likewise."""
    if isinstance(value, list):
        return [told(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: told(one) for name, one in value.items() if name != "message" and not name.endswith("_message")}
    for name in [name for name in found if name == "sentence" or name.endswith("_sentence")]:
        message = value.get(name.removesuffix("sentence") + "message")
        if isinstance(message, dict) and message.get("code") in catalogue():
            found |= {f"{name}_code": message["code"], f"{name}_values": message.get("values") or {}}
    for name in ("file", "nearest"):
        if isinstance(found.get(name), str):
            found[name] = found[name].removeprefix(ARTIFACTS).removeprefix(f"{verdict_file.FOLDER}/")
    return found


def is_large(base: str) -> bool:
    """Whether a base is so large that a CPU takes minutes for a picture; one that is not here counts as such."""
    try:
        return files.size(files.expanded(base)) > SMALL_BASE or not files.expanded(base).exists()
    except (OSError, ValueError, UserError):
        return True
