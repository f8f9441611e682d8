"""One of the processes that train a run together, as the launcher sees it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from typing import Any

from ...core.errors import Problem
from ...core.runs import exit_codes
from ...core.system.message_lines import line, messages

WORKER = "dreambooth_ext.engine.launching.leashed_worker"
FINE = (0, 130)  # done, stopped


class Member:
    """A worker with this rank among `world`, the `local`-th of `here` on this machine."""

    def __init__(self, arguments: list[str], rank: int, local: int, here: int, world: int, address: tuple[str, int]):
        self.rank = rank
        self.failure: dict[str, Any] | None = None  # as it told it
        self.rescues = False  # whether it saves what there is
        places: dict[str, Any] = {"RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": here}
        places |= {"MASTER_ADDR": address[0], "MASTER_PORT": address[1]}
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // here))}  # else each takes all cores
        self.process = subprocess.Popen(
            [*interpreter(), "-m", WORKER, *arguments],
            env={**threads, **os.environ, **{name: str(value) for name, value in places.items()}},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._reader = threading.Thread(target=self._listen, name=f"process {rank}", daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stdout
        for message in messages(self.process.stdout, sys.stdout.buffer if sys.stdout else None):
            if "failed" in message:
                self.failure = message
            elif "rescues" in message:
                self.rescues = True

    @property
    def code(self) -> int | None:
        """Its exit status; None while it runs. What it told before it ended has come by then."""
        code = self.process.poll()
        if code is not None:
            self._reader.join(1.0)
        return code

    @property
    def has_failed(self) -> bool:
        return self.failure is not None or self.code not in (None, *FINE)

    @property
    def has_crashed(self) -> bool:
        """Whether it ended without a word."""
        return self.failure is None and self.code not in (None, *FINE)

    @property
    def is_cause(self) -> bool:
        """Whether it failed by itself, and did not only lose another one."""
        return self.has_crashed or (self.failure is not None and not self.failure["is_exchange"])

    def problem(self, count: int) -> Problem:
        """Why it failed, with its number among `count` processes."""
        number: dict[str, Any] = {"number": self.rank + 1, "count": count}
        if self.failure is None:
            return Problem("processes.ended", "processes", reason=exit_codes.in_words(self.code), **number)
        told = Problem.from_dict(self.failure["failed"])
        return Problem("processes.failed", told.field, reason=told.message, remedy=told.remedy, **number)

    def tell(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            assert self.process.stdin
            self.process.stdin.write(line(message))

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        deadline = time.monotonic() + seconds
        while self.code is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.code is not None


def interpreter() -> list[str]:
    """How this program was started, up to its module: the environment may be one that a file of its own sets up."""
    words = sys.orig_argv
    return [sys.executable, *words[1 : words.index("-m")]] if "-m" in words else [sys.executable]
