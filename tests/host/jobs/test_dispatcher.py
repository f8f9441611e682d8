"""From the queue to the published model, with workers that pretend (scripted_worker.py), and with the engine's."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from dreambooth_ext.commands.support import delivery
from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.core.runs import conclusion, job_options, run_folder, run_list
from dreambooth_ext.core.runs.events import ENDED, EventReader
from dreambooth_ext.core.runs.job_options import JobOptions
from dreambooth_ext.core.system import files
from dreambooth_ext.host.environment.environment import Status
from dreambooth_ext.host.errors import Refusal
from dreambooth_ext.host.jobs import exit_reasons, worker_process
from dreambooth_ext.host.jobs.dispatcher import Dispatcher
from dreambooth_ext.host.jobs.job_monitor import JobMonitor
from dreambooth_ext.host.jobs.loans import Loan
from dreambooth_ext.host.jobs.queue import status_of
from dreambooth_ext.host.jobs.watchdog import LOOK, Patience, Watchdog
from dreambooth_ext.host.publishing import model_files, staging
from dreambooth_ext.host.publishing.publisher import Publisher
from dreambooth_ext.host.service.service import Service
from tests.waiting import until

REPOSITORY = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("scripted_worker.py")
DAMAGES = (  # files of a run's folder, and what they may hold after a failing disk, an editor or another version
    ("state.json", "{"),
    ("state.json", "[]"),
    ("state.json", '{"status": "training", "step": 1, "heartbeat": "x", "host": "elsewhere"}'),
    ("state.json", "[" * 100_000),
    ("config.json", "{"),
    ("config.json", "[" * 100_000),
    ("host.json", '{"since": "x", "total": "y"}'),
    ("events.jsonl", '{"n": 9}\n'),
    ("events.jsonl", '{"n": 9, "type": "artifact"}\n'),
    ("events.jsonl", "[" * 100_000 + "\n"),
)
posix = pytest.mark.skipif(os.name == "nt", reason="signals")


class FakeHost:
    """Writes down what it is asked for, in order; `fails` names what goes wrong."""

    name = "a host of the tests"

    def __init__(self, folder: Path):
        self.folder, self.calls, self.options = folder, [], {"on_close": "continue"}
        self.devices: list[str] = []  # that were handed over
        self.fails: set[str] = set()
        self.without: dict[str, str] = {}
        self.held = contextlib.nullcontext()  # entered while the device is being handed over
        self.returning = contextlib.nullcontext()  # and while it is taken back

    def said(self, call: str, *about: Any) -> None:
        self.calls.append((call, *about))
        if call in self.fails:
            raise RuntimeError(f"{call} failed")

    def folders(self) -> dict[str, Path]:
        return {"checkpoint": self.folder / "models"}

    def lacks(self) -> dict[str, str]:
        return self.without

    def versions(self) -> dict[str, str]:
        return {}

    def data_folder(self) -> Path:
        return self.folder

    def runs_folder(self) -> Path:
        return self.folder / "my runs"

    def option(self, name: str) -> Any:
        return self.options[name]

    @contextlib.contextmanager
    def handed_over(self, mode: str, device: str):
        self.devices.append(device)
        with self.held:
            self.said("hand over", mode)
        try:
            yield
        finally:
            with self.returning:
                self.said("take back")

    def refresh(self, kind: str, path: Path) -> None:
        assert path.exists()
        self.said("refresh", path.name)

    def forget(self, kind: str, path: Path) -> None:
        assert not path.exists()
        self.said("forget", path.name)

    def select(self, path: Path) -> str:
        self.said("select", path.name)
        return f"{path.stem} [0123456789]"


class FakeEnvironment:
    """Ready, and this Python: its workers pretend, unless they are to be the engine's."""

    def __init__(self, folder: Path, engine: bool = False):
        self.folder, self.engine, self.state, self.reason = folder, engine, "ready", ""

    def status(self) -> Status:
        return Status(self.state, self.reason, str(self.folder), device="CPU only")

    def command(self, argv: list[str]) -> list[str]:
        return [sys.executable, *(argv if self.engine else [str(SCRIPT), *argv[2:]])]

    def variables(self, changes: dict[str, str]) -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), **changes}


class Place:
    """A folder of runs with its host, and the dispatchers on it."""

    def __init__(self, folder: Path, engine: bool = False):
        self.folder, self.runs = folder, folder / "my runs"
        self.host = FakeHost(folder)
        self.environment = FakeEnvironment(folder / "environment", engine)
        self.made: list[Dispatcher] = []

    def dispatcher(self, start: bool = True, patience: Patience | None = None) -> Dispatcher:
        made = Dispatcher(self.runs, self.environment, self.host, patience)
        self.made.append(made)
        if start:
            made.start()
        return made

    def submit(
        self,
        dispatcher: Dispatcher,
        name: str = "cat",
        steps: int = 5,
        saves: int = 0,
        device: str = "cpu",
        processes: int = 1,
        **wanted,
    ) -> run_folder.Run:
        about = {"device": device, "processes": processes}
        config = RunConfig(name=name, max_train_steps=steps, checkpointing_steps=saves, **about)
        return dispatcher.submit(config, JobOptions(**wanted))

    def end(self) -> None:
        self.host.held = self.host.returning = contextlib.nullcontext()
        for dispatcher in self.made:
            dispatcher.close()
        for run in run_list.list_runs(self.runs):
            with contextlib.suppress(UserError):  # a damaged one
                worker_process.kill_alive(run)

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "models").glob("*.safetensors"))


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.end()


def ended(run: run_folder.Run, status: str = "done", patience: float = 20.0) -> dict[str, Any]:
    """Its state when all about it is settled; `status` says how it is to have ended."""
    until(lambda: run.state()["status"] in ENDED and job_options.read(run).settled, patience)
    state = run.state()
    assert state["status"] == status, (state, said(run), log(run))
    return state


def alive(run: run_folder.Run) -> bool:
    state = run.state()
    return state["status"] == "training" and state["step"] > 0


def said(run: run_folder.Run, *kinds: str) -> list[dict[str, Any]]:
    return [event for event in run.events.read() if event["type"] in (kinds or ("warning", "error"))]


def log(run: run_folder.Run) -> str:
    return exit_reasons.tail(run.path / "log.txt")


def begun(run: run_folder.Run) -> list[float]:
    return [event["time"] for event in said(run, "status") if event["status"] == "preparing"]


# --- the usual way


