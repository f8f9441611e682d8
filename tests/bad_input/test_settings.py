"""Bad settings, where a row does not tell it all: many at once, all values of all kinds, and folders of the machine."""

from __future__ import annotations

import os

import pytest

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import SETTINGS
from dreambooth_ext.core.errors import Problem
from tests.bad_input import sound
from tests.bad_input.verbs import CHECK


def found_in(values: dict, folder) -> list[Problem]:
    return CHECK.read(values, folder)


def assert_one(found: list[Problem], field: str, part: str) -> None:
    assert [problem.field for problem in found] == [field], found
    assert part in found[0].message and found[0].remedy, found


def test_misspelt_settings_are_recognised():
    for wrong, right in {"lerning_rate": "learning_rate", "max_train_step": "max_train_steps"}.items():
        assert right in parse({wrong: 1})[1][0].remedy


def test_every_problem_comes_at_once(tmp_path):
    values = sound.settings(tmp_path) | {
        "seed": "x",
        "resolution": 100,
        "name": "a b",
        "optimizer": "adam",
        "base_model": "",
    }
    found = found_in(values | {"instance_data_dir": "", "clip_skip": 99, "xyzzy": 1}, tmp_path)
    expected = {"seed", "resolution", "name", "optimizer", "base_model", "instance_data_dir", "clip_skip", "xyzzy"}
    assert {problem.field for problem in found} == expected and len(found) == len(expected)


def test_no_config_whatever_ends_in_an_exception():
    """Every setting with every kind of nonsense: a problem or a value, never a traceback."""
    nonsense = [
        None,
        True,
        -1,
        0,
        1e308,
        10**400,
        float("nan"),
        "",
        " ",
        "x",
        "\0",
        "[",
        [],
        [None],
        {},
        {"a": []},
        [[]],
    ]
    for name in SETTINGS:
        for value in nonsense:
            config, unreadable = parse({name: value})
            found = config_checks.check(config)[3]
            assert all(isinstance(problem, Problem) and problem.remedy for problem in [*unreadable, *found]), found


def test_values_that_nothing_can_name_are_cut(tmp_path):
    found = found_in(sound.settings(tmp_path) | {"resolution": "9" * 50_000 + "x", "name": "ж" * 90_000}, tmp_path)
    assert len(found) == 2 and all(len(str(problem)) < 400 for problem in found)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(tmp_path):
    folder = sound.empty_pictures(tmp_path / "closed")
    folder.chmod(0)
    try:
        found = found_in(sound.settings(tmp_path) | {"instance_data_dir": str(folder)}, tmp_path)
        assert_one(found, "instance_data_dir", "cannot be read")
    finally:
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(*anything):
        raise PermissionError(13, "Permission denied")

    values = sound.settings(tmp_path)
    monkeypatch.setattr(os, "scandir", refuse)
    assert_one(found_in(values, tmp_path), "instance_data_dir", "cannot be read: Permission denied")


def test_concepts_beside_the_single_settings(tmp_path):
    values = sound.settings(tmp_path)
    values["concepts"] = [{"instance_data_dir": values["instance_data_dir"], "instance_prompt": "sksper"}]
    found = found_in(values, tmp_path)
    assert [problem.field for problem in found] == ["instance_data_dir", "instance_prompt"]
    assert all("no effect" in problem.message for problem in found)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(config_checks.os, "access", lambda *anything: False)
    assert_one(config_checks.folder_problems("output_dir", tmp_path / "new"), "output_dir", "cannot be written to")
