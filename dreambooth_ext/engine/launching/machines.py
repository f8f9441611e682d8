"""Several machines that train one run: they meet at the main one's address, and fail and end together.

The first machine listens, and tells the others which run it is and which processes they start; each looks for it in its
own folder of runs. Their connections stay until the end: who loses one knows that a machine is gone. Each message is a
line of JSON. What comes is data of a trusted network, as all that PyTorch exchanges; nothing of it is executed.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import Problem, UserError
from ...core.messages.message import Message
from ...core.version import __version__

PATIENCE = 1800.0  # seconds to wait for the other machines: a folder may have to be copied
POLL = 0.1
BEAT, SILENCE = 1.0, 4.0  # seconds between signs of life, and without one, after which a machine is gone
ANSWER = 90.0  # seconds for a machine to find the run, also where a network folder shows it late
LONGEST = 2**20  # bytes of one message


@dataclass(frozen=True)
class Place:
    """Which of so many machines this one is, from 0, where they meet, and how many processes it starts. is_one_machine:
    another program's launcher started them all on one."""

    machines: int
    rank: int
    host: str
    port: int
    processes: int
    is_one_machine: bool = False

    def name_of(self, rank: int) -> Message:
        """What users call one of them."""
        if self.is_one_machine:
            return Message("machines.a_process", number=rank + 1, count=self.machines)
        return Message("machines.a_machine", number=rank + 1, rank=rank)


class Connection:
    """The connection to another machine. Beside a Member, it is one more process that may fail."""

    rescues = False

    def __init__(self, connection: socket.socket, name: str):
        self.connection, self.name = connection, name  # what users call the machine
        self.said: dict[str, Any] = {}  # everything that came
        self.closed = threading.Event()
        self._sending = threading.Lock()
        connection.settimeout(SILENCE)  # a network that broke says nothing
        for work in (self._listen, self._beat):
            threading.Thread(target=work, name=f"machine {name}", daemon=True).start()

    def _beat(self) -> None:
        while not self.closed.wait(BEAT):
            self.tell(beats=True)

    def _listen(self) -> None:
        buffer = b""
        with contextlib.suppress(OSError, ValueError, TypeError):
            while chunk := self.connection.recv(65536):
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self.said.update(json.loads(line))
                if len(buffer) > LONGEST:
                    break
        self.closed.set()

    def tell(self, **message: Any) -> None:
        with contextlib.suppress(OSError), self._sending:  # it has just gone
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, *names: str, seconds: float, stopped: Callable[[], bool] = lambda: False) -> str:
        """The first of these messages that has come within so many seconds; "" for none."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stopped():
            is_closed = self.closed.is_set()
            if found := next((name for name in names if name in self.said), ""):
                return found
            if is_closed:
                break
            time.sleep(POLL)
        return ""

    # --- as a process that may fail

    @property
    def failure(self) -> dict[str, Any] | None:
        return self.said if "failed" in self.said else None

    @property
    def has_failed(self) -> bool:
        return self.failure is not None or self.closed.is_set()

    @property
    def has_crashed(self) -> bool:
        return self.failure is None and self.closed.is_set()

    @property
    def is_cause(self) -> bool:
        return self.has_crashed or bool(self.failure and not self.failure.get("is_exchange"))

    def problem(self, count: int) -> Problem:
        if self.failure:
            return Problem.from_dict(self.failure["failed"])
        return Problem("machines.gone", "processes", machine=self.name)

    def kill(self) -> None:
        """Let it go. It ends its processes when the connection is gone."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def wait(self, seconds: float) -> bool:
        return self.closed.wait(seconds)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.close()


# --- the first machine