def test_a_run_is_trained_published_and_selected(place):
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, saves=2, intermediate=True)
    ended(run)
    until(lambda: dispatcher.active is None)
    assert place.host.calls == [
        ("hand over", "wait"),
        ("refresh", "cat_2.safetensors"),
        ("refresh", "cat_4.safetensors"),
        ("refresh", "cat.safetensors"),
        ("select", "cat.safetensors"),
        ("take back",),
    ]
    assert place.names() == ["cat.safetensors", "cat_2.safetensors", "cat_4.safetensors"]
    assert [(e["name"], e["selected"]) for e in said(run, "published")] == [
        ("cat_2", False),
        ("cat_4", False),
        ("cat", True),
    ]
    assert dispatcher.revision == 3 and dispatcher.published[-1]["title"] == "cat [0123456789]"
    assert dispatcher.published[-1]["path"] == str(place.folder / "models" / "cat.safetensors")


@pytest.mark.parametrize(("wanted", "selected"), [("every", ["cat_20.safetensors", "cat.safetensors"]), ("never", [])])
def test_what_is_selected_is_what_was_wished(place, wanted, selected):
    ended(place.submit(place.dispatcher(), steps=40, saves=20, select=wanted, while_training="share"))
    assert [call[1] for call in place.host.calls if call[0] == "select"] == selected
    assert place.host.calls[0] == ("hand over", "share")


def test_of_a_run_that_saves_on_the_way_the_last_model_alone_is_published(place):
    """A checkpoint has gigabytes, and each is a line in the WebUI's list; any of them can be put there later."""
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, saves=2)
    ended(run)
    assert place.names() == ["cat.safetensors"] and ("select", "cat.safetensors") in place.host.calls
    assert [event["name"] for event in said(run, "artifact")] == ["cat_2", "cat_4", "cat"]
    path = dispatcher.publish(run, "cat_2.safetensors", select=False)
    assert place.names() == ["cat.safetensors", "cat_2.safetensors"]
    assert dispatcher.unpublish(run, "cat_2.safetensors", path) == ["cat_2.safetensors", "cat_2.json"]
    assert place.names() == ["cat.safetensors"] and place.host.calls[-1] == ("forget", "cat_2.safetensors")
    assert [event["name"] for event in said(run, "unpublished")] == ["cat_2"]
    until(lambda: dispatcher.active is None)
    place.dispatcher()  # another host sees the run, and puts nothing back
    time.sleep(1.5)
    assert place.names() == ["cat.safetensors"]


@pytest.mark.parametrize(("select", "selected"), [("final", ["cat"]), ("never", [])])
def test_a_model_that_its_user_stopped_and_saved_is_the_last_one(place, select, selected):
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, steps=200, saves=3, select=select)
    until(lambda: said(run, "artifact"))
    dispatcher.command(run, "stop_and_save")
    step = ended(run, "stopped")["step"]
    until(lambda: dispatcher.active is None)
    assert place.names() == [f"cat_{step}.safetensors"]
    assert [call[1] for call in place.host.calls if call[0] == "select"] == [
        f"{name}_{step}.safetensors" for name in selected
    ]
    dispatcher.resume(run, total=step + 3)
    ended(run)
    assert place.names() == ["cat.safetensors", f"cat_{step}.safetensors"]


def test_nothing_is_published_unasked_and_all_can_be_later(place):
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, saves=3, publish=False)
    ended(run)
    assert place.names() == []
    path = dispatcher.publish(run, "cat_3.safetensors", select=True)
    assert path.read_text() == "weights of step 3" and ("select", "cat_3.safetensors") in place.host.calls
    assert said(run, "published")[0]["title"] == "cat_3 [0123456789]" and dispatcher.revision == 1
    with pytest.raises(UserError, match="There is no model"):
        dispatcher.publish(run, "../../secret", select=False)


# --- the queue


def test_one_run_at_a_time_in_the_order_that_was_asked_for(place):
    dispatcher = place.dispatcher(start=False)
    one, two, three, four = (place.submit(dispatcher, name) for name in ("one", "two", "three", "four"))
    assert dispatcher.queue() == [one.id, two.id, three.id, four.id]
    dispatcher.order([three.id, one.id, "unknown"])
    dispatcher.cancel(two)
    assert dispatcher.queue() == [three.id, one.id, four.id] and two.state()["status"] == "stopped"
    dispatcher.start()
    for run in (three, one, four):
        ended(run)
    (first,), (second,), (third,) = begun(three), begun(one), begun(four)
    assert three.state()["heartbeat"] <= second and one.state()["heartbeat"] <= third and first < second
    assert begun(two) == []


def test_the_queue_survives_a_restart(place):
    runs_ = [place.submit(place.dispatcher(start=False), name) for name in ("one", "two")]
    place.dispatcher()
    for run in runs_:
        ended(run)


def test_a_paused_queue_stays_as_it_is_over_a_restart_and_goes_on(place):
    dispatcher = place.dispatcher()
    first = place.submit(dispatcher, "first", steps=20)
    until(lambda: alive(first))
    second = place.submit(dispatcher, "second")
    dispatcher.pause(True)
    ended(first)  # what trains goes on
    until(lambda: dispatcher.waiting)
    dispatcher.close()
    again = place.dispatcher()
    assert until(lambda: again.waiting).code == "queue.paused" and again.queue() == [second.id]
    assert again.is_paused and second.id in again.waiting_since() and begun(second) == []
    again.pause(False)
    ended(second)


def test_states_of_a_run_that_waits_or_trains_are_not_deleted(place):
    dispatcher = place.dispatcher(start=False)
    run = place.submit(dispatcher)
    (run.checkpoints / "weights").write_bytes(bytes(10))
    with pytest.raises(UserError, match="is waiting in the queue"):
        dispatcher.delete_states(run)
    dispatcher.cancel(run)
    assert dispatcher.delete_states(run) == 10
    with pytest.raises(UserError, match="cannot go on"):
        dispatcher.resume(run)


def test_a_run_that_trains_is_stopped_and_goes_on_later(place):
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, steps=200)
    until(lambda: alive(run))
    assert dispatcher.active == run and dispatcher.queue() == []
    for forbidden in (dispatcher.delete, dispatcher.resume):
        with pytest.raises(UserError, match=run.id):
            forbidden(run)
    dispatcher.cancel(run)
    step = ended(run, "stopped")["step"]
    assert 0 < step < 200 and place.names() == []
    with pytest.raises(UserError, match="neither waiting nor training"):
        dispatcher.cancel(run)
    until(lambda: dispatcher.active is None)
    dispatcher.resume(run, total=step + 3)
    assert ended(run)["step"] == step + 3
    dispatcher.resume(run, JobOptions(select="never"), total=step + 5)
    assert ended(run)["step"] == step + 5
    assert [event["step"] for event in said(run, "published")] == [step + 3, step + 5]
    assert (place.folder / "models" / "cat.safetensors").read_text() == f"weights of step {step + 5}"


