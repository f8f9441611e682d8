"""A forked start is like a real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forks

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are for Linux")
pytest.importorskip("torch")
REPOSITORY = Path(__file__).parents[1]
TELLS = """
import json, os, signal, sys
print(json.dumps({
    "pid": os.getpid(), "parent": os.getppid(), "folder": os.getcwd(), "path": sys.path[0], "argv": sys.argv[1:],
    "command": open("/proc/self/cmdline").read().rstrip("\\0").split("\\0")[2:], "main": __name__,
    "variables": {name: value for name, value in os.environ.items() if name not in ("LC_CTYPE", "PWD")},
    "session": os.getsid(0) == os.getpid(), "group": os.getpgrp(), "umask": os.umask(0),
    "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
    "streams": [[s.encoding, s.errors, s.line_buffering, s.write_through] for s in (sys.stdin, sys.stdout, sys.stderr)],
    "open": sorted(os.listdir("/proc/self/fd"))[:3], "given": sys.stdin.read(),
}))
if "sleep" in sys.argv:
    print("sleeps", flush=True)
    import time
    time.sleep(60)
if "raise" in sys.argv:
    raise ValueError("words")
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts TELLS as a module, for real and forked."""
    monkeypatch.setattr(forks.Forking, "modules", "telling")
    (tmp_path / "telling.py").write_text(TELLS)
    variables = {**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": str(REPOSITORY), "ANYTHING": "такое"}

    variables.pop("PYTHONUNBUFFERED", None)

    def started(*words: str, real: bool = False, unbuffered: bool = False, **options) -> subprocess.Popen:
        command = [sys.executable, "-m", "telling", *words]
        env = {**variables, "PYTHONUNBUFFERED": "1"} if unbuffered else variables
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = {**streams, "env": env, "cwd": tmp_path, "encoding": "utf-8", **options}
        if real:
            with forks.real_starts():
                return forks.Forking(command, **options)
        return forks.Forking(command, **options)

    started("0").communicate("")  # the first of a kind is real
    return started


def told(process: subprocess.Popen) -> tuple[dict, str, int, bool]:
    out, err = process.communicate("given")
    known = json.loads(out.splitlines()[0])
    assert known.pop("pid") == process.pid and known.pop("parent") == os.getpid()
    return known, err.splitlines()[-1] if err else "", process.returncode, known.pop("group") == process.pid


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["0"], {}),
        (["3", "two words", "и"], {"start_new_session": True}),
        (["0", "raise"], {"unbuffered": True}),
        (["0"], {"stderr": subprocess.STDOUT}),
    ],
)
def test_it_is_as_a_real_start(start, words, options):
    forked = start(*words, **options)
    assert any(b"tests.forks" in Path(f"/proc/{server.pid}/cmdline").read_bytes() for server, _ in servers())
    (known, *ending), (wanted, *wanted_ending) = told(forked), told(start(*words, real=True, **options))
    assert {name: (value, wanted[name]) for name, value in known.items() if value != wanted[name]} == {}
    assert ending == wanted_ending


def servers() -> list:
    return list(forks.pool.servers.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_it(start, number):
    process = start("0", "sleep")
    process.stdin.close()
    process.stdout.readline()
    assert process.stdout.readline() == "sleeps\n" and process.poll() is None
    process.send_signal(number)
    assert process.wait(10) == -number
    assert ("KeyboardInterrupt" in process.stderr.read()) == (number == signal.SIGINT)


def test_what_libraries_read_while_imported_makes_it_a_real_start(start, tmp_path):
    before = len(servers())
    process = start("0", env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_ENDPOINT": "http://elsewhere"})
    assert told(process)[0]["variables"]["HF_ENDPOINT"] == "http://elsewhere"
    assert len(servers()) == before


def test_it_is_quick(start):
    """Else it would be for nothing: a real start of the engine takes two seconds."""
    begin = time.process_time(), time.monotonic()
    start("0").communicate("")
    assert time.monotonic() - begin[1] < 2
