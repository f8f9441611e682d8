"""How the workers of a run end together that torchrun or accelerate has started itself, so that no `launcher` watches.

The others keep a connection to the first process, on which they say why they fail. One that is killed says nothing, but
its system closes the connection, at once and even if all its threads hang; if a machine is gone, TCP's own probes find
out. Then the first process says so to all others, saves what there is, and records which process it was and why.

Lines of JSON, as on the launcher's leash. A secret in the processes' common store keeps strangers out.
"""

from __future__ import annotations

import abc
import contextlib
import hmac
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

from ...core.errors import Problem
from ...core.runs import exit_codes
from .leash import NEWS

KEY = "line"  # in the store: port and secret
FAILED = 3  # exit status
HERE = "127.0.0.1"
LONGEST = 2**16  # bytes of a message
GREETING = 10.0  # seconds for a connection to say whose it is
SETTLE = 1.0  # seconds after a lost connection in which its cause shows
RESCUE = 6.0  # seconds for the first process to notice a failure and to begin to save what there is
LEAVING = 5.0  # seconds for the others to end after the first
POLL = 0.05  # seconds
PROBES = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 2}  # a machine is gone after 7 seconds without answer

Recorder = Callable[[Problem, int], object]
Ender = Callable[[int], object]


class Store(Protocol):
    """torch's, by which the processes have met."""

    def set(self, key: str, value: str) -> object: ...

    def get(self, key: str) -> bytes: ...


class Line(abc.ABC):
    """A process's line to the others of its run. Used as the launcher's `Leash`. record: records that the run failed,
    and why, with the exit status; called in another thread right before this process ends. end: ends the process with
    an exit status, at once and from any thread."""

    tells_all = True  # not only the first process learns why another failed

    def __init__(self, store: Store, record: Recorder, end: Ender):
        self._store = store  # the processes meet there again; its server lives as long as it is held
        self._record, self._end = record, end
        self._failure: tuple[Problem, int] | None = None
        self._news = threading.Event()
        self._rescues = False

    @abc.abstractmethod
    def tell(self, problem: Problem, code: int, is_exchange: bool) -> None:
        """Tell the others that this process fails. is_exchange: it only lost the connection to another one."""

    @abc.abstractmethod
    def leave(self, code: int) -> None:
        """End in order, with this exit status."""

    def failure(self, wait: bool) -> tuple[Problem, int] | None:
        """Why another process failed, and its exit status; None if none did. wait: the news may be on its way."""
        self._news.wait(NEWS if wait else 0)
        return self._failure

    def rescue(self) -> None:
        """Note that this process saves what there is, so that it is given the time."""
        self._rescues = True

    def wait(self) -> None:  # noqa: B027  # the leash's does something
        """Return, and so let a process that has said why it fails end: the first one may wait for it in an exchange."""


