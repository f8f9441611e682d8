"""What a queue tells of its runs: how long they will take, and since when one has the device."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")

from dreambooth_ext.host.jobs import time_estimate
from dreambooth_ext.host.jobs.planned_time import FILE, PlannedTimes
from tests.host.asking import Asked
from tests.host.web.test_routes import good


def test_what_the_check_knew_is_kept_with_the_run(tmp_path, monkeypatch):
    asked = Asked(tmp_path)
    config = {"config": good(tmp_path, max_train_steps=700)}
    first = asked.post("runs", config).json()["id"]
    assert asked.get("queue").json()["planned"] == {first: {"steps": 700, "seconds": None}}  # nobody looked at it
    plan = {"steps": 900, "device": "cpu"}
    monkeypatch.setattr(asked.service.deep_check, "known", lambda config: {"plan": plan})
    monkeypatch.setattr(time_estimate, "seconds", lambda runs_dir, config, known, card: {"seconds": 60 * len(known)})
    second = asked.post("runs", config).json()["id"]
    there = {first: {"steps": 700, "seconds": None}, second: {"steps": 900, "seconds": 120}}
    assert asked.get("state").json()["planned"] == there
    asked.dispatcher.running, asked.dispatcher.ids = [asked.service.run_index.find(second)], []
    assert asked.get("queue").json()["planned"] == {second: there[second]}
    assert asked.get("queue").json()["running"][0]["since"] == 1.5e9
    again = PlannedTimes(asked.service.runs_dir)  # after a restart
    assert again.of([first, second, "none"]) == there


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": "x", "seconds": true}', "[" * 100_000])
def test_a_damaged_file_hinders_nothing(tmp_path, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILE).write_text(text, encoding="utf-8")
    assert PlannedTimes(tmp_path).of(["run"]) in ({}, {"run": {"steps": None, "seconds": None}})
