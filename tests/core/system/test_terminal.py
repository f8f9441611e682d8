from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from dreambooth_ext.commands.support.run_output import Follower
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.core.system import terminal
from dreambooth_ext.core.system.terminal import Progress, StageLine, clock, escaped, say, say_traceback, shield

REPOSITORY = Path(__file__).parents[3]


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


EVIL = "a\x1b[2J\x07\n\r\x85b\x9b1m\u2028\u202ec\x7f\udcff"
WRITTEN_OUT = r"a\x1b[2J\x07\n\r\u0085b\u009b1m\u2028\u202ec\u007f\udcff"


def test_what_terminals_obey_is_written_out():
    assert escaped(EVIL) == WRITTEN_OUT
    assert escaped("Ünï кошка 写真 👩‍👩‍👧 می‌خواهم") == "Ünï кошка 写真 👩‍👩‍👧 می‌خواهم"  # joiners are letters there
    text = json.dumps({EVIL: EVIL}, ensure_ascii=False, indent=2)
    assert json.loads(escaped(text, but="\n\r\t")) == {EVIL: EVIL}


def test_every_line_is_one(capsys, monkeypatch):
    say(EVIL, "b")
    assert capsys.readouterr().err == f"{WRITTEN_OUT}\nb\n"
    try:
        raise ValueError("12:00\n12:00:00 forged\x1b")
    except ValueError as error:
        say_traceback(error)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("| Traceback") and lines[-2:] == ["| ValueError: 12:00", "| 12:00:00 forged\\x1b"]
    monkeypatch.setattr(sys, "stderr", None)  # pythonw, a service
    say("nobody sees it")


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_shows_names_so_too(kind):
    stream = kind()
    with Progress(1, "Step", stream=stream) as progress:
        progress.update(1, EVIL)
    with StageLine(stream) as stages:
        stages(None, EVIL)
    assert stream.getvalue().count(WRITTEN_OUT[:20]) == 2 and "\x1b" not in stream.getvalue()


def test_a_program_of_ours_lets_no_library_command_the_terminal(monkeypatch):
    streams = {name: io.StringIO() for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    factory = logging.getLogRecordFactory()
    try:
        shield()
        print(EVIL)
        sys.stderr.writelines(["x\x1b\n"])
        sys.stderr.write(warnings.formatwarning(EVIL, UserWarning, "a.py", 1))
        record = logging.getLogRecordFactory()("a", logging.ERROR, "a.py", 1, "of %s", (EVIL,), None)
        logging.StreamHandler().handle(record)
    finally:
        logging.setLogRecordFactory(factory)
    assert streams["stdout"].getvalue() == escaped(EVIL, but="\n\r") + "\n"
    assert streams["stderr"].getvalue() == f"x\\x1b\nUserWarning: {WRITTEN_OUT}\nof {WRITTEN_OUT}\n"


SHORT = {  # words with which a verb that would need the trainer's environment ends before it does
    "train": ["--seed", "x"],
    "check": ["--seed", "x", "--base-model", ""],
    "resume": ["nobody"],
    "runs": [],
    "env": ["--json"],
    "ui": ["--port", "99999"],
    "demo": ["--out", __file__],
}


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes the streams")
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("verb", SHORT)
def test_without_streams_every_verb_works_as_with_them(tmp_path, verb, closed):
    """Services and pythonw have none; the files that are opened must not take their numbers."""
    argv = [sys.executable, "-m", "dreambooth_ext", verb, *SHORT[verb]]
    if verb in ("train", "check", "resume", "runs"):
        argv += ["--runs-dir", str(tmp_path)]
    usual = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, timeout=100)
    without = subprocess.run(
        ["sh", "-c", f'"$0" "$@" {closed}', *argv], cwd=REPOSITORY, capture_output=True, timeout=100
    )
    assert without.returncode == usual.returncode in (0, 1), without.stderr
    assert b"Traceback" not in without.stderr and b"unexpected" not in without.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes the streams")
def test_a_program_that_is_started_without_streams_writes_into_none_of_our_files(tmp_path):
    code = """
import subprocess, sys
from dreambooth_ext.core.system.terminal import open_missing_streams
open_missing_streams()
kept = open(sys.argv[1], "w")
subprocess.run([sys.executable, "-c", "print('said'); import sys; print('said', file=sys.stderr); input()"])
print("said")
"""
    done = subprocess.run(
        ["sh", "-c", '"$0" "$@" >&- 2>&- <&-', sys.executable, "-c", code, str(tmp_path / "kept")], cwd=REPOSITORY
    )
    assert done.returncode == 0 and (tmp_path / "kept").read_text() == ""


def test_a_bar_that_goes_on_with_an_earlier_one_says_how_long_all_of_it_took():
    stream = io.StringIO()
    progress = Progress(200, "Step", start=190, since=time.monotonic() - 90, stream=stream)
    assert "took 1:40" in progress.line(200, "", 10.0)
    assert "0:10 left" in progress.line(195, "", 10.0)  # by this bar's rate


def test_a_run_s_bar_after_a_save_goes_on_with_the_one_before(monkeypatch, capsys):
    now = [1000.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    follower = Follower(Run(Path("run")), None, None)
    follower._advance("training", 1, 200)
    now[0] += 90
    follower._advance("saving", 1, 1)
    follower._advance("training", 101, 200)
    now[0] += 10
    follower._advance("training", 200, 200)
    assert "training 200/200" in (said := capsys.readouterr().err) and "took 1:40" in said
