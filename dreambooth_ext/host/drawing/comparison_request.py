"""What a comparison is asked for with: checked, and as the options of the verb `compare`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.config.form_sections.previews import SAMPLERS
from ...core.config.parsing import shown
from ...core.config.run_config import RunConfig
from ...core.errors import UserError
from ...core.guide import tables
from ...core.runs.run_folder import Run
from ...core.verbs import compare_options
from ..errors import Problems
from ..hosts import path_policy
from ..hosts.host import Host
from ..runs.run_index import FAULTS

MOST = 1000  # pictures
WHOLE = ("num_images", "seed", "steps", "width", "height", "clip_skip", "batch_size")
NUMBERS = ("cfg_scale",)
TEXTS = ("negative_prompt", "sampler", "subject_type", "word", "device")
CHOICES = {"sampler": list(SAMPLERS), "subject_type": sorted(tables.TEST_PROMPTS)}
LONGEST = 2000  # letters of a prompt or name


@dataclass(frozen=True)
class Model:
    """One of what is compared. run, run_name, artifact and step: where a run made it; else they are empty."""

    path: Path
    weight: float | None
    kind: str = ""  # "" where only the trainer can tell
    run: str = ""
    run_name: str = ""
    artifact: str = ""
    step: int | None = None

    @property
    def option(self) -> str:
        return str(self.path) if self.weight is None else f"{self.path}:{self.weight:g}"

    def about(self) -> dict[str, Any]:
        """What is kept of it, and may be shown: no folder."""
        known = {name: getattr(self, name) for name in ("weight", "kind", "run", "run_name", "artifact", "step")}
        return {"file": self.path.name, **known}


@dataclass(frozen=True)
class Request:
    base: str
    models: list[Model]
    options: argparse.Namespace
    given: dict[str, Any] = field(default_factory=dict)  # the verb's other options

    @property
    def names(self) -> list[str]:
        """By which the verb tells the models apart, the base first."""
        return [compare_options.BASE, *(model.name for model in compare_options.models(self.options))]

    @property
    def prompts(self) -> list[str]:
        return compare_options.prompts(self.options)

    @property
    def seeds(self) -> list[int]:
        return [self.options.seed + index for index in range(self.options.num_images)]

    def words(self, out: Path) -> list[str]:
        """The verb's command line."""
        words = ["compare", f"--base={self.base}", *(f"--model={model.option}" for model in self.models)]
        words += [f"--prompt={prompt}" for prompt in self.options.prompt]
        words += [f"--{name.replace('_', '-')}={value}" for name, value in self.given.items()]
        return [*words, f"--out={out}"]


Finder = Callable[[str, str], tuple[Run, Mapping[str, Any]]]  # a run's id, a file -> the run and the artifact's event


def read(asked: Mapping[str, Any], host: Host, find: Finder) -> Request:
    """Raises UserError and Problems for what cannot be drawn, a Refusal for unknown runs and paths not to be named."""
    models = [_model(one, host, find) for one in _list(asked, "models", dict)]
    if not models:
        raise UserError("drawing.no_models", "models")
    given = _given(asked, models, find)
    base = _base(asked, models, host, find)
    parser = argparse.ArgumentParser()
    compare_options.add_arguments(parser)
    options = parser.parse_args([f"--base={base}", *(f"--model={one.option}" for one in models), "--out=."])
    options.prompt = [text for text in _list(asked, "prompts", str) if text.strip()]
    for name, value in given.items():
        setattr(options, name, value)
    request = Request(base, models, options, given)
    if problems := compare_options.problems(options):
        raise Problems(problems)
    count = len(request.names) * len(request.prompts) * len(request.seeds)
    if count > MOST:
        raise UserError("drawing.too_many", "models", count=count, most=MOST)
    return request


def _list(asked: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    found = asked.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
        raise UserError("drawing.not_list", name)
    if kind is str and any(len(one) > LONGEST for one in found):
        raise UserError("drawing.too_long", name, most=LONGEST)
    return found


def _model(one: Mapping[str, Any], host: Host, find: Finder) -> Model:
    weight = one.get("weight")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float)):
        raise UserError("drawing.not_number", "weight")
    if one.get("run"):
        run, artifact = find(_text(one, "run"), _text(one, "artifact"))
        if artifact["kind"] == "unconditional":
            raise UserError("drawing.no_prompts", "models", file=artifact["file"])
        name = str(run.about()["name"])
        path = run.artifacts / artifact["file"]
        return Model(path, weight, artifact["kind"], run.id, name, artifact["file"], artifact["step"])
    path = Path(_text(one, "path")).expanduser()
    if not path.name:
        raise UserError("drawing.no_models", "models")
    if (why := host.restricted()) and not path_policy.is_offered_model(path, host):
        raise path_policy.refused("models", why)
    return Model(path, weight)


def _text(one: Mapping[str, Any], name: str) -> str:
    value = one.get(name) or ""
    if not isinstance(value, str):
        raise UserError("web.not_text", name, name=name)
    return value


def _base(asked: Mapping[str, Any], models: list[Model], host: Host, find: Finder) -> str:
    """The base that was named, else the one that the first run began with, else the host's."""
    named = _text(asked, "base")
    if named:
        path_policy.check_paths(RunConfig(base_model=named), host)
        return named
    for run in _runs(models, find):
        if run.config.base_model:
            return run.config.base_model
    if current := host.current_base():
        return current
    raise UserError("drawing.no_base", "base")


def _runs(models: list[Model], find: Finder) -> list[Run]:
    return [find(model.run, model.artifact)[0] for model in models if model.run]


def _given(asked: Mapping[str, Any], models: list[Model], find: Finder) -> dict[str, Any]:
    """The verb's other options. Clip skip is the first run's, unless it is given: its model is wrong without."""
    given: dict[str, Any] = {}
    for name in (*WHOLE, *NUMBERS, *TEXTS):
        value = asked.get(name)
        if value is None or value == "":
            continue
        kinds = str if name in TEXTS else int if name in WHOLE else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise UserError("web.not_text" if name in TEXTS else "web.not_count", name, name=name)
        given[name] = value
    for name, choices in CHOICES.items():
        if name in given and given[name] not in choices:
            raise UserError("web.no_choice", name, value=shown(given[name]), choices=choices)
    if "clip_skip" not in given:
        for run in _runs(models, find)[:1]:
            try:
                skip = getattr(run.config, "clip_skip", None)
            except FAULTS:
                skip = None
            given |= {"clip_skip": skip} if skip else {}
    return given