def test_waiting_runs_cannot_be_deleted_others_can(place):
    dispatcher = place.dispatcher(start=False)
    run = place.submit(dispatcher)
    with pytest.raises(UserError, match="is waiting in the queue"):
        dispatcher.delete(run)
    dispatcher.command(run, "stop")
    with pytest.raises(UserError, match="is not training"):
        dispatcher.command(run, "sample")
    dispatcher.delete(run)
    assert not run.path.exists() and dispatcher.queue() == []


def test_a_run_that_is_cancelled_while_the_device_is_handed_over_does_not_begin(place):
    dispatcher = place.dispatcher(start=False)
    place.host.held = waiting = Gate()
    run = place.submit(dispatcher)
    dispatcher.start()
    until(lambda: place.host.devices)
    assert dispatcher.waiting.code == "queue.handing_over"
    dispatcher.cancel(run)
    assert run.state()["status"] == "saving" and dispatcher.queue() == []  # the host has not got its device back
    waiting.open()
    ended(run, "stopped")
    assert begun(run) == [] and not (run.path / "log.txt").exists()
    assert place.host.calls[-1] == ("take back",) and run.events.read()[-1]["status"] == "stopped"


def test_for_a_run_that_is_cancelled_before_it_is_claimed_no_device_is_handed_over(place, monkeypatch):
    dispatcher, claim, canceled = place.dispatcher(start=False), JobMonitor.claim, []

    def late(monitor: JobMonitor) -> bool:
        dispatcher.cancel(monitor.run)
        canceled.append(monitor.run.state()["status"])
        return claim(monitor)

    monkeypatch.setattr(JobMonitor, "claim", late)
    run = place.submit(dispatcher)
    dispatcher.start()
    until(lambda: canceled)
    until(lambda: not dispatcher.active)
    assert canceled == ["stopped"] and run.state()["status"] == "stopped" and place.host.devices == []


def test_a_run_that_leaves_the_queue_again_still_gets_its_models_published(place):
    """It ended while no host was there, and was put back before one had seen it."""
    dispatcher = place.dispatcher(start=False)
    run = place.submit(dispatcher, steps=2)
    dispatcher.order([run.id])
    subprocess.run([sys.executable, SCRIPT, run.path], env=place.environment.variables({}))
    assert dispatcher._allocation.sweep_queue() == []
    dispatcher.resume(run, total=9)
    dispatcher.cancel(run)
    assert run.state()["status"] == "saving"
    dispatcher.start()
    assert ended(run)["step"] == 2 and place.names() == ["cat.safetensors"]


def test_done_is_said_last(place):
    """A program that waits for it finds the model there and selected, and the host's own models back."""
    dispatcher, place.host.returning = place.dispatcher(), Gate()
    run = place.submit(dispatcher)
    until(lambda: said(run, "published") and not run.is_held())
    time.sleep(0.5)
    assert run.state()["status"] == status_of(run) == "saving" and run.state()["ending"] == "done"
    assert dispatcher.active == run and ("select", "cat.safetensors") in place.host.calls
    with pytest.raises(UserError, match="training or being published"):
        dispatcher.resume(run, total=9)
    with pytest.raises(UserError):
        dispatcher.delete(run)
    place.host.returning.open()
    until(lambda: run.state()["status"] == "done")
    assert dispatcher.active is None and place.host.calls[-1] == ("take back",)
    ended(run)
    assert run.events.read()[-1]["status"] == "done"
    dispatcher.resume(run, total=9)
    assert ended(run)["step"] == 9


ENDINGS = {  # a run's name, what is done with it once it trains, how it ends
    "stopped": ("cat", lambda dispatcher, run: dispatcher.command(run, "stop_and_save"), "stopped"),
    "killed": ("cat", lambda dispatcher, run: dispatcher.kill(run), "failed"),
    "crashed": ("abort", lambda dispatcher, run: None, "failed"),
    "refused": ("refused", lambda dispatcher, run: None, "failed"),
}


@pytest.mark.parametrize("way", ENDINGS)
def test_stopped_and_failed_are_said_last_too(place, way):
    name, act, status = ENDINGS[way]
    dispatcher, place.host.returning = place.dispatcher(), Gate()
    run = place.submit(dispatcher, name, steps=200, saves=1, intermediate=True)
    if act and name == "cat":
        until(lambda: said(run, "artifact"))
        act(dispatcher, run)
    until(lambda: run.last_word() == status and not run.is_held())
    time.sleep(0.5)
    assert run.state()["status"] == status_of(run) == "saving" and dispatcher.active == run
    made = {event["name"] for event in said(run, "artifact")}
    assert {event["name"] for event in said(run, "published")} == made and bool(made) == (way != "refused")
    assert not [event for event in said(run, "status") if event["status"] in ENDED]
    place.host.returning.open()
    ended(run, status)
    assert run.events.read()[-1]["status"] == status and place.host.calls[-1] == ("take back",)
    assert bool(run.state().get("problem")) == (status == "failed")
    until(lambda: dispatcher.active is None)


@contextlib.contextmanager
def polled(run: run_folder.Run):
    """The statuses that a program sees that asks again and again."""
    seen, over = [], threading.Event()

    def poll() -> None:
        while not over.wait(0.002):
            status = run.state()["status"]
            if not seen or seen[-1] != status:
                seen.append(status)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(("act", "status"), [("", "done"), ("stop_and_save", "stopped"), ("kill", "failed")])
def test_what_was_told_of_an_end_is_not_taken_back_when_a_host_comes(place, act, status):
    """The worker ended while no host was there; a model is due."""
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, steps=20 if not act else 400, saves=10, intermediate=True)
    until(lambda: alive(run))
    dispatcher.close()
    with polled(run) as seen:
        until(lambda: said(run, "artifact"))
        if act == "kill":
            assert worker_process.kill_alive(run)
        elif act:
            run.command(act)
        until(lambda: not run.is_held())
        time.sleep(0.5)
        assert seen[-1] == "saving"
        dispatcher.start()
        ended(run, status)
        time.sleep(0.2)
    assert seen[-2:] == ["saving", status] and seen.count(status) == 1
    assert place.names() == sorted({event["file"] for event in said(run, "artifact")})


def test_a_worker_says_itself_that_it_is_done_where_nobody_follows_it_and_nothing_is_owed(place):
    run = place.submit(place.dispatcher(start=False), steps=2, publish=False)  # nobody has a device to give back
    assert subprocess.run([sys.executable, SCRIPT, run.path], env=place.environment.variables({})).returncode == 0
    assert status_of(run) == "done"


def test_done_is_told_after_publishing_also_where_nobody_was_there_when_the_worker_ended(place):
    dispatcher = place.dispatcher(start=False)
    run = place.submit(dispatcher, steps=2)
    subprocess.run([sys.executable, SCRIPT, run.path], env=place.environment.variables({}))
    assert run.state()["status"] == status_of(run) == "saving"
    dispatcher.start()
    ended(run)
    assert [event.get("status", event["type"]) for event in said(run, "published", "status")][-2:] == [
        "published",
        "done",
    ]


