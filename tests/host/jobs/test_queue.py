"""The order of waiting runs: on disk, for several programs at once."""

from __future__ import annotations

import threading

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import job_options, run_folder
from dreambooth_ext.core.runs.job_options import JobOptions
from dreambooth_ext.host.jobs.queue import Queue, put_back, status_of, withdraw


@pytest.fixture
def queue(tmp_path) -> Queue:
    return Queue(tmp_path / "runs")


def test_it_is_empty_before_anything_was_put_there(queue):
    assert queue.ids() == []


def test_it_survives_and_holds_each_run_once(queue):
    for id in ("a", "b", "a"):
        queue.add(id)
    assert Queue(queue.path.parent).ids() == ["a", "b"]


def test_order_names_some_and_leaves_the_others_behind(queue):
    for id in "abcd":
        queue.add(id)
    queue.arrange(["d", "x", "b", "d"])
    assert queue.ids() == ["d", "b", "a", "c"]


def test_a_pause_outlasts_changes_and_programs(queue):
    queue.pause(True)
    queue.add("a")
    again = Queue(queue.path.parent)
    assert again.is_paused and again.ids() == ["a"]
    again.pause(False)
    assert not queue.is_paused and queue.ids() == ["a"]


def test_each_knows_since_when_it_waits(queue, monkeypatch):
    for now, id in enumerate("abc"):
        monkeypatch.setattr("time.time", lambda now=now: 100.0 + now)
        queue.add(id)
    queue.arrange(["c"])
    assert queue.since() == {"a": 100, "b": 101, "c": 102}
    with queue.changing() as ids:
        ids.remove("b")
    assert queue.since() == {"a": 100, "c": 102}


def test_a_change_that_fails_changes_nothing(queue):
    queue.add("a")
    with pytest.raises(ZeroDivisionError), queue.changing() as ids:
        ids.clear()
        _ = 1 / 0
    assert queue.ids() == ["a"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"order": 3}', '{"order": [3, "a"]}', "\xff", '{"paused": 1, "since": [3]}']
)
def test_a_damaged_file_is_an_empty_queue(queue, content):
    queue.path.parent.mkdir()
    queue.path.write_bytes(content.encode("latin1"))
    assert queue.ids() in ([], ["a"]) and queue.since() == {} and not queue.is_paused
    queue.add("b")
    assert queue.ids()[-1] == "b"


def test_many_at_once_lose_nothing(queue):
    threads = [threading.Thread(target=queue.add, args=(str(n),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(queue.ids(), key=int) == [str(n) for n in range(20)]


# --- runs that are put back and withdrawn


@pytest.fixture
def run(tmp_path) -> run_folder.Run:
    return run_folder.create(tmp_path / "runs", RunConfig(name="cat"))


def test_a_new_run_that_is_withdrawn_counts_as_stopped(run):
    JobOptions().write(run)
    withdraw(run)
    assert run.state()["status"] == "stopped" and job_options.read(run).settled


def test_a_run_that_was_put_back_is_afterwards_what_it_was(run):
    problem = {"field": "", "message": "the disk is full.", "remedy": "Delete something."}
    run.write_state(status="failed", step=5, problem=problem)
    put_back(run, JobOptions(publish=False), None)
    assert run.state()["status"] == "queued" and run.state()["problem"] is None
    assert job_options.read(run).publish is False
    withdraw(run)
    assert run.state()["status"] == "failed" and run.state()["problem"] == problem


def test_wishes_are_kept_and_only_what_comes_from_now_on_is_published(run):
    JobOptions(select="every", settled=True).write(run)
    run.events.append("artifact", name="cat")
    run.write_state(status="done", step=5)
    put_back(run, None, 9)
    assert job_options.read(run) == JobOptions(
        select="every", total=9, since=run.events.read()[-2]["n"], before={"status": "done", "problem": None}
    )


def test_models_that_are_still_due_stay_so(run):
    JobOptions(since=0).write(run)
    run.events.append("artifact", name="cat")
    run.write_state(status="stopped", step=5)
    put_back(run, None, None)
    assert job_options.read(run).since == 0


def test_what_cannot_go_on_says_so(run):
    run.write_state(status="done", step=5)
    with pytest.raises(UserError, match="is done"):
        put_back(run, None, None)
    with pytest.raises(UserError, match="is at step 5 already"):
        put_back(run, None, 5)
    with run.take(), pytest.raises(UserError, match="already being trained"):
        put_back(run, None, 9)
    run.write_state(states_deleted=True)
    with pytest.raises(UserError, match="were deleted, so it cannot go on"):
        put_back(run, None, 9)
    assert status_of(run) == "done"


@pytest.mark.parametrize("wrong", [{"select": "some"}, {"while_training": "hope"}])
def test_wishes_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError):
        JobOptions(**wrong)


def test_a_damaged_host_json_is_none(run):
    for content in ("", "[]", '{"select": "some"}'):
        (run.path / "host.json").write_text(content, encoding="utf-8")
        assert job_options.read(run) is None
    (run.path / "host.json").write_text('{"select": "every", "of a newer version": 1}', encoding="utf-8")
    assert job_options.read(run) == JobOptions(select="every")
