"""A process in the trainer's environment that is asked in lines of JSON: start it, ask it, kill it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ...core.messages.message import Message
from ...core.system.files import parse_json
from .environment import Environment


class Hung(Exception):
    """There was no answer in time, and the process has been killed."""


class Ended(Exception):
    """The process ended instead of answering."""


class AskedProcess:
    """One process, asked by one thread. It ends when its input does, and so whenever our process ends.

    variables: beside those of the environment. is_background: others get the processor first; only on Windows, as
    elsewhere a process sees to that itself. Raises OSError if it cannot be started.
    """

    def __init__(
        self,
        environment: Environment,
        command: Sequence[str],
        variables: Mapping[str, str] | None = None,
        is_background: bool = False,
    ):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - for its whole life; not a pipe: nobody reads along
        hidden: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            priority = subprocess.BELOW_NORMAL_PRIORITY_CLASS if is_background else 0
            hidden = {"creationflags": subprocess.CREATE_NO_WINDOW | priority}
        self._process = subprocess.Popen(
            environment.command(list(command)),
            env=environment.variables({"PYTHONUTF8": "1", **(variables or {})}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            **hidden,
        )
        assert self._process.stdin  # a pipe
        self._questions = self._process.stdin
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, name="answers of a process", daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed while we read
            for line in self._process.stdout or ():
                self._lines.put(line)
        self._lines.put(None)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: Mapping[str, Any], patience: float) -> dict[str, Any]:
        """Return the answer's line. Raises Hung after `patience` seconds, and Ended."""
        try:
            self._questions.write(json.dumps(question) + "\n")
            self._questions.flush()
        except (OSError, ValueError):  # it has ended, or we ended it
            raise Ended from None
        return self.next_line(patience)

    def next_line(self, patience: float) -> dict[str, Any]:
        """Return what it says next, also unasked. Raises Hung after `patience` seconds, and Ended."""
        try:
            line = self._lines.get(timeout=patience)
        except queue.Empty:
            self.end()
            raise Hung from None
        if line is None or not line.endswith("\n"):
            raise Ended
        return parse_json(line)

    def last_words(self) -> str:
        """Return the last line of standard error, which in a traceback is the error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4096))
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else Message("environment.check_ended", code=self._process.returncode)

    def end(self) -> None:
        """Kill it; it writes nothing that could be left half done, except files that their askers replace."""
        self._process.kill()
        with contextlib.suppress(OSError):
            self._questions.close()
        self._process.wait()