def test_what_is_wished_of_a_run_is_read_when_it_is_taken(place, tmp_path):
    """A terminal had it between a host's look and its claim, and published it in another folder."""
    run = left_by_a_terminal(place, tmp_path / "named")
    stale = JobMonitor(run, job_options.read(run), Publisher(place.host), Patience())
    wanted = delivery.renewed(
        run,
        {"checkpoint": str(tmp_path / "other")},
        Namespace(publish_intermediate=None, webui=None, comfyui=None, sdnext=None, output_dir=None),
    )
    wanted.write(run)
    with run.claim():
        delivery.publish_due(run, wanted)
        delivery.conclude(run, wanted)
    before = run.events.read()
    assert stale.claim()
    stale.finish()
    stale.settle()
    stale.release()
    assert run.events.read() == before and not (tmp_path / "named").exists()
    assert job_options.read(run) == wanted.but(settled=True)


def test_a_run_that_is_put_back_while_a_host_settles_it_waits_and_has_not_failed(place):
    dispatcher = place.dispatcher(start=False)
    run = place.submit(dispatcher, steps=2)
    subprocess.run([sys.executable, SCRIPT, run.path], env=place.environment.variables({}))
    run.write_state(status="failed", ending=None)
    monitor = JobMonitor(run, job_options.read(run), Publisher(place.host), Patience())
    assert dispatcher._allocation.sweep_queue() == []
    dispatcher.resume(run)
    dispatcher._settle(monitor)
    assert status_of(run) == "queued" and said(run, "error") == [] and not job_options.read(run).settled


def test_a_run_whose_terminal_was_killed_before_its_worker_s_first_word_can_be_stopped(place):
    dispatcher = place.dispatcher(start=False)
    run = run_folder.create(place.runs, RunConfig(name="cat"), JobOptions(by_terminal=True).as_dict())
    with run.claim():
        dispatcher.cancel(run)
        assert status_of(run) == "queued"  # the worker hears of it
    dispatcher.cancel(run)
    assert status_of(run) == "stopped"
    dispatcher.resume(run)
    assert dispatcher.queue() == [run.id]


def test_a_run_whose_host_died_after_its_worker_s_last_word_is_done_and_is_published_by_the_next(place):
    dispatcher = place.dispatcher(start=False)
    run = place.submit(dispatcher, steps=2)
    with run.claim():
        subprocess.run([sys.executable, SCRIPT, run.path], env=place.environment.variables({}))
        assert run.state()["status"] == "saving"
    assert run.state()["status"] == status_of(run) == "saving"
    dispatcher.start()
    ended(run)
    assert status_of(run) == "done" and place.names() == ["cat.safetensors"]
    assert [event.get("status") for event in said(run, "published", "status")][-2:] == [None, "done"]


def test_a_publication_of_which_nothing_was_told_is_told_and_not_repeated(place):
    """The host was killed between the two."""
    dispatcher = place.dispatcher(start=False)
    run = place.submit(dispatcher, steps=2)
    subprocess.run([sys.executable, SCRIPT, run.path], env=place.environment.variables({}))
    path = model_files.publish(run.artifacts / "cat.safetensors", place.folder / "models", run=run.id, name="cat")
    before = path.stat().st_ino, path.with_suffix(".json").stat().st_mtime_ns
    dispatcher.start()
    ended(run)
    assert (path.stat().st_ino, path.with_suffix(".json").stat().st_mtime_ns) == before
    assert [event["name"] for event in said(run, "published")] == ["cat"]


# --- runs of terminals that were closed or killed


def test_what_a_killed_publisher_left_in_a_host_s_folder_is_gone_when_it_leads(place):
    (left := place.folder / "models" / f"{staging.PREFIX}dead").mkdir(parents=True)
    (left / "cat.safetensors.part").write_bytes(b"half")
    dispatcher = place.dispatcher()
    until(lambda: dispatcher.leads and not left.exists())


def left_by_a_terminal(place, folder: Path, **about: Any) -> run_folder.Run:
    """A run whose worker is done, and whose terminal published nothing of it."""
    folders = {"checkpoint": str(folder)}
    wanted = JobOptions(intermediate=True, select="never", folders=folders, by_terminal=True)
    config = RunConfig(name="cat", device="cpu", max_train_steps=4, checkpointing_steps=2)
    run = run_folder.create(place.runs, config, wanted.but(**about).as_dict())
    with run.claim():
        subprocess.run([sys.executable, SCRIPT, run.path], env=place.environment.variables({}))
    return run


def test_what_a_terminal_left_is_published_by_a_host_where_its_user_said(place, tmp_path):
    run = left_by_a_terminal(place, tmp_path / "named")
    place.dispatcher()
    ended(run)
    assert sorted(path.name for path in (tmp_path / "named").glob("*.safetensors")) == [
        "cat.safetensors",
        "cat_2.safetensors",
    ]
    assert sorted(event["name"] for event in said(run, "published")) == ["cat", "cat_2"]
    assert place.host.calls == []  # it is no folder of the host


def test_hosts_leave_a_run_alone_that_a_terminal_has(place, tmp_path):
    """While it waits, trains, and is published."""
    run = left_by_a_terminal(place, tmp_path / "named")
    other = run_folder.create(place.runs, RunConfig(name="waits"), JobOptions(by_terminal=True).as_dict())
    with run.claim():
        dispatcher = place.dispatcher()
        ended(place.submit(dispatcher, steps=2))
        assert said(run, "published") == [] and status_of(run) == "saving" and not job_options.read(run).settled
        assert dispatcher.queue() == [] and status_of(other) == "queued"
    ended(run)


