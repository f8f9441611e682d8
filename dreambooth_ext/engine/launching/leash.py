"""What a worker and the launcher that started it say to each other, by the worker's standard input and output.

When the launcher is gone, for whatever reason, its end of standard input closes, and the worker ends at once: nobody
else would end it. It also does when the first process has ended in order: at a stop, the others may be in the middle of
an exchange with it.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import IO, Any

from ...core.errors import Problem
from ...core.system.message_lines import line, messages

GONE = 3  # exit status of a worker whose launcher is gone
PATIENCE = 10.0  # seconds that a failed worker waits for the launcher to end it
NEWS = 3.0  # seconds after an exchange broke in which the launcher says who was the cause, or that the run has ended


class Leash:
    """The worker's side. pipe: the standard input that the launcher holds the other end of."""

    tells_all = False  # the launcher tells the first process alone why another failed, and ends the others

    def __init__(self, pipe: IO[bytes]):
        self._failure: tuple[Problem, int] | None = None
        self._news = threading.Event()
        threading.Thread(target=self._listen, args=(pipe,), name="launcher", daemon=True).start()

    def _listen(self, pipe: IO[bytes]) -> None:
        for message in messages(pipe):
            if "failed" in message:
                self._failure = Problem.from_dict(message["failed"]), int(message["code"])
                self._news.set()
            elif "ended" in message:
                os._exit(int(message["ended"]))
        os._exit(GONE)

    def failure(self, wait: bool) -> tuple[Problem, int] | None:
        """Why another process failed, and its exit status; None if none did. wait: the news may be on its way."""
        self._news.wait(NEWS if wait else 0)
        return self._failure

    def tell(self, problem: Problem, code: int, is_exchange: bool) -> None:
        """Tell the launcher why this process fails. is_exchange: it only lost the connection to another one."""
        say(failed=problem.as_dict(), code=code, is_exchange=is_exchange)

    def rescue(self) -> None:
        """Tell the launcher that this process saves what there is, so that it is given the time."""
        say(rescues=True)

    def leave(self, code: int) -> None:
        """End in order: the launcher sees that by itself."""

    def wait(self) -> None:
        """Wait to be ended: if this process ended by itself, the others would notice it before they know the reason."""
        threading.Event().wait(PATIENCE)


def say(**message: Any) -> None:
    """Print a message on the real standard output, which libraries may have wrapped."""
    stream = sys.__stdout__
    if stream is not None:
        stream.flush()
        os.write(stream.fileno(), line(message))