class FirstLine(Line):
    """The first process's. is_busy: whether it writes a file that is to be finished first."""

    def __init__(
        self,
        store: Store,
        count: int,
        host: str,
        record: Recorder,
        is_busy: Callable[[], bool],
        end: Ender = os._exit,
    ):
        super().__init__(store, record, end)
        self.count, self._is_busy = count, is_busy
        self._lock, self._ending = threading.Lock(), threading.RLock()
        self._others: dict[int, socket.socket] = {}
        self._server = socket.create_server((host, 0))
        self._secret = secrets.token_hex(16)
        store.set(KEY, f"{self._server.getsockname()[1]} {self._secret}")
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    def failure(self, wait: bool) -> tuple[Problem, int] | None:
        known = super().failure(wait)
        if known:
            self._ending.acquire()  # this thread records it; or another one does, and ends the process meanwhile
        return known

    def tell(self, problem: Problem, code: int, is_exchange: bool) -> None:
        self._tell_others(failed=problem.as_dict(), code=code)

    def leave(self, code: int) -> None:
        self._tell_others(left=code)

    def _accept(self) -> None:
        while len(self._others) < self.count - 1:
            connection, _ = self._server.accept()
            threading.Thread(target=self._follow, args=(connection,), name="line", daemon=True).start()
        self._server.close()

    def _follow(self, connection: socket.socket) -> None:
        """Listen to another process until it leaves, fails, or is gone."""
        connection.settimeout(GREETING)
        stream = connection.makefile("rb")
        rank = self._rank_of(next(received(stream), {}))
        if rank is None or rank in self._others:
            connection.close()
            return
        probe(connection)
        self._others[rank] = connection
        for message in received(stream):
            if "failed" in message:
                told = Problem.from_dict(message["failed"])
                about: dict[str, Any] = {"reason": told.message, "remedy": told.remedy, **self._number(rank)}
                problem = Problem("processes.failed", told.field, **about)
                self._fail(problem, int(message["code"]), bool(message["is_exchange"]))
            if "failed" in message or "left" in message:
                return
        self._fail(gone(rank, self.count), FAILED)

    def _rank_of(self, greeting: dict[str, Any]) -> int | None:
        is_ours = hmac.compare_digest(str(greeting.get("secret")).encode(), self._secret.encode())
        return int(greeting["rank"]) if is_ours else None

    def _number(self, rank: int) -> dict[str, Any]:
        return {"number": rank + 1, "count": self.count}

    def _fail(self, problem: Problem, code: int, is_exchange: bool = False) -> None:
        """End all because of another process. is_exchange: it only lost the connection to one."""
        if is_exchange:
            self._news.wait(SETTLE)
        with self._lock:
            if self._failure:
                return
            self._failure = problem, code
        self._tell_others(failed=problem.as_dict(), code=code)
        self._news.set()
        deadline = time.monotonic() + RESCUE
        while self._rescues or self._is_busy() or time.monotonic() < deadline:
            time.sleep(POLL)
        self._ending.acquire()
        self._record(problem, code)  # the main thread waits for what never comes
        self._end(code)

    def _tell_others(self, **message: Any) -> None:
        for connection in self._others.values():
            send(connection, **message)


class OtherLine(Line):
    """Any other process's. host: the first process's machine."""

    def __init__(self, store: Store, rank: int, count: int, host: str, record: Recorder, end: Ender = os._exit):
        super().__init__(store, record, end)
        self.count = count
        port, secret = store.get(KEY).decode().split()
        self._leaves = False
        self._over: int | None = None  # the first process's exit status, once it has ended in order
        self._connection = socket.create_connection((host, int(port)), GREETING)
        probe(self._connection)
        send(self._connection, secret=secret, rank=rank)
        threading.Thread(target=self._listen, name="line", daemon=True).start()

    def tell(self, problem: Problem, code: int, is_exchange: bool) -> None:
        self._leaves = True
        send(self._connection, failed=problem.as_dict(), code=code, is_exchange=is_exchange)

    def leave(self, code: int) -> None:
        self._leaves = True
        send(self._connection, left=code)

    def failure(self, wait: bool) -> tuple[Problem, int] | None:
        """None, since the news of a failure end this process. So do those that the first one has left in order."""
        super().failure(wait)
        if self._over is not None:
            self._end(self._over)
        return None

    def _listen(self) -> None:
        for message in received(self._connection.makefile("rb")):
            if "left" in message:
                self._over = int(message["left"])
                self._news.set()
                time.sleep(LEAVING)
            self._end(int(message["left"] if "left" in message else message["code"]))
        if not self._leaves:
            self._record(gone(0, self.count), FAILED)
            self._end(FAILED)


def gone(rank: int, count: int) -> Problem:
    """That a process ended without a word."""
    reason: dict[str, Any] = {"reason": exit_codes.in_words(None)}
    return Problem("processes.ended", "processes", number=rank + 1, count=count, **reason)


def probe(connection: socket.socket) -> None:
    """Let the system look whether the other machine is still there."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if hasattr(socket, name):  # macOS and older Windows lack some
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def send(connection: socket.socket, **message: Any) -> None:
    with contextlib.suppress(OSError):  # the other process has ended
        connection.sendall(json.dumps(message).encode() + b"\n")


def received(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the messages that come on a connection until it closes; it also ends at what is none."""
    while True:
        try:
            message = json.loads(stream.readline(LONGEST))
        except (OSError, ValueError):
            return
        if not isinstance(message, dict):
            return
        yield message
