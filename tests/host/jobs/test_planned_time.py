"""What a queue tells of its runs: how long they will take, and since when one has the device."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")

from dreambooth_ext.core.runs.job_options import JobOptions
from dreambooth_ext.host.jobs import time_estimate
from dreambooth_ext.host.jobs.planned_time import FILE, Job, PlannedTimes, beginnings, left
from tests.host.asking import Asked
from tests.host.web.test_routes import good


def test_what_the_check_knew_is_kept_with_the_run(tmp_path, monkeypatch):
    asked = Asked(tmp_path)
    config = {"config": good(tmp_path, max_train_steps=700)}
    first = asked.post("runs", config).json()["id"]
    since = 1.4e9
    there = {first: {"steps": 700, "seconds": None, "begins": 0.0, "since": since}}  # nobody looked at it
    assert asked.get("queue").json()["planned"] == there and asked.get("queue").json()["seconds"] is None
    plan = {"steps": 900, "device": "cpu"}
    monkeypatch.setattr(asked.service.deep_check, "known", lambda config: {"plan": plan})
    monkeypatch.setattr(time_estimate, "seconds", lambda runs_dir, config, known, card: {"seconds": 60 * len(known)})
    second = asked.post("runs", config).json()["id"]
    there[second] = {"steps": 900, "seconds": 120, "begins": None, "since": since}
    assert asked.get("state").json()["planned"] == there
    asked.dispatcher.running, asked.dispatcher.ids = [asked.service.run_index.find(second)], []
    noted = {first: {"steps": 700, "seconds": None}, second: {"steps": 900, "seconds": 120}}
    answer = asked.get("queue").json()
    assert answer["planned"] == {second: noted[second]} and answer["seconds"] == 120
    assert answer["running"][0]["since"] == 1.5e9
    again = PlannedTimes(asked.service.runs_dir)  # after a restart
    assert again.of([first, second, "none"]) == noted


def test_a_run_on_two_cards_begins_when_both_are_free():
    running = [Job("a", ("cuda:0",), 60), Job("b", ("cuda:1",), 20)]
    waiting = [Job("c", ("cuda:0", "cuda:1"), 10), Job("d", ("cuda:1",), 5)]
    assert beginnings(running, waiting) == ({"c": 60, "d": 70}, 75)


def test_runs_begin_one_after_the_other_on_each_device():
    running = [Job("a", ("cuda:0",), 60), Job("b", ("cuda:1",), None)]
    waiting = [Job("c", ("cuda:0",), 10), Job("d", ("cuda:1",), 10), Job("e", ("cuda:0",), 5), Job("f", ("cpu",), 100)]
    assert beginnings(running, waiting) == ({"c": 60, "d": None, "e": 70, "f": 0}, None)
    assert beginnings(running[:1], [waiting[0], *waiting[2:]]) == ({"c": 60, "e": 70, "f": 0}, 100)
    assert beginnings([], []) == ({}, 0)
    assert left(100, 12, 3, 12) == 75 and left(None, 12, 3, 12) is None and left(100, None, 0, None) == 100
    assert left(100, 1000, 900, None) == pytest.approx(10) and left(100, 1000, 1000, 1500) == 50
    assert left(100, None, 3, 12) == 75 and left(100, 12, 13, None) == 0


def test_a_run_that_goes_on_takes_only_what_is_left_of_it(tmp_path):
    asked = Asked(tmp_path)
    resumed, longer, last = (asked.run(name, status="queued") for name in ("resumed", "longer", "last"))
    for run, step, total in ((resumed, 900, 1100), (longer, 1000, 1000), (last, 0, 1000)):
        run.write_state(step=step, total=total)
        asked.service.planned_times.note(run, 1000, 100)
    JobOptions(total=1500).write(longer)
    asked.dispatcher.ids = [resumed.id, longer.id, last.id]
    answer = asked.get("queue").json()
    begins = [answer["planned"][id]["begins"] for id in asked.dispatcher.ids]
    assert begins == pytest.approx([0, 20, 70]) and answer["seconds"] == pytest.approx(170)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": "x", "seconds": true}', "[" * 100_000])
def test_a_damaged_file_hinders_nothing(tmp_path, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILE).write_text(text, encoding="utf-8")
    assert PlannedTimes(tmp_path).of(["run"]) in ({}, {"run": {"steps": None, "seconds": None}})