def test_two_hosts_at_once_publish_each_model_once(place, tmp_path):
    run = left_by_a_terminal(place, tmp_path / "named")
    other = Place(tmp_path)
    other.runs = place.runs
    both = [Dispatcher(it.runs, it.environment, it.host) for it in (place, other)]
    threads = [threading.Thread(target=one._attend_to_unsettled, args=[threading.Event()]) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended(run)
    assert sorted(event["name"] for event in said(run, "published")) == ["cat", "cat_2"]


class Gate:
    """A context that cannot be entered before it was opened."""

    def __init__(self):
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def __enter__(self) -> None:
        until(lambda: self.is_open)

    def __exit__(self, *error) -> None:
        pass


def test_a_run_from_a_terminal_has_the_device_first(place):
    dispatcher = place.dispatcher(start=False)
    other = run_folder.create(place.runs, RunConfig(name="other", device="cpu", max_train_steps=200))
    run = place.submit(dispatcher)
    with other.take():
        dispatcher.start()
        until(lambda: dispatcher.waiting)
        assert other.id in dispatcher.waiting and run.state()["status"] == "queued"
    ended(run)
    assert other.state()["status"] == "queued"  # is its terminal's, as before


# --- several devices


def test_runs_on_different_devices_train_side_by_side_and_in_order_on_each(place):
    dispatcher = place.dispatcher(start=False)
    first, second, third, other = (
        place.submit(dispatcher, name, steps=steps, device=device)
        for name, steps, device in (("a", 60, "cuda"), ("b", 3, "cuda:0"), ("c", 3, "cuda:0"), ("d", 60, "cuda:1"))
    )
    dispatcher.order([first.id, third.id])
    dispatcher.start()
    until(lambda: alive(first) and alive(other))
    assert dispatcher.running == [first, other] and dispatcher.active == other
    assert dispatcher.queue() == [third.id, second.id] and dispatcher.waiting == ""
    for busy in (first, other):
        with pytest.raises(UserError, match="is still training"):
            dispatcher.delete(busy)
    dispatcher.command(other, "stop")
    ended(other, "stopped")
    for run in (first, third, second):
        ended(run)
    assert (
        begun(other)[0] < first.state()["heartbeat"] <= begun(third)[0] < third.state()["heartbeat"] <= begun(second)[0]
    )
    assert sorted(place.host.devices) == ["cuda:0"] * 3 + ["cuda:1"]
    assert place.names() == ["a.safetensors", "b.safetensors", "c.safetensors"]


def test_a_run_on_two_cards_waits_for_both_and_has_both(place):
    """And what is queued after it waits behind it, on either card."""
    dispatcher = place.dispatcher(start=False)
    first, both, second, third, other = (
        place.submit(dispatcher, name, steps=steps, device=device, processes=processes)
        for name, steps, device, processes in (
            ("a", 20, "cuda:1", 1),
            ("b", 20, "cuda:0", 2),
            ("c", 3, "cuda:0", 1),
            ("d", 20, "cuda:0,1", 1),
            ("e", 3, "cuda:2", 1),
        )
    )
    assert [dispatcher.devices(run) for run in (both, third)] == [("cuda:0", "cuda:1")] * 2
    dispatcher.start()
    for run in (first, both, second, third, other):
        ended(run)
    times = [begun(run)[0] for run in (first, both, second, third)]
    assert times == sorted(times)
    assert first.state()["heartbeat"] <= begun(both)[0] and both.state()["heartbeat"] <= begun(second)[0]
    assert second.state()["heartbeat"] <= begun(third)[0]
    assert begun(other)[0] < begun(both)[0]
    assert sorted(place.host.devices) == ["cuda:0"] * 3 + ["cuda:1"] * 3 + ["cuda:2"]


def test_a_process_is_started_for_each_card(tmp_path):
    launcher, worker = "dreambooth_ext.engine.launching.launcher", "dreambooth_ext.engine.worker"
    for settings, asked, started in (
        ({}, None, ["-m", worker]),
        ({"processes": 4}, None, ["-m", launcher, "--processes=4"]),
        ({"device": "cuda:0,2,3"}, None, ["-m", launcher, "--processes=3"]),
        ({"device": "cuda:0,2,3"}, 1, ["-m", worker]),
        ({}, 2, ["-m", launcher, "--processes=2"]),
    ):
        assert worker_process.program(run_folder.create(tmp_path, RunConfig(name="a", **settings)), asked) == started


def test_nothing_is_drawn_on_the_second_card_of_a_run(place):
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, "both", steps=400, device="cuda:0,1")
    until(lambda: alive(run))
    with pytest.raises(Refusal, match=run.id):
        dispatcher.lend(Loan("cuda:1", Message("queue.paused")))
    loan = Loan("cuda:2", Message("queue.paused"))
    dispatcher.lend(loan)
    dispatcher.give_back(loan)
    dispatcher.command(run, "stop")
    ended(run, "stopped")


def test_what_waits_for_one_device_holds_up_no_other(place):
    dispatcher = place.dispatcher(start=False)
    terminal = run_folder.create(place.runs, RunConfig(name="terminal", device="cuda:1"))
    blocked, free = (
        place.submit(dispatcher, "blocked", device="cuda:1"),
        place.submit(dispatcher, "free", device="auto"),
    )
    with terminal.take():
        dispatcher.start()
        ended(free)
        assert terminal.id in dispatcher.waiting and blocked.state()["status"] == "queued"
    ended(blocked)
    assert place.host.devices == ["cpu", "cuda:1"]


def test_all_that_trains_is_adopted_by_the_next_host_or_stopped_with_this_one(place):
    first = place.dispatcher()
    several = [place.submit(first, name, steps=400, device=name) for name in ("cpu", "cuda:1", "mps")]
    until(lambda: all(map(alive, several)))
    first.close()
    assert first.running == [] and all(map(alive, several)) and len(place.host.calls) == 6
    second = place.dispatcher()
    until(lambda: len(second.running) == 3)
    for run in several:
        assert second.queue() == [] and not job_options.read(run).settled
    place.host.options["on_close"] = "stop"
    second.close()
    until(lambda: all(run.state()["status"] == "stopped" for run in several))


def test_one_device_s_trouble_is_not_another_s(place):
    dispatcher = place.dispatcher(patience=Patience(silent=60, stuck=0.6, factor=1.5))
    fine, stuck = place.submit(dispatcher, "fine", steps=60), place.submit(dispatcher, "stuck", device="cuda:1")
    assert "no progress" in until(lambda: dispatcher.trouble(stuck))["what"]
    assert dispatcher.trouble(fine) is None
    ended(stuck)
    ended(fine)


# --- folders that this user may not use


def test_a_run_whose_lock_may_not_be_opened_hinders_no_other(place, monkeypatch, capsys):
    dispatcher = place.dispatcher(start=False)
    left, waiting = place.submit(dispatcher, "left"), place.submit(dispatcher, "theirs")
    dispatcher.cancel(left)
    job_options.read(left).but(settled=False).write(left)
    left.write_state(status="training", heartbeat=1.0)
    run = place.submit(dispatcher)

    def refused(original):
        def look(path: Path):
            if path.parent.name in (left.id, waiting.id):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return original(path)

        return look

    with monkeypatch.context() as patched:
        patched.setattr(files, "is_locked", refused(files.is_locked))
        patched.setattr(files, "try_lock", refused(files.try_lock))
        dispatcher.start()
        ended(run)
        until(lambda: "Permission denied" in dispatcher.waiting)
        assert waiting.id in dispatcher.waiting and dispatcher.queue() == [waiting.id]
        assert capsys.readouterr().err.count(left.id) == 2  # in one line: the run and its file
        with pytest.raises(UserError, match="Permission denied"):
            dispatcher.resume(left)
    ended(waiting)
    ended(left, "failed")


