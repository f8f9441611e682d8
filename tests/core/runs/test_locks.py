"""A program that is paused (Ctrl-Z, a debugger, a machine that hangs) while it holds a lock: the others go on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import events, run_folder, run_list
from dreambooth_ext.core.runs.events import EventLog
from dreambooth_ext.core.system import files
from dreambooth_ext.host.jobs.queue import Queue
from dreambooth_ext.host.publishing import clip_folders, staging
from tests.host.jobs.test_dispatcher import REPOSITORY, alive, ended, place, said  # noqa: F401
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")

HOLDER = """
import os, signal, sys, time
sys.path[:0] = [{repository!r}]
from pathlib import Path
from dreambooth_ext.core.system import files
with files.locked(Path({path!r})):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
print("let go", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def paused(lock: Path):
    """A process that holds the lock and is paused; it goes on at `SIGCONT` and is killed in the end."""
    code = HOLDER.format(repository=str(REPOSITORY), path=str(lock))
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        until(lambda: Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        yield holder
    finally:
        holder.kill()
        holder.wait()


def go_on(holder: subprocess.Popen) -> None:
    holder.send_signal(signal.SIGCONT)
    assert holder.stdout.readline() == b"let go\n"


def texts(log: EventLog) -> list[tuple[int, str]]:
    return [(event["n"], event["what"]) for event in log.read()]


@pytest.mark.parametrize("way", ["goes on", "is killed"])
def test_events_that_cannot_be_appended_come_later_in_order(tmp_path, way):
    log = EventLog(tmp_path / "events.jsonl")
    log.append("warning", what="before")
    began = time.monotonic()
    with paused(tmp_path / "events.jsonl.lock") as holder:
        for number in range(8):
            assert EventLog(log.path).append("warning", what=f"\udce9 {number}")["n"] == 0
        assert time.monotonic() - began < 8 and texts(log) == [(1, "before")]
        if way == "goes on":
            go_on(holder)
            assert log.append("warning", what="after")["n"] == 10
    if way == "is killed":
        log.append("warning", what="after")
    assert texts(log) == [(1, "before"), *((n + 2, f"? {n}") for n in range(8)), (10, "after")]
    times = [event["time"] for event in log.read()]
    assert times == sorted(times) and not list((tmp_path / "events.jsonl.late").iterdir())


def test_who_is_last_to_put_an_event_off_brings_it_in_where_the_lock_is_free_by_then(tmp_path, monkeypatch):
    log, delay = EventLog(tmp_path / "events.jsonl"), EventLog._delay
    monkeypatch.setattr(events, "PATIENCE", 0.1)
    with paused(tmp_path / "events.jsonl.lock") as holder:

        def delayed(self: EventLog, event: dict) -> None:
            delay(self, event)
            holder.kill()
            holder.wait()

        monkeypatch.setattr(EventLog, "_delay", delayed)
        log.append("warning", what="late")
    assert texts(log) == [(1, "late")]


def test_a_kill_while_late_events_are_brought_in_repeats_none(tmp_path, monkeypatch):
    log = EventLog(tmp_path / "events.jsonl")
    for number in range(3):
        (tmp_path / "events.jsonl.late").mkdir(exist_ok=True)
        event = {"time": 1.0, "type": "warning", "what": f"late {number}"}
        (tmp_path / "events.jsonl.late" / f"{number}.json").write_text(json.dumps(event))

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "patiently", killed)  # after the event was written, before its file goes
        with pytest.raises(KeyboardInterrupt):
            log.append("warning", what="never")
    log.append("warning", what="after")
    assert texts(log) == [(1, "late 0"), (2, "late 1"), (3, "late 2"), (4, "after")]


def test_of_a_deleted_run_no_late_event_brings_back_the_folder(tmp_path):
    log = EventLog(tmp_path / "run" / "events.jsonl")
    with pytest.raises(FileNotFoundError):
        log._delay({"type": "warning"})
    assert not (tmp_path / "run").exists()


def test_training_publishing_and_the_queue_go_on(place):  # noqa: F811
    """The one who has the lock is another program: a terminal that was paused while it published, say."""
    dispatcher = place.dispatcher()
    run, next_one = place.submit(dispatcher, steps=30), place.submit(dispatcher, "next", steps=2)
    until(lambda: alive(run))
    with paused(run.path / "events.jsonl.lock"):
        ended(next_one, patience=40)
        assert place.names() == ["next.safetensors"] and run.events.read()[-1].get("step", 0) < 30
        assert run.state()["status"] == "saving" and run.last_word() == "done"  # its model was not heard of yet
    ended(run)
    assert place.names() == ["cat.safetensors", "next.safetensors"]
    steps = [event["step"] for event in said(run, "step")]
    assert steps == list(range(1, 31)) and said(run, "status")[-1]["status"] == "done"
    assert [event["n"] for event in run.events.read()] == list(range(1, len(run.events.read()) + 1))
    assert [event["name"] for event in said(run, "published")] == ["cat"]


def test_a_worker_that_is_paused_in_its_events_lock_is_told_killed_and_explained(place):  # noqa: F811
    """As far as others see: it does not beat, and its events are locked."""
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, steps=100_000)
    until(lambda: alive(run))
    with paused(run.path / "events.jsonl.lock"):
        os.kill(run.state()["pid"], signal.SIGSTOP)
        dispatcher.kill(run)
        next_one = place.submit(dispatcher, "next", steps=2)
        ended(next_one)
        assert run.last_word() == "failed"
    assert ended(run, "failed")["problem"]["code"].startswith("queue.ended_by_user")
    (error,) = said(run, "error")
    assert error["code"].startswith("queue.ended_by_user")
    assert [event["status"] for event in said(run, "status")][-2:] == ["saving", "failed"]


