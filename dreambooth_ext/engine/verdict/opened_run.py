"""A finished run, opened to be judged: its config, pictures, base and saved models."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ...core.config.stages import CompletedConfig
from ...core.data.concepts import Subjects
from ...core.data.entry import Entry
from ...core.errors import UserError
from ...core.facts.methods import MODEL_KINDS
from ...core.runs.events import ENDED
from ...core.runs.run_folder import Run
from ...core.system import files
from ...core.verdict.prompts import Prompts, prompts_of
from ..downloads.progress_thread import Fetch, TerminalStage
from ..models.base_files import difference
from ..models.base_model import LatentBase
from ..training.backbones import open_prompted
from . import photographs
from .drawing import Saved

MOST_PHOTOGRAPHS = 64  # that pictures are compared with, evenly chosen


@dataclass
class OpenedRun:
    """base: with the prediction type that the run trained with. models: by step, the final one last."""

    run: Run
    config: CompletedConfig
    base: LatentBase
    entries: Sequence[Entry]
    prompts: Prompts
    models: Sequence[Saved]
    size: int  # of the square pictures that are drawn and compared, in pixels

    @functools.cached_property
    def photographs(self) -> dict[Path, Image.Image]:
        """The run's own pictures that the verdict compares with; also those that were held back."""
        return photographs.readable(photographs.evenly(self.entries, MOST_PHOTOGRAPHS), self.size)

    def place(self, saved: Saved) -> str:
        """A model's file relative to the run's folder, as the verdict names it."""
        return saved.path.relative_to(self.run.path).as_posix()


def require_ended(run: Run) -> dict[str, Any]:
    """Return the run's state. Raises UserError while the run trains or waits."""
    state = run.state()
    if state["status"] not in ENDED:
        raise UserError("verdict.still_training", "run")
    return state


def open_run(run: Run) -> OpenedRun:
    """Open a run with a base. Raises UserError if it has saved no model, or if its base is not the same any more."""
    state = require_ended(run)
    config = run.completed()
    models = saved_models(run)
    subjects = Subjects.of(config)
    entries = photographs.own_entries(run, config, subjects)
    base = open_prompted(config, Fetch(TerminalStage(), state.get("downloads") or {}))
    require_same_base(run, base)
    size = (config.resolution or base.resolution) // 8 * 8
    return OpenedRun(run, config, base, entries, prompts_of(config, subjects, entries), models, size)


def saved_models(run: Run) -> list[Saved]:
    """Return the run's saved models that still exist, by step; of one step the final one. Words that were learned
    beside a LoRA are in its file as well. Raises UserError if there is no model."""
    kind = MODEL_KINDS[run.config.method]
    events = sorted(run.artifact_events(), key=lambda event: (event["step"], bool(event["final"])))
    known = {event["step"]: event for event in events if event["kind"] == kind}
    if not known:
        raise UserError("verdict.no_checkpoints", "run")
    return [Saved(step, run.artifacts / event["file"], event["kind"]) for step, event in known.items()]


def require_same_base(run: Run, base: LatentBase) -> None:
    """Raise UserError if the base's files are not those that the run started with, as far as that is recorded."""
    try:
        noted = files.read_json(run.path / "base.json")["files"]
        changed = difference(noted, base.files.known)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return
    if changed:
        raise UserError("verdict.base_changed", "run")
