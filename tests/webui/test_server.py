"""A WebUI is started with another port where the first one was taken meanwhile; needs no WebUI."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.webui import server


@pytest.fixture
def ports() -> list[int]:
    """Which were given out."""
    return []


@pytest.fixture
def launching(tmp_path: Path, ports: list[int]) -> Callable[..., tuple[subprocess.Popen, int]]:
    """Start something that says each of these in turn and, after the last, goes on; any other ends."""
    log = tmp_path / "log.txt"

    def launch(*says: str) -> tuple[subprocess.Popen, int]:
        def one(port: int) -> subprocess.Popen:
            ports.append(port)
            code = f"import time; print({says[len(ports) - 1]!r}, flush=True)"
            code += "; time.sleep(60)" if len(ports) == len(says) else ""
            with log.open("wb") as output:
                return subprocess.Popen([sys.executable, "-c", code], stdout=output)

        return server.started(one, log)

    return launch


def test_a_port_that_was_taken_meanwhile_is_replaced(launching, ports):
    process, port = launching(f"OSError: {server.TAKEN} in range: 1-1", "Startup time: 1.0s")
    assert process.poll() is None and ports[-1] == port and len(ports) == 2
    server.end(process)


@pytest.mark.parametrize("says", [["ImportError"], [f"OSError: {server.TAKEN}"] * server.TRIES])
def test_what_does_not_start_is_told(launching, ports, says):
    with pytest.raises(AssertionError, match=says[0]):
        launching(*says, "Startup time: 1.0s")
    assert len(ports) == len(says)
