"""What the machine lacks: told with the field that asks for it, and all at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import Problem
from dreambooth_ext.core.facts.optimizer_facts import OPTIMIZERS
from dreambooth_ext.core.guide import completion
from dreambooth_ext.core.system import files
from dreambooth_ext.engine import deep_check
from dreambooth_ext.engine.optimization import optimizer_creation
from dreambooth_ext.engine.runtime import memory
from tests import tiny
from tests.bad_input import sound


def assert_good(problem: Problem, field: str, part: str) -> None:
    assert problem.field == field and part in str(problem), problem
    assert problem.remedy.strip() and len(str(problem)) < 700, problem


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with odd letters, which has a base and pictures."""
    folder = tmp_path_factory.mktemp("Рабочая папка (1)")
    tiny.single_file(folder, name="base")
    (folder / "фото").mkdir()
    for number in range(5):
        (folder / "фото" / f"sksper ({number}).png").write_bytes(sound.encoded("PNG"))
    return folder


def inspected(place: Path, **values) -> dict:
    config = RunConfig(
        name="x",
        base_model=str(place / "base.safetensors"),
        instance_data_dir=str(place / "фото"),
        instance_prompt="sksper",
        resolution=64,
        max_train_steps=10,
        text_encoder_steps=5,
        learning_rate=1e-6,
        text_encoder_lr=1e-6,
        device="cpu",
    ).replace(**values)
    return json.loads(json.dumps(deep_check.inspect(completion.fill_in(config, 5)[0].as_dict(), place / "запуски")))


def test_a_good_run_has_a_plan_and_no_problem(place):
    found = inspected(place)
    assert found["problems"] == [] and found["plan"]["pictures"] == 5 and found["plan"]["steps"] == 10
    assert not (place / "запуски").exists()


@pytest.mark.parametrize("name", ["adamw8bit", "paged_adamw8bit", "lion", "prodigy"])
def test_an_optimizer_whose_library_is_missing(place, monkeypatch, name):
    real = optimizer_creation.importlib.import_module

    def without(module, *more):
        if module == OPTIMIZERS[name].module:
            raise ImportError(f"No module named {module!r}")
        return real(module, *more)

    monkeypatch.setattr(optimizer_creation.importlib, "import_module", without)
    (problem,) = inspected(place, optimizer=name, learning_rate=1.0, text_encoder_lr=1.0)["problems"]
    assert_good(Problem.from_dict(problem), "optimizer", "does not work here: No module named")


def test_a_disk_that_is_too_full(place, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda path: 1000)
    (problem,) = inspected(place)["problems"]
    assert_good(Problem.from_dict(problem), "checkpointing_steps", "1000 B are free")


def test_a_machine_with_too_little_memory(place, monkeypatch):
    monkeypatch.setattr(memory, "total", lambda device: 10**6)
    (problem,) = inspected(place, train_batch_size=4)["problems"]
    assert_good(Problem.from_dict(problem), "train_batch_size", "which has 977 KB")
    assert problem["remedy"].startswith("What helps, the most effective first: turn gradient_checkpointing on; set ")
    assert "card" not in problem["remedy"]


def test_everything_at_once(place, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda path: 1000)
    values = {"mixed_precision": "fp16", "clip_skip": 9, "optimizer_args": {"foo": 1}, "attention": "xformers"}
    fields = {problem["field"] for problem in inspected(place, **values)["problems"]}
    assert fields == {"mixed_precision", "clip_skip", "optimizer_args", "attention", "checkpointing_steps"}


def test_broken_pictures_of_a_class(place, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    prior = {"class_prompt": "a person", "class_data_dir": str(tmp_path), "with_prior_preservation": True}
    found = inspected(place, **prior, num_class_images=1)
    (problem,) = found["problems"]
    assert_good(Problem.from_dict(problem), "class_data_dir", "none of these pictures can be read")
    assert len(found["warnings"]) == 1 and "a.png" in found["warnings"][0]["message"]
    (tmp_path / "b.png").write_bytes(sound.encoded("PNG"))
    found = inspected(place, **prior, num_class_images=3)
    assert found["problems"] == [] and found["plan"]["class_pictures"] == 2  # one of them still to be drawn