class Meeting:
    """The first machine's side, until all are there. stopped: whether the run is to be stopped meanwhile."""

    def __init__(self, place: Place, hello: Mapping[str, Any], stopped: Callable[[], bool]):
        self.place, self.hello, self.stopped = place, hello, stopped
        self.lines: dict[int, Connection] = {}  # by machine
        self.processes = {0: place.processes}  # by machine

    def hold(self, wait: Callable[[int, float], None], warn: Callable[[Problem], None]) -> bool:
        """Wait for all machines. Returns False if it was stopped; raises UserError when some do not come.

        wait: told how many are there, and for how many seconds more it waits at most, every now and then. warn: told
        that the main address is not this machine's.
        """
        with listening(self.place, warn) as listener:
            deadline = time.monotonic() + PATIENCE
            while len(self.processes) < self.place.machines:
                self._lose()
                if self.stopped():
                    return False
                if time.monotonic() > deadline:
                    missing = [rank for rank in range(self.place.machines) if rank not in self.processes]
                    raise UserError("machines.missing", "machines", ranks=missing, minutes=int(PATIENCE // 60))
                wait(len(self.processes), deadline - time.monotonic())
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    self._welcome(connection)
        return True

    def _lose(self) -> None:
        """Forget machines that have gone again: they may come back."""
        for rank in [rank for rank, line in self.lines.items() if line.closed.is_set()]:
            self.lines.pop(rank).close()
            self.processes.pop(rank)

    def _welcome(self, connection: socket.socket) -> None:
        line = Connection(connection, "")
        if not line.hear("hello", seconds=5.0):
            line.close()  # some other program
            return
        hello = line.said["hello"]
        if problem := self._objection(hello):
            line.tell(failed=problem.as_dict(), code=1)
            line.kill()
            return
        rank = hello["rank"]
        line.name = self.place.name_of(rank)
        self.lines[rank], self.processes[rank] = line, hello["processes"]

    def _objection(self, hello: Any) -> Problem | None:
        """Why a machine cannot take part."""
        numbers = ("rank", "machines", "processes")
        if not isinstance(hello, dict) or not all(isinstance(hello.get(name), int) for name in numbers):
            return Problem("machines.other_program", "main_address")
        if hello.get("version") != __version__:
            return Problem("machines.other_version", "main_address", ours=__version__, theirs=str(hello.get("version")))
        if hello["machines"] != self.place.machines:
            about: dict[str, Any] = {"ours": self.place.machines, "theirs": hello["machines"]}
            return Problem("machines.other_count", "machines", **about)
        if hello["rank"] in self.processes or not 0 < hello["rank"] < self.place.machines:
            return Problem("machines.same_rank", "machine_rank", rank=hello["rank"])
        if hello.get("run") not in (None, self.hello["run"]):
            return Problem("machines.other_run", "run", ours=self.hello["run"], theirs=str(hello["run"]))
        return None

    def begin(self, port: int) -> Problem | None:
        """Tell all what they start, and hear whether they can. Returns why one cannot."""
        world, first = sum(self.processes.values()), self.place.processes
        for rank, line in sorted(self.lines.items()):
            line.tell(begin={**self.hello, "first": first, "world": world, "port": port})
            first += self.processes[rank]
        for _, line in sorted(self.lines.items()):
            if line.hear("ready", "failed", seconds=ANSWER) != "ready":
                return line.problem(world)
        return None


def listening(place: Place, warn: Callable[[Problem], None]) -> socket.socket:
    """A socket at the main address; on all addresses of this machine where that is another's, as behind a router, of
    which it warns. Raises UserError."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        require_reachable(place, str(address[0]))
        listener = socket.socket(family, kind, proto)
        if sys.platform != "win32":  # there it would let two programs listen
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            listener.bind(("", place.port))
            warn(Problem("machines.not_own_address", "main_address", host=place.host, port=place.port))
        listener.listen()
    except OSError as error:
        about = {"address": f"{place.host}:{place.port}", "error": error.strerror or str(error)}
        raise UserError("machines.no_listening", "main_address", **about) from error
    listener.settimeout(POLL)
    return listener


def require_reachable(place: Place, address: str) -> None:
    """Raise UserError if the host's name stands for an address that only this machine reaches, as Debian's own name
    does."""
    if place.host in ("localhost", address) or place.is_one_machine:
        return
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise UserError("machines.own_name", "main_address", host=place.host, address=address)


# --- the other machines


def go_to(
    place: Place, hello: Mapping[str, Any], stopped: Callable[[], bool], wait: Callable[[OSError], None]
) -> Connection | None:
    """Connect with the first machine, and hear from it what to start: `said["begin"]`. None if stopped meanwhile.

    wait: told why it is not reached, at each try; a name that is not known may become so. Raises UserError when it does
    not answer, or does not want this machine.
    """
    deadline = time.monotonic() + PATIENCE
    address = f"{place.host}:{place.port}"
    error: Exception | None = None
    while not stopped():
        if time.monotonic() > deadline:
            about: dict[str, Any] = {"error": str(error or ""), "minutes": int(PATIENCE // 60)}
            raise UserError("machines.no_first", "main_address", address=address, **about)
        try:
            connection = socket.create_connection((place.host, place.port), timeout=5.0)
        except OSError as found:
            error = found
            wait(found)
            time.sleep(POLL)
            continue
        line = Connection(connection, place.name_of(0))
        line.tell(hello={**hello, "version": __version__, "rank": place.rank, "machines": place.machines})
        answer = line.hear("begin", "failed", seconds=deadline - time.monotonic(), stopped=stopped)
        if answer == "begin":
            return line
        line.close()
        if answer == "failed":
            raise line.problem(0).as_error()
        error = None
        time.sleep(POLL)  # the first machine's program ended, and may be started again
    return None


def interface_to(host: str, port: int) -> str:
    """The name of the network interface through which this machine reaches another, for libraries that choose one by
    the machine's name, which often means none but this machine; "" where that is not known (only Linux says it)."""
    try:
        import fcntl
        import struct

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))
            own = socket.inet_aton(probe.getsockname()[0])
            for _, name in socket.if_nameindex():
                with contextlib.suppress(OSError):  # it has no address
                    asked = struct.pack("256s", name.encode()[:15])
                    if fcntl.ioctl(probe.fileno(), 0x8915, asked)[20:24] == own:  # SIOCGIFADDR
                        return name
    except (OSError, ImportError, AttributeError):
        pass
    return ""