def test_a_lock_that_may_not_be_looked_at_is_judged_by_the_heartbeat(tmp_path, monkeypatch):
    run = run_folder.create(tmp_path, RunConfig(name="cat"))

    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(files, "is_locked", refuse)
    assert not run.is_held()
    run.write_state(status="training", heartbeat=time.time())
    assert run.is_held() and run.state()["status"] == "training"
    run.write_state(heartbeat=time.time() - run_folder.SILENCE - 1)
    assert not run.is_held() and run.state()["status"] == "failed"


# --- workers that die or hang


@posix
def test_a_killed_worker_is_noticed_within_seconds_and_explained(place):
    dispatcher = place.dispatcher()
    run, next_run = place.submit(dispatcher, steps=300), place.submit(dispatcher, "next")
    until(lambda: alive(run))
    os.kill(run.state()["pid"], signal.SIGKILL)
    started = time.monotonic()
    state = ended(run, "failed")
    assert time.monotonic() - started < 3
    assert "killed (signal 9, SIGKILL)" in state["problem"]["message"] and "memory" in state["problem"]["remedy"]
    (error,) = said(run, "error")
    assert error["what"] == state["problem"]["message"] and said(run, "status")[-1]["status"] == "failed"
    ended(next_run)
    assert [call[0] for call in place.host.calls[:2]] == ["hand over", "take back"]
    (run.checkpoints / "7").mkdir()
    assert exit_reasons.resuming(run) == "Resume the run: it continues from step 7."


def test_a_worker_that_crashes_or_never_begins_is_explained_by_its_log(place):
    dispatcher = place.dispatcher()
    never, within, refused = (place.submit(dispatcher, name) for name in ("crash", "abort", "refused"))
    problem = ended(never, "failed")["problem"]
    assert "exit code is 1" in problem["message"] and "No module named 'diffusers'" in problem["message"]
    assert "repair the trainer's environment" in problem["remedy"]
    problem = ended(within, "failed")["problem"]
    assert "device-side assert" in problem["message"]
    assert os.name == "nt" or "a library crashed it (signal 6, SIGABRT)" in problem["message"]
    assert ended(refused, "failed")["problem"]["field"] == "base_model"
    assert len(said(refused, "error")) == 1  # the worker's own
    until(lambda: dispatcher.active is None)
    assert [call[0] for call in place.host.calls] == ["hand over", "take back"] * 3


def halt(run: run_folder.Run) -> int:
    """Let the run's worker hang, though not while it holds the lock of its events: others would wait for it."""
    pid = run.state()["pid"]
    for _ in range(1000):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.02)
        if not files.is_locked(run.path / "events.jsonl.lock"):
            return pid
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("it always writes")


@posix
def test_a_worker_that_hangs_is_told_and_can_be_ended(place):
    dispatcher = place.dispatcher(patience=Patience(silent=0.8))
    run = place.submit(dispatcher, steps=100_000)  # none ends before it is looked at
    until(lambda: alive(run))
    pid = halt(run)
    trouble = until(lambda: dispatcher.trouble(run))
    assert trouble["code"] == "queue.silent" and "end the process" in trouble["remedy"]
    os.kill(pid, signal.SIGCONT)
    until(lambda: dispatcher.trouble(run) is None)
    warning, cleared = said(run, "warning")[0], said(run, "status")[-1]
    assert cleared["clears"] == warning["n"] == trouble["n"] and cleared["status"] == "training"
    halt(run)
    until(lambda: dispatcher.trouble(run))
    dispatcher.kill(run)
    assert ended(run, "failed")["problem"]["code"].startswith("queue.ended_by_user")
    with pytest.raises(UserError, match="has no process"):
        dispatcher.kill(run)


def test_a_worker_that_hangs_before_it_has_begun_can_be_ended(place):
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, "asleep")
    until(lambda: dispatcher.queue() == [] and (run.path / "log.txt").exists())
    until(lambda: run.id not in dispatcher._queue.ids())
    assert run.state()["status"] == "queued" and not run.is_alive()
    dispatcher.kill(run)
    assert ended(run, "failed")["problem"]["code"].startswith("queue.ended_by_user")


def test_a_worker_without_progress_is_told_until_it_goes_on(place):
    dispatcher = place.dispatcher(patience=Patience(silent=60, stuck=0.6, factor=1.5))
    run = place.submit(dispatcher, "stuck")
    trouble = until(lambda: dispatcher.trouble(run))
    assert "no progress" in trouble["what"]
    ended(run)
    assert dispatcher.trouble(run) is None
    assert [event["clears"] for event in said(run, "status") if "clears" in event] == [trouble["n"]]


@pytest.mark.parametrize("way", ["kill", "stop", "stop_and_save", "delete"])
def test_a_worker_that_hangs_after_its_last_word_can_be_ended_and_the_queue_goes_on(place, way):
    """A driver that does not let go: everything is written and published."""
    dispatcher = place.dispatcher(patience=Patience(silent=0.8))
    service = Service(place.host, place.environment, dispatcher)
    run, next_one = place.submit(dispatcher, "lingers", steps=2), place.submit(dispatcher, "next", steps=2)
    until(lambda: said(run, "published") and run.is_held())
    assert run.state()["status"] == "saving" and begun(next_one) == []
    if way == "delete":
        service.delete(run.id)
        assert not run.path.exists()
    else:
        service.commands.command(run.id, way)
        ended(run)
    ended(next_one)
    assert place.names() == ["lingers.safetensors", "next.safetensors"]


@posix
@pytest.mark.parametrize("status", ["done", "stopped", "failed"])
def test_a_worker_that_is_stopped_with_any_status_can_be_killed(place, status):
    dispatcher = place.dispatcher(start=False)
    service = Service(place.host, place.environment, dispatcher)
    run = place.submit(dispatcher, "lingers", steps=2, publish=False)
    worker = subprocess.Popen([sys.executable, SCRIPT, run.path], env=place.environment.variables({}))
    until(lambda: status_of(run) == "done")
    os.kill(worker.pid, signal.SIGSTOP)
    run.write_state(status=status)
    service.commands.command(run.id, "kill")
    assert worker.wait(5) == -signal.SIGKILL
    assert status_of(run) == status
    with pytest.raises(UserError, match="is not training"):
        service.commands.command(run.id, "kill")


