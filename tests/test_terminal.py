from __future__ import annotations

import io

from dreambooth_ext import terminal
from dreambooth_ext.terminal import Progress, clock


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_plain_lines_are_few_and_the_last_one_is_shown(monkeypatch):
    now = iter([0.0, 1.0, 2.0, 7.0, 8.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    stream = io.StringIO()
    with Progress(4, "Step", stream=stream) as progress:
        for done in (1, 2, 3, 4):
            progress.update(done, f"loss 0.{done}")
    assert stream.getvalue().splitlines() == [
        "Step 1/4 (25 %), 1.00/s, 0:03 left, loss 0.1",
        "Step 3/4 (75 %), 2.3 s each, 0:02 left, loss 0.3",
        "Step 4/4 (100 %), 2.0 s each, took 0:08, loss 0.4",
    ]


def test_a_terminal_gets_one_moving_line(monkeypatch):
    now = iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    stream = Terminal()
    with Progress(2, "Step", stream=stream) as progress:
        progress.update(1, "a long remark")
        progress.update(2)
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n")
    first, second = text.strip("\n").split("\r")[1:]
    assert "[############............]" in first and len(second) == len(first)


def test_the_rate_counts_only_what_this_process_did(monkeypatch):
    now = iter([0.0, 10.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    stream = io.StringIO()
    Progress(200, "Step", start=100, stream=stream).update(110)
    assert stream.getvalue() == "Step 110/200 (55 %), 1.00/s, 1:30 left\n"


def test_clock():
    assert [clock(s) for s in (5, 65, 3700)] == ["0:05", "1:05", "1:01:40"]
