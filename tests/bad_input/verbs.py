"""The verbs that bad input is given to, in this process: commands, requests, and the readers that others share."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from dreambooth_ext.commands import check, train
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import AS_SAID, Problem
from dreambooth_ext.core.guide import completion
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.verbs import convert_options, generate_options, network_options
from dreambooth_ext.engine import deep_check, worker
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.verbs import convert, generate, network
from tests import training
from tests.bad_input import sound
from tests.bad_input.case import Verb
from tests.host.asking import Answer, Asked


class NoTraining:
    """Stands in for the environment, its worker, and the one that looks into models."""

    refused = False  # whether the worker has said what is wrong

    def __init__(self, *anything: object, **named: object):
        pass

    def ensure(self) -> None:
        pass

    def close(self) -> None:
        pass

    def train(self, *anything: object) -> int:
        return 0

    def inspect(self, *anything: object) -> dict[str, Any]:
        return {"plan": {}, "problems": [], "warnings": []}


def parsed(options: Callable[[argparse.ArgumentParser], None], *given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    options(parser)
    return parser.parse_args([str(word) for word in given])


def called(command: ModuleType, *given: object) -> tuple[int, str, str]:
    """A command that needs no model: its exit status, and what it writes to both outputs."""
    out, err = io.StringIO(), io.StringIO()
    stand_ins = {name: NoTraining for name in ("Environment", "Follower", "DeepCheck") if hasattr(command, name)}
    with (
        mock.patch.multiple(command, **stand_ins),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        return command.run(parsed(command.add_arguments, *given)), out.getvalue(), err.getvalue()


def _with_remedy(error: str) -> Problem:
    """A line of the terminal, whose last sentence at least is the remedy."""
    field, message, remedy = re.fullmatch(r"error: ([^ ]+): (.*[.!?)]) ([^ ].*)", error).groups()
    return Problem(AS_SAID, field, message=message, remedy=remedy)


# --- settings


def _checked(file: Path, folder: Path) -> list[Problem]:
    status, out, _ = called(check, "--config", file, "--runs-dir", folder / "runs", "--json")
    problems = [Problem.from_dict(problem) for problem in json.loads(out)["problems"]]
    assert status == (1 if problems else 0)
    return problems


def _trained(file: Path, folder: Path) -> list[Problem]:
    status, _, err = called(train, "--config", file, "--runs-dir", folder / "runs")
    assert status == 1 and not (folder / "runs").exists(), err
    return [_with_remedy(line) for line in err.splitlines() if line.startswith("error: ")]


def written(values: dict[str, Any], folder: Path) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    return file


def _check_request(values: dict[str, Any], folder: Path) -> list[Problem]:
    answer = Asked(folder).post("check", {"config": values})
    assert answer.status == 200, answer.body
    return [Problem.from_dict(problem) for problem in answer.json()["problems"]]


def _run_request(values: dict[str, Any], folder: Path) -> list[Problem]:
    asked = Asked(folder)
    answer = asked.post("runs", {"config": values})
    assert answer.status == 422 and asked.get("runs").json()["runs"] == [], answer.body
    return [Problem.from_dict(problem) for problem in answer.json()["problems"]]


CHECK_FILE, TRAIN_FILE = Verb("check --config", _checked), Verb("train --config", _trained)
CHECK = Verb("check", lambda values, folder: _checked(written(values, folder), folder))
TRAIN = Verb("train", lambda values, folder: _trained(written(values, folder), folder))
CHECK_REQUEST, RUN_REQUEST = Verb("POST check", _check_request), Verb("POST runs", _run_request)


def _import_request(text: str, folder: Path) -> list[Problem]:
    answer = Asked(folder).post("import", {"text": text})
    assert answer.status == 422, answer.body
    return [answered(answer)]


def _upload(path: Path, folder: Path) -> list[Problem]:
    asked = Asked(folder)
    answer = asked.put(f"pictures/mine/{path.name}", path.read_bytes(), "image/jpeg")
    assert answer.status == 422 and not list(folder.rglob(path.name)), answer.body
    return [answered(answer)]


def answered(answer: Answer) -> Problem:
    told = answer.json()
    return Problem.from_dict({**told, "field": told.get("field", ""), "message": told["error"]})


IMPORT_REQUEST, UPLOAD = Verb("POST import", _import_request), Verb("PUT pictures", _upload)


# --- model files


def config_of(**values: Any) -> RunConfig:
    """A run with nothing wrong in it but what `values` bring."""
    usual = {**training.USUAL, "base_model": str(sound.checkpoint()), "instance_data_dir": str(sound.pictures())}
    return RunConfig(**{**usual, **values})


def inspected(config: RunConfig, folder: Path) -> list[Problem]:
    answer = json.loads(json.dumps(deep_check.inspect(completion.fill_in(config, 1)[0].as_dict(), folder / "runs")))
    return [Problem.from_dict(problem) for problem in answer["problems"]]


def worked(config: RunConfig, folder: Path) -> list[Problem]:
    run = run_folder.create(folder / "runs", completion.fill_in(config, 1)[0])
    assert training.go_on(run) == worker.BAD_INPUT, training.log(run)
    return [Problem.from_dict({**it, "message": it["what"]}) for it in training.events(run, "error")]


CHECK_RUN, TRAIN_RUN = Verb("check", inspected), Verb("train", worked)


def _drawn(model: Path | str, folder: Path, *more: object) -> list[Problem]:
    common = ("--prompt", "a cat", "--steps", 1, "--device", "cpu", "--out", folder / "pictures")
    arguments = parsed(generate_options.add_arguments, "--model", model, *common, *more)
    return generate_options.problems(arguments) or generate.run(arguments)


def _converted(model: Path | str, folder: Path) -> Any:
    return convert.run(parsed(convert_options.add_arguments, model, folder / "converted"))


def _combined(action: str, model: Path | str, lora: Path, folder: Path, *more: object) -> list[Problem]:
    places = ("--model", model, "--lora", lora, "--out", folder / "out.safetensors", "--device", "cpu")
    arguments = parsed(network_options.add_arguments, action, *places, *more)
    return network_options.problems(arguments) or network.run(arguments)


def _loaded(path: Path, folder: Path) -> None:
    base = open_base(path)
    base.tokenizers(), base.text_encoders(), base.vae(), base.unet()


OPEN = Verb("open", lambda path, folder: open_base(path))
LOAD = Verb("load", _loaded)
CHECK_BASE = Verb("check", lambda path, folder: inspected(config_of(base_model=str(path)), folder))
TRAIN_BASE = Verb("train", lambda path, folder: worked(config_of(base_model=str(path)), folder))
GENERATE = Verb("generate", _drawn, "model")
CONVERT = Verb("convert", _converted, "SRC")
MERGE = Verb("merge", lambda path, folder: _combined("merge", path, sound.lora(), folder), "model")
BASES = (CHECK_BASE, TRAIN_BASE, GENERATE, CONVERT, MERGE)


# --- files that a run begins with, or that a picture is drawn with


def begun(values: Callable[[Path], dict[str, Any]]) -> tuple[Verb, Verb]:
    """What a check and a run say of such a file; it is named in the settings."""
    return (
        Verb("check", lambda path, folder: inspected(config_of(**values(path)), folder)),
        Verb("train", lambda path, folder: worked(config_of(**values(path)), folder)),
    )


def _drawing(option: str) -> Verb:
    return Verb("generate", lambda path, folder: _drawn(sound.checkpoint(), folder, option, path), option.strip("-"))


def _combining(action: str, *more: object) -> Verb:
    return Verb(action, lambda path, folder: _combined(action, sound.checkpoint(), path, folder, *more), "lora")


DRAW_WORD, DRAW_HYPERNETWORK = _drawing("--embedding"), _drawing("--hypernetwork")
RESIZE = _combining("resize", "--rank", 2)
LORA_VERBS = (_drawing("--lora"), _combining("merge"), RESIZE)
CHECK_LORA, TRAIN_LORA = begun(lambda path: {"method": "lora", "network_weights": str(path)})
LORAS = (CHECK_LORA, TRAIN_LORA, *LORA_VERBS)
WORD = {"method": "textual_inversion", "placeholder_token": "sksper", "text_encoder_steps": None}
WORDS = (*begun(lambda path: {**WORD, "embedding_weights": str(path)}), DRAW_WORD)
HYPERNETWORKS = (
    *begun(lambda path: {"method": "hypernetwork", "text_encoder_steps": None, "hypernetwork_weights": str(path)}),
    DRAW_HYPERNETWORK,
)