@posix
def test_only_the_run_s_own_worker_is_ever_ended(place):
    run = place.submit(place.dispatcher(start=False))
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        run.write_state(status="training", pid=stranger.pid, host=run_folder.this_worker()["host"])
        assert not worker_process.kill_alive(run)  # nobody holds the run's lock: the number is an old one
        with run.take():
            assert not worker_process.kill_alive(run) or not Path("/proc/self/cmdline").exists()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_exit_codes_in_words():
    assert "SIGSEGV" in exit_reasons.in_words(-11) or os.name == "nt"
    assert "access violation" in exit_reasons.in_words(0xC0000005)
    assert exit_reasons.in_words(0xC0000999) == "its exit code is 0xC0000999."
    assert exit_reasons.in_words(3) == "its exit code is 3."
    assert "the machine went down" in exit_reasons.in_words(None)


def test_the_end_of_a_log_is_short_and_of_this_worker(tmp_path):
    path = tmp_path / "log.txt"
    assert exit_reasons.tail(path) == ""
    path.write_text("of an earlier one\n", encoding="utf-8")
    start = path.stat().st_size
    with path.open("a", encoding="utf-8", newline="") as stream:
        stream.write("\n".join(f"line {n} ä" for n in range(5000)) + "\n\n 10%|#\r 20%|##\nlast\xff\n")
    lines = exit_reasons.tail(path, start).splitlines()
    assert len(lines) == exit_reasons.LINES and lines[-3:] == ["line 4999 ä", " 20%|##", "last\xff"]
    assert exit_reasons.tail(path, path.stat().st_size) == ""


def test_patience_grows_with_the_pauses_that_were_made_and_sleep_does_not_count():
    now = [0.0]
    watch = Watchdog(Patience(silent=15, starting=100, stuck=60, factor=5), clock=lambda: now[0])
    step, beats = [{"type": "step"}], iter(range(1_000_000))

    def passing(seconds: float, beating: bool) -> None:
        for _ in range(int(seconds)):
            now[0] += 1
            watch.see([], next(beats) if beating else None)

    passing(100, False)
    assert watch.trouble() is None
    passing(1, False)
    assert watch.trouble().code == "queue.slow_start"
    passing(40, True)
    assert watch.trouble().code == "queue.stuck"
    watch.see(step, None)
    assert watch.trouble() is None
    passing(5 * 140, True)
    assert watch.trouble() is None  # the first step took 140 seconds
    passing(10, True)
    assert watch.trouble().code == "queue.stuck"
    watch.see([{"type": "warning"}, {"type": "status", "clears": 7}], None)  # by ourselves
    assert watch.trouble()
    watch.see(step, None)
    passing(16, False)
    assert watch.trouble().code == "queue.silent"
    watch.see(step, next(beats))
    now[0] += 8 * 3600
    watch.see([], None)
    assert LOOK < 15 and watch.trouble() is None


# --- what keeps a run from beginning


@pytest.mark.parametrize("state", ["missing", "broken"])
def test_without_an_environment_the_run_says_so(place, state):
    place.environment.state, place.environment.reason = state, "Its interpreter is gone."
    problem = ended(place.submit(place.dispatcher()), "failed")["problem"]
    assert problem["field"] == "environment" and "Its interpreter is gone." in problem["message"]
    assert "Repair" in problem["remedy"] and place.host.devices == []


def test_an_environment_that_is_being_made_is_waited_for(place):
    place.environment.state = "missing"
    dispatcher = place.dispatcher(start=False)
    with files.try_lock(place.environment.folder / "build.lock"):
        run = place.submit(dispatcher)
        dispatcher.start()
        until(lambda: "being set up" in dispatcher.waiting)
        place.environment.state = "ready"
    ended(run)
    assert dispatcher.waiting == ""


def test_a_worker_that_cannot_be_started_gives_the_device_back(place, monkeypatch):
    monkeypatch.setattr(place.environment, "command", lambda argv: [str(place.folder / "no such python")])
    seen, conclude = [], conclusion.conclude

    def concluded(run: run_folder.Run) -> bool:
        seen.append(place.host.calls[-1][0])
        return conclude(run)

    monkeypatch.setattr(conclusion, "conclude", concluded)
    problem = ended(place.submit(place.dispatcher()), "failed")["problem"]
    assert "could not be started" in problem["message"] and place.made[0].queue() == []
    until(lambda: place.made[0].active is None)
    assert [call[0] for call in place.host.calls] == ["hand over", "take back"] and seen == ["take back"]


# --- what a host does wrong


@pytest.mark.parametrize("what", ["hand over", "take back", "refresh", "select"])
def test_a_host_that_fails_is_told_and_the_model_is_there(place, what):
    place.host.fails.add(what)
    run = place.submit(place.dispatcher())
    ended(run)
    until(lambda: said(run, "warning"))
    (warning,) = said(run, "warning")
    assert f"{what} failed" in warning["what"] and warning["remedy"]
    assert place.names() == ["cat.safetensors"] and len(said(run, "published")) == 1
    ended(place.submit(place.made[0], "next"))


def test_a_foreign_model_of_that_name_is_a_warning_and_training_goes_on(place):
    foreign = place.folder / "models" / "cat_2.safetensors"
    foreign.parent.mkdir()
    foreign.write_text("somebody's")
    run = place.submit(place.dispatcher(), saves=2, intermediate=True)
    ended(run)
    (warning,) = said(run, "warning")
    assert "was not made by this extension" in warning["what"] and "Choose another" in warning["remedy"]
    assert foreign.read_text() == "somebody's"
    assert [event["name"] for event in said(run, "published")] == ["cat_4", "cat"]
    foreign.rename(foreign.with_name("moved.safetensors"))
    place.made[0].publish(run, "cat_2.safetensors", select=False)
    assert foreign.read_text() == "weights of step 2"


def test_a_full_disk_is_a_warning_and_not_tried_again_and_again(place, monkeypatch):
    tries = []

    def full(*arguments, **options):
        tries.append(arguments)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_files, "publish", full)
    run = place.submit(place.dispatcher(), saves=2, intermediate=True)
    ended(run)
    assert len(said(run, "warning")) == len(tries) == 3
    assert (
        "No space left" in said(run, "warning")[0]["what"] and str(run.artifacts) in said(run, "warning")[0]["remedy"]
    )
    with pytest.raises(UserError, match="No space left"):
        place.made[0].publish(run, "cat.safetensors", select=False)


@pytest.mark.parametrize("file", ["config.json", "state.json", "host.json", "queue.json"])
def test_on_a_full_disk_no_half_of_a_run_is_made(place, monkeypatch, file):
    dispatcher, write = place.dispatcher(start=False), files.write_text

    def full(path: Path, text: str, parents: bool = True) -> None:
        if path.name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, text, parents)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            place.submit(dispatcher)
    assert not [path for path in place.runs.iterdir() if path.is_dir()]
    assert dispatcher.queue() == []


def test_what_a_host_cannot_use_is_not_published(place):
    place.host.without = {"checkpoint": "This host has no checkpoints."}
    run = place.submit(place.dispatcher())
    ended(run)
    assert place.names() == [] and "This host has no checkpoints." in said(run, "warning")[0]["what"]