def test_a_queue_that_is_locked_is_told_and_goes_on(place, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    dispatcher = place.dispatcher(start=False)
    run = place.submit(dispatcher)
    with paused(place.runs / "queue.lock") as holder:
        dispatcher.start()
        until(lambda: "is paused or hangs" in dispatcher.waiting)
        with pytest.raises(files.Held, match="is paused or hangs"):
            dispatcher.cancel(run)
        with pytest.raises(files.Held), Queue(place.runs).changing():
            raise AssertionError("not reached")
        go_on(holder)
        ended(run)


def test_runs_are_neither_made_nor_deleted_by_halves(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    run = run_folder.create(tmp_path, RunConfig(name="cat"))
    with paused(tmp_path / "runs.lock"):
        with pytest.raises(files.Held):
            run_folder.create(tmp_path, RunConfig(name="dog"))
        run.delete()
        assert run_list.list_runs(tmp_path) == [] and not list(tmp_path.glob("*-*"))
    assert run_folder.create(tmp_path, RunConfig(name="dog")).exists()


@pytest.mark.parametrize("lock", [staging.ALONE, "dreambooth_clip/lock"])
def test_a_folder_of_models_that_another_publisher_keeps_is_told(place, monkeypatch, lock):  # noqa: F811
    monkeypatch.setattr(staging, "PATIENCE", 0.5)
    monkeypatch.setattr(clip_folders, "PATIENCE", 0.5)
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, publish=False)
    ended(run)
    if lock != staging.ALONE:
        (run.artifacts / "cat-clip").mkdir()
        (run.artifacts / "cat-clip" / "config.json").write_text("{}")
    folder = place.folder / ("models" if lock == staging.ALONE else "")
    with paused(folder / lock) as holder:
        with pytest.raises(UserError, match="is paused or hangs") as refused:
            dispatcher.publish(run, "cat.safetensors", select=False)
        assert "publish the model again" in refused.value.problem.remedy
        go_on(holder)
        dispatcher.publish(run, "cat.safetensors", select=False)
    assert place.names() == ["cat.safetensors"]


def test_a_publisher_that_copies_for_long_is_waited_for(tmp_path, monkeypatch):
    """What comes shows that it works."""
    monkeypatch.setattr(staging, "PATIENCE", 2.5)
    stage = tmp_path / f"{staging.PREFIX}other"
    stage.mkdir()
    with paused(tmp_path / staging.ALONE) as holder:

        def copy() -> None:
            for size in range(1, 12):
                (stage / "model.part").write_bytes(b"0" * size)
                time.sleep(0.5)
            holder.kill()

        thread = threading.Thread(target=copy)
        thread.start()
        began = time.monotonic()
        with staging.alone(tmp_path):
            assert time.monotonic() - began > 4
        thread.join()
