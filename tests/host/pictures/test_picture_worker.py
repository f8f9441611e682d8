"""Questions about pictures: order, cache, and what a picture that hangs or ends the worker does."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import pytest
from PIL import Image

from dreambooth_ext.host.environment.environment import Environment, Status
from dreambooth_ext.host.errors import Refusal
from dreambooth_ext.host.pictures import picture_worker
from dreambooth_ext.host.pictures.picture_worker import LATER, NOW, SOON, PictureWorker, Unreadable


@pytest.fixture
def worker():
    made = PictureWorker(Environment())
    yield made
    made.close()


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "мой кот (1).png")
    return tmp_path / "мой кот (1).png"


def test_the_real_worker_answers_and_goes_on_after_what_it_cannot_read(worker, picture, tmp_path):
    assert worker.ask("size", picture) == {"width": 40, "height": 30, "format": "PNG"}
    process = worker._process
    (tmp_path / "no picture.jpg").write_bytes(b"<html>")
    with pytest.raises(Unreadable) as caught:
        worker.ask("size", tmp_path / "no picture.jpg")
    assert caught.value.problem.code == "pictures.unreadable" and "no picture.jpg" in str(caught.value)
    assert worker.ask("size", picture)["width"] == 40 and worker._process is process
    with pytest.raises(Unreadable, match="size_of_a_moon"):
        worker.ask("size_of_a_moon", picture)
    with pytest.raises(Refusal) as refused:
        worker.ask("size", tmp_path / "gone.jpg")
    assert refused.value.status == 404


PRETENDED = """
    import json, os, sys, time
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        name = os.path.basename(asked["values"].get("path", ""))
        with open(sys.argv[1], "a") as log:
            log.write(f"{os.getpid()} {name}\\n")
        if name.startswith("slow"):
            time.sleep(0.3)
        if name.startswith("hangs"):
            time.sleep(600)
        if name.startswith("ends"):
            os._exit(11)
        print(json.dumps({"id": asked["id"], "result": name}), flush=True)
"""


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """A worker of a few lines that notes what it is asked; and its notes."""
    program, log = tmp_path / "pretended.py", tmp_path / "log.txt"
    program.write_text(textwrap.dedent(PRETENDED), encoding="utf-8")
    environment = Environment()
    monkeypatch.setattr(environment, "command", lambda argv: [sys.executable, str(program), str(log)])
    made = PictureWorker(environment)
    yield made, lambda: [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    made.close()


def files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_bytes(b"x")
    return [folder / name for name in names]


def test_what_is_urgent_comes_first_and_nothing_is_asked_twice(pretended, tmp_path):
    worker, notes = pretended
    slow, a, b, c = files(tmp_path, "slow", "a", "b", "c")
    first = worker.submit("look", slow)
    while not notes():
        time.sleep(0.01)
    futures = [worker.submit("look", a, urgency=LATER), worker.submit("look", b, urgency=LATER)]
    futures += [worker.submit("look", c, urgency=SOON), worker.submit("look", a, urgency=LATER)]
    futures.append(worker.submit("look", b, urgency=NOW))
    wait([first, *futures], 20)
    assert [name for _, name in notes()] == ["slow", "b", "c", "a"]
    assert [future.result() for future in futures] == ["a", "b", "c", "a", "b"]
    assert worker.ask("look", a) == "a" and len(notes()) == 4  # it is known
    a.write_bytes(b"other")
    assert worker.known("look", a) is None
    assert worker.ask("look", a) == "a" and len(notes()) == 5  # of another content
    assert worker.ask("look", a, side=9) == "a" and len(notes()) == 6  # another question
    assert worker.ask("draw", a, keep=False) == worker.ask("draw", a, keep=False) == "a" and len(notes()) == 8


def test_a_picture_that_hangs_or_ends_the_worker_is_told_and_the_others_are_looked_at(pretended, tmp_path):
    worker, notes = pretended
    hangs, ends, good = files(tmp_path, "hangs.heic", "ends.heic", "good.jpg")
    for path, code in ((hangs, "findings.hung_reader"), (ends, "findings.ended_reader")):
        with pytest.raises(Unreadable, match=path.name) as caught:
            worker.ask("look", path, patience=1)
        assert caught.value.problem.code == code and caught.value.problem.remedy
        assert worker.ask("look", good) == "good.jpg"
        with pytest.raises(Unreadable, match=path.name):  # known, and not tried again
            worker.ask("look", path, patience=1)
    assert len({process for process, _ in notes()}) == 2 and len(notes()) == 3


def test_it_ends_when_nobody_asks_and_starts_again(pretended, tmp_path):
    worker, notes = pretended
    worker.idle = 0.2
    a, b = files(tmp_path, "a", "b")
    worker.ask("look", a)
    process = worker._process
    deadline = time.monotonic() + 20
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not process.is_alive() and worker._process is None
    assert worker.ask("look", b) == "b"
    assert len({process for process, _ in notes()}) == 2


def test_closing_drops_what_waits_and_blames_no_picture(pretended, tmp_path):
    worker, notes = pretended
    hangs, waits = files(tmp_path, "hangs", "waits")
    asked = threading.Thread(target=lambda: worker.submit("look", hangs).exception(20))
    asked.start()
    while not notes():
        time.sleep(0.01)
    waiting = worker.submit("look", waits)
    running = worker.submit("look", hangs)
    worker.close()
    assert waiting.cancelled()
    assert isinstance(running.exception(20), Refusal)
    asked.join(20)
    assert worker.known("look", hangs) is None
    assert worker.ask("look", waits) == "waits"


def test_without_the_environment_it_says_so_and_looks_later(pretended, tmp_path, monkeypatch):
    worker, _ = pretended
    (a,) = files(tmp_path, "a")
    monkeypatch.setattr(worker.environment, "status", lambda: Status("missing", "It has not been set up.", ""))
    with pytest.raises(Refusal, match="not been set up") as refused:
        worker.ask("look", a)
    assert refused.value.status == 503
    monkeypatch.setattr(worker.environment, "status", lambda: Status("ready", "", ""))
    assert worker.ask("look", a) == "a"


def test_a_program_that_does_not_start_blames_no_picture(tmp_path, monkeypatch):
    environment = Environment()
    monkeypatch.setattr(picture_worker, "START", 20)
    monkeypatch.setattr(environment, "command", lambda argv: [sys.executable, "-c", "raise SystemExit('no numpy')"])
    worker = PictureWorker(environment)
    (a,) = files(tmp_path, "a")
    with pytest.raises(Refusal, match="no numpy") as refused:
        worker.ask("look", a)
    assert refused.value.status == 503 and refused.value.problem.code == "findings.not_answered"
    worker.close()