# --- hosts that come and go


def test_a_worker_goes_on_without_its_host_and_is_adopted_by_the_next(place):
    first = place.dispatcher()
    run = place.submit(first, steps=40, saves=4, intermediate=True)
    until(lambda: said(run, "published"))
    first.close()
    first.close()
    assert alive(run) and place.host.calls[-1] == ("take back",)
    until(lambda: len(said(run, "artifact")) >= 4)  # some come while nobody is there
    second = place.dispatcher()
    until(lambda: second.active == run)
    ended(run)
    names = [event["name"] for event in said(run, "published")]
    assert sorted(names) == sorted({event["name"] for event in said(run, "artifact")}) and len(names) == 10
    assert place.host.calls.count(("hand over", "wait")) == 2


def test_a_run_that_ended_while_no_host_was_there_is_published_by_the_next(place):
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, steps=40)  # so long that it is seen alive on a busy machine
    until(lambda: alive(run))
    dispatcher.close()
    until(lambda: run.last_word() == "done" and not run.is_held())
    assert place.names() == [] and run.state()["status"] == "saving"
    dispatcher.start()
    ended(run)
    assert place.names() == ["cat.safetensors"] and ("select", "cat.safetensors") in place.host.calls


@posix
def test_a_run_that_was_killed_while_no_host_was_there_is_explained_by_the_next(place):
    run = place.submit(place.dispatcher(), steps=300)
    until(lambda: alive(run))
    place.made[0].close()
    os.kill(run.state()["pid"], signal.SIGKILL)
    until(lambda: not run.is_alive())
    place.dispatcher()
    assert "killed, or the machine went down" in ended(run, "failed")["problem"]["message"]


def test_closing_stops_the_run_where_the_user_wants_that(place):
    place.host.options["on_close"] = "stop"
    dispatcher = place.dispatcher()
    run = place.submit(dispatcher, steps=300)
    until(lambda: alive(run))
    dispatcher.close()
    until(lambda: run.state()["status"] == "stopped")


HOST = """
import sys, time
sys.path[:0] = [{repository!r}]
from pathlib import Path
from tests.host.jobs.test_dispatcher import Place
place = Place(Path({folder!r}))
place.host.options["on_close"] = {before!r}
dispatcher = place.dispatcher()
while not dispatcher.running:
    time.sleep(0.01)
place.host.options["on_close"] = {on_close!r}  # while it trains
time.sleep(2)
(place.folder / "chosen").touch()
time.sleep(60)
"""


@posix
@pytest.mark.parametrize(
    ("before", "on_close", "status"),
    [("stop", "stop", "stopped"), ("continue", "continue", "done"), ("continue", "stop", "stopped")],
)
def test_a_host_that_is_killed_leaves_the_run_as_the_user_wants_then(place, before, on_close, status):
    run = place.submit(place.dispatcher(start=False), steps=150)
    code = HOST.format(repository=str(REPOSITORY), folder=str(place.folder), before=before, on_close=on_close)
    host = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: alive(run))
        until(lambda: (place.folder / "chosen").exists())
    finally:
        host.kill()
        host.wait()
    until(lambda: run.state().get("ending") == status)
    place.dispatcher()
    ended(run, status)
    assert place.names() == (["cat.safetensors"] if status == "done" else [])


def test_of_two_on_one_folder_one_leads_and_the_other_takes_over(place):
    leader = place.dispatcher()
    until(lambda: leader.leads)
    other = place.dispatcher()
    run, next_one = place.submit(other, steps=40), place.submit(other, "next")
    until(lambda: leader.active == run and alive(run))
    until(lambda: other.active == run)
    assert not other.leads and other.waiting and leader.queue() == other.queue() == [next_one.id]
    leader.close()
    until(lambda: other.leads)
    ended(run)
    ended(next_one)
    assert len(begun(run)) == len(begun(next_one)) == 1
    assert sum(event["name"] == "cat" for event in said(run, "published")) == 1


@pytest.mark.parametrize("status", ["queued", "training", "done"])
def test_damaged_runs_hinder_no_other(place, status):
    dispatcher = place.dispatcher(start=False)
    for number, (file, text) in enumerate(DAMAGES):
        broken = place.submit(dispatcher, f"broken{number}")
        broken.write_state(status=status)
        with (broken.path / file).open("a" if file == "events.jsonl" else "w", encoding="utf-8") as stream:
            stream.write(text)
    run = place.submit(dispatcher, steps=2)
    dispatcher.order([run.id])
    dispatcher.start()
    ended(run)
    until(lambda: not dispatcher.queue())


def test_what_nobody_foresaw_in_one_run_hinders_no_other(place, monkeypatch, capsys):
    dispatcher = place.dispatcher(start=False)
    odd, run = place.submit(dispatcher, "odd"), place.submit(dispatcher, steps=2)
    dispatcher.cancel(odd)
    job_options.read(odd).but(settled=False).write(odd)
    finish = JobMonitor.finish
    monkeypatch.setattr(JobMonitor, "finish", lambda it: finish(it) if it.run.id != odd.id else {}["odd"])
    dispatcher.start()
    ended(run)
    assert "KeyError" in capsys.readouterr().err


# --- the engine itself


@posix
def test_the_engine_killed_resumed_and_adopted(tmp_path):
    from tests import tiny
    from tests.training import USUAL, pictures

    place = Place(tmp_path, engine=True)
    base, shown = tiny.single_file(tmp_path), pictures(tmp_path / "pictures")
    asked = RunConfig(
        **{**USUAL, "checkpointing_steps": 8, "max_train_steps": 24, "name": "taught"},
        base_model=str(base),
        instance_data_dir=shown,
    )
    config = config_checks.check(asked).config
    try:
        first = place.dispatcher()
        run = first.submit(config, JobOptions(select="every"))
        until(lambda: said(run, "published"), 60)
        os.kill(run.state()["pid"], signal.SIGKILL)
        problem = ended(run, "failed")["problem"]
        assert "SIGKILL" in problem["message"] and "continues from step" in problem["remedy"]
        until(lambda: first.active is None)
        reader = EventReader(run.path / "events.jsonl", from_end=True)
        first.resume(run)
        until(lambda: any(event["type"] == "step" for event in reader.new()), 60)
        first.close()
        place.dispatcher()
        assert ended(run, patience=60)["step"] == 24
        made = {event["name"] for event in said(run, "artifact")}
        assert {event["name"] for event in said(run, "published")} == made
        assert {f"{name}.safetensors" for name in made} == set(place.names())
        assert ("select", "taught.safetensors") in place.host.calls
        until(lambda: place.host.calls[-1] == ("take back",))
    finally:
        place.end()
