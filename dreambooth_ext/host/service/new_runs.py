"""Checks a config from a request (plan, problems, estimate) and creates a run from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.captions import word_warnings
from ...core.checks import config_checks, config_warnings
from ...core.config import paths
from ...core.config.run_config import RunConfig
from ...core.data import picture_entries
from ...core.data.concepts import Subjects
from ...core.errors import Problem, UserError
from ...core.facts.methods import MODEL_KINDS, PROMPTED_METHODS
from ...core.guide import completion
from ...core.messages.message import beside
from ...core.runs.run_folder import Run
from ..environment.maintenance import Maintenance
from ..errors import Problems
from ..hosts import host_limits
from ..jobs import time_estimate
from ..jobs.dispatcher import Dispatcher
from ..jobs.planned_time import PlannedTimes
from ..pictures.uploads import PictureSets
from ..publishing import model_files, word_conflicts
from .asked_options import options_for
from .config_completion import complete_form
from .deep_check import DeepCheck
from .runs_ahead import picture_folders

if TYPE_CHECKING:
    from ..hosts.host import Host


class NewRuns:
    """Checks configs and creates runs in the host's folder of runs."""

    def __init__(
        self,
        host: Host,
        dispatcher: Dispatcher,
        maintenance: Maintenance,
        deep_check: DeepCheck,
        planned_times: PlannedTimes,
        sets: PictureSets,
    ):
        self.host, self.runs_dir, self.dispatcher = host, dispatcher.runs_dir, dispatcher
        self.maintenance, self.deep_check, self.planned_times, self.sets = maintenance, deep_check, planned_times, sets

    def check(self, values: Mapping[str, Any], deep: bool = False) -> dict[str, Any]:
        """The plan and every problem of a config. Raises a Refusal (403) for paths that the host does not allow."""
        completed, choices, entries, problems, subjects = complete_form(values, self.host, self.runs_dir)
        count = picture_entries.trained(entries)
        problems += self._unusable(completed, problems) if self.host.option("publish") else []
        clashes = word_conflicts.taken(
            completed, entries, subjects.concepts, self.host.folders().get("textual_inversion")
        )
        warned = [
            *config_warnings.warnings(completed, count),
            *picture_entries.warnings(completed, entries, subjects),
            *word_warnings.warnings(completed, subjects),
            *clashes,
        ]
        warned += model_files.replaced(completed, self.host.folders().get(MODEL_KINDS[completed.method]))
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
            answer = self._inspect(config_checks.usable(completed, problems), count, subjects)
            found = [Problem.from_dict(item) for item in answer["problems"]]
            problems += config_checks.independent(found, problems)
            warnings += answer["warnings"]
            plan |= answer["plan"]
            if self.host.option("publish"):  # of a base that is a link, only its copy tells the family
                problems += self._unusable(completed, problems, answer["plan"].get("family", ""))
        card = self.maintenance.status()["device"]
        return {
            "plan": plan,
            "problems": [problem.as_dict() for problem in problems],
            "warnings": warnings,
            "filled_in": {name: {"value": c.value, **beside("reason", c.reason)} for name, c in choices.items()},
            "estimate": time_estimate.seconds(self.runs_dir, completed, answer.get("plan", {}), card),
            "superseded": bool(answer.get("superseded")),
        }

    def create(self, values: Mapping[str, Any], **wanted: Any) -> Run:
        """Create a run at the end of the queue. Raises `Problems` (422) with everything that is wrong."""
        self.maintenance.check_ready()
        completed, _, entries, problems, subjects = complete_form(values, self.host, self.runs_dir)
        chosen = options_for(self.host, wanted)
        folder = self.host.folders().get(MODEL_KINDS[completed.method])  # there is none for what no WebUI can load
        if chosen.publish:
            problems += self._unusable(completed, problems)
        if chosen.publish and folder and not any(problem.field in ("name", "save_format") for problem in problems):
            try:
                model_files.check_ours(folder / completed.model_file(completed.name))
            except UserError as error:
                problems.append(error.problem)
        if problems:
            raise Problems(problems)
        self.deep_check.close()  # the memory that its process holds is the training's now
        run = self.dispatcher.submit(paths.absolute(completed), chosen)
        self.planned_times.note(run, *self._expect(completed, picture_entries.trained(entries), subjects))
        for pictures in picture_folders(run):
            self.sets.use(Path(pictures))
        return run

    def _unusable(self, config: RunConfig, said: list[Problem], family: str | None = None) -> list[Problem]:
        """What the host could not use of that run's models, where they are to be put there."""
        found = host_limits.problems(self.host.lacks(), self.host.refused, config, family)
        return config_checks.independent(found, said)

    def _expect(self, config: RunConfig, count: int, subjects: Subjects) -> tuple[int | None, float | None]:
        """The expected steps and seconds of a completed config, as far as the last check knows them."""
        usable, _ = completion.fill_in(config, count, subjects)
        plan = self.deep_check.known(paths.absolute(usable)).get("plan", {})
        seconds = time_estimate.seconds(self.runs_dir, config, plan, self.maintenance.status()["device"])["seconds"]
        return plan.get("steps", config.max_train_steps), seconds

    def _inspect(self, config: RunConfig, count: int, subjects: Subjects) -> dict[str, Any]:
        self.maintenance.check_ready()
        usable, _ = completion.fill_in(config, count, subjects)
        return self.deep_check.inspect(paths.absolute(usable))
