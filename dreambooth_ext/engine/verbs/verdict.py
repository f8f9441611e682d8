"""The verb `verdict`: judge a run's saved models, and write and print what was found."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...core.data.concepts import Subjects
from ...core.errors import UserError
from ...core.facts.methods import PROMPTED_METHODS
from ...core.messages.message import Message, written
from ...core.runs import run_list
from ...core.runs.run_folder import Run
from ...core.system.terminal import Progress, say
from ...core.verdict import measurements
from ...core.verdict.decision import STATES, Judged
from ...core.verdict.prompts import word_of
from ...core.verdict.scores import LABELS, Scores
from ...core.verdict.verdict import Verdict, by_losses
from ..runtime.device import choose_device, take_device
from ..verdict import record, unconditional
from ..verdict.face_judge import FaceJudge
from ..verdict.judging import Vision, judge
from ..verdict.opened_run import open_run, require_ended, saved_models
from ..verdict.photographs import own_entries
from ..verdict.vision_judge import VisionJudge

QUIET = 2.0  # seconds between lines where nobody can see them change


def run(arguments: argparse.Namespace) -> list[str]:
    """Judge the run; returns the lines to print: the recommendation, or JSON.

    Raises UserError if the run still trains, has saved nothing, or its base has changed.
    """
    run = run_list.find(arguments.runs_dir, arguments.run)
    require_ended(run)
    if arguments.steps_only:
        if arguments.judge:
            raise UserError("verdict.judge_without_pictures", "judge")
        content = record.write_losses(run, from_losses(run))
    else:
        device = choose_device(arguments.device)
        take_device(str(device))
        with Steps() as told:
            if run.config.method not in PROMPTED_METHODS:
                content = record.write_unconditional(run, *unconditional.judge(run, device, told))
            else:
                vision = judge_at(arguments.judge, device) if arguments.judge else None
                told(0, 0, Message("stages.loading_to_judge"))
                opened = open_run(run)
                content = record.write(opened, judge(opened, device, vision, told))
                opened.base.close()
    return [json.dumps(content, ensure_ascii=False)] if arguments.json else sentences(content)


def judge_at(path: Path, device: torch.device) -> Vision:
    """A model on the user's disk that judges. Raises UserError, naming "judge", for what is none."""
    return FaceJudge(path) if path.suffix.lower() == ".onnx" else VisionJudge(path, device)


def from_losses(run: Run) -> Verdict:
    """Raises UserError if the run has saved no model, or has no measurements."""
    config = run.completed()
    measured = measurements.of(run.events.read())
    if not measured:
        raise UserError("verdict.no_losses", "steps_only")
    judged = [Judged(each.step, each.path.relative_to(run.path).as_posix(), Scores()) for each in saved_models(run)]
    subjects = Subjects.of(config)
    return by_losses(config, judged, measured, word_of(config, subjects, own_entries(run, config, subjects)))


class Steps:
    """Shows progress on the terminal, a line for each part of the work. The tab reads these lines, too."""

    def __init__(self) -> None:
        self.line: Progress | None = None
        self.stage = ""

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def _close(self) -> None:
        if self.line:
            self.line.close()
        self.line = None

    def __call__(self, done: int, of: int, stage: Message) -> None:
        """of: 0 where it cannot be counted."""
        if self.stage != stage:
            self._close()
            self.stage = stage
            if not of:
                say(stage)
        if of:
            self.line = self.line or Progress(of, stage, quiet_seconds=QUIET)
            self.line.update(done)


def sentences(content: Mapping[str, Any]) -> list[str]:
    """What a terminal shows of a verdict."""
    found = [content["sentence"]]
    for each in content["checkpoints"]:
        scores = scores_of(each)
        line = Message("verdict.line_model", step=each["step"], state=STATES[each["state"]], what=each["sentence"])
        found.append(f"  {line}" + (f" ({scores})" if scores else ""))
    if scores := scores_of(content["base"]):
        found.append(f"  {Message('verdict.line_base', scores=scores)}")
    found.append(content["next_run_sentence"])
    if content["next_run"]:
        settings = [f"{name} {written(value)}" for name, value in content["next_run"].items()]
        found.append(Message("verdict.line_settings", settings=settings))
    trust, judge = content["trust"]["sentence"], content["judge"]["sentence"]
    return [*found, Message("verdict.line_trust", trust=trust, judge=judge)]


def scores_of(one: Mapping[str, Any]) -> str:
    return ", ".join(f"{label} {one[name]:.2f}" for name, label in LABELS.items() if one.get(name) is not None)
