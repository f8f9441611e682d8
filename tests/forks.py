"""Starts of the trainer's programs in a tenth of the time: a process that has imported the engine forks for each.

`install()` makes `subprocess.Popen` do so in the tests' process, on Linux, for `python -m dreambooth_ext.engine...` and
`python -m dreambooth_ext ...` in this interpreter. What comes is a child of the tests' process as any other, with a
pid, session, streams, environment, folder, command line (/proc/PID/cmdline), signals and exit status of its own. The
first of each kind is a real start all the same, and so is each under `real_starts` and with options that are not known
here. Variables that libraries read while they are imported must be the same, or it is a real start.

`python -m tests.forks DESCRIPTOR PADDING` is the process that forks.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib.util
import io
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).parents[1]
ENGINE, COMMANDS = "dreambooth_ext.engine", "dreambooth_ext"
PRELOADED = ("worker", "deep_check", "verbs.compare", "verbs.convert", "verbs.generate", "verbs.network")
READ_AT_IMPORT = (
    "BITSANDBYTES", "BNB", "CUDA", "DIFFUSERS", "HF_", "HOME", "HUGGING", "LANG", "LC_", "LD_", "MKL", "OMP", "PATH",
    "PYTHON", "PYTORCH", "TORCH", "TRANSFORMERS", "TZ", "USE_", "XDG",
)  # fmt: skip
SET_ANEW = ("PYTHONUNBUFFERED", "PYTHONPATH", "PYTHONNOUSERSITE")  # of these, what matters is done for each fork
PADDING = 8192  # bytes for command lines
REAPS = 36  # prctl's PR_SET_CHILD_SUBREAPER: a child whose own parent has ended becomes ours
SERVERS = 2  # each takes some 300 MB
Popen = subprocess.Popen


@dataclass(frozen=True)
class Start:
    """A program to start, as Popen was asked for it."""

    module: str
    arguments: list[str]
    command: list[str]
    folder: str
    variables: dict[str, str]
    new_session: bool
    mask: int


def key(variables: Mapping[str, str]) -> str:
    known = {name: value for name, value in variables.items() if name.startswith(READ_AT_IMPORT)}
    return json.dumps(sorted((name, value) for name, value in known.items() if name not in SET_ANEW))


def start_of(args: Any, cwd: Any, env: Mapping[str, str] | None, rest: Sequence[Any], modules: str) -> Start | None:
    """What can be forked, or None. rest: `_execute_child`'s further arguments."""
    if isinstance(args, (str, bytes, os.PathLike)):
        return None
    startup, flags, shell, *_streams, restores, gid, gids, uid, umask, session = rest[:15]
    if startup or flags or shell or not restores or (gid, gids, uid, umask) != (None, None, None, -1):
        return None
    if rest[15:] not in ((), (-1,)):  # process_group
        return None
    command = [os.fsdecode(word) for word in args]
    variables = dict(os.environ if env is None else env)
    paths = variables.get("PYTHONPATH", "").split(os.pathsep)
    folder = os.fsdecode(cwd) if cwd else os.getcwd()
    if command[:2] != [sys.executable, "-m"] or len(command) < 3 or len("".join(command)) > PADDING // 2:
        return None
    module = command[2]
    if not (module in (modules, ENGINE) or module.startswith(f"{ENGINE}.")) or not os.path.isdir(folder):
        return None
    if folder != str(REPOSITORY) and str(REPOSITORY) not in paths:
        return None
    with open("/proc/self/status") as status:
        mask = next(int(line.split()[1], 8) for line in status if line.startswith("Umask"))
    return Start(module, command[3:], command, os.path.abspath(folder), variables, session, mask)


# --- in the process that starts


class Forking(Popen):
    """Popen that forks where it can."""

    modules = COMMANDS

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        start = None
        if executable is None and preexec_fn is None and close_fds and not pass_fds:
            start = start_of(args, cwd, env, rest, self.modules)
        streams = rest[3:9]
        child = [fd if fd != -1 else usual for usual, fd in enumerate((streams[0], streams[3], streams[5]))]
        pid = self.forked(start, child) if start else None
        if pid is None:
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
            return
        self.pid = pid
        self._child_created = True
        self._close_pipe_fds(*streams)

    def forked(self, start: Start, streams: list[int]) -> int | None:
        """Its pid, or None where it must be started."""
        return None if real else pool.fork(start, streams)


class Pool:
    """The processes that fork: one for each set of variables that libraries read, from the second start with it on."""

    def __init__(self) -> None:
        self.servers: dict[str, tuple[Popen, socket.socket]] = {}
        self.seen: set[str] = set()
        self.lock = threading.Lock()

    def fork(self, start: Start, streams: list[int]) -> int | None:
        wanted = key(start.variables)
        kind = f"{start.module} {wanted}"
        with self.lock:
            if kind not in self.seen:
                self.seen.add(kind)
                return None
            if wanted not in self.servers:
                if len(self.servers) == SERVERS:
                    return None
                self.servers[wanted] = self.serve(start)
            return self.ask(self.servers[wanted][1], start, streams)

    def serve(self, start: Start) -> tuple[Popen, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forks", str(theirs.fileno()), "-" * PADDING]
            variables = {**start.variables, "PYTHONPATH": str(REPOSITORY)}
            null = subprocess.DEVNULL
            process = Popen(command, env=variables, cwd=REPOSITORY, pass_fds=[theirs.fileno()], stdin=null, stdout=null)
        return process, ours

    def ask(self, server: socket.socket, start: Start, streams: list[int]) -> int:
        kernel = ctypes.CDLL(None)
        kernel.prctl(REAPS, 1, 0, 0, 0)
        try:
            socket.send_fds(server, [json.dumps(asdict(start)).encode()], streams)
            return int(server.recv(100))
        finally:
            kernel.prctl(REAPS, 0, 0, 0, 0)

    def close(self) -> None:
        for process, connection in self.servers.values():
            connection.close()
            process.wait()
        self.servers.clear()


real = not sys.platform.startswith("linux") or importlib.util.find_spec("torch") is None
pool = Pool()


def install() -> None:
    if not real:
        subprocess.Popen = Forking
        atexit.register(pool.close)


@contextlib.contextmanager
def real_starts():
    global real
    before, real = real, True
    try:
        yield
    finally:
        real = before


# --- in the process that forks


def serve(connection: socket.socket) -> NoReturn:
    for name in PRELOADED:
        importlib.import_module(f"{ENGINE}.{name}")
    gc.collect()
    gc.freeze()
    parent = os.getppid()  # which will be that of each fork, too, once its own has ended
    while True:
        data, streams, _, _ = socket.recv_fds(connection, 2**18, 3)
        if not data:
            os._exit(0)
        start = Start(**json.loads(data))
        reading, writing = os.pipe()
        if not (between := os.fork()):
            if os.fork():
                os._exit(0)
            while os.getppid() not in (1, parent):
                time.sleep(0.0005)
            connection.close()
            become(start, streams, writing, nested=False)
        os.waitpid(between, 0)
        os.close(writing)
        connection.send(os.read(reading, 100))
        os.close(reading)
        for stream in streams:
            os.close(stream)


class Nested(Forking):
    """Popen in a forked command: it has imported the engine itself, and forks for it."""

    modules = ENGINE

    def forked(self, start: Start, streams: list[int]) -> int | None:
        if key(start.variables) != key(os.environ):
            return None
        reading, writing = os.pipe()
        if not (pid := os.fork()):
            become(start, streams, writing, nested=True)
        os.close(writing)
        os.read(reading, 100)
        os.close(reading)
        return pid


def become(start: Start, streams: list[int], ready: int, nested: bool) -> NoReturn:
    """Turn this process into that program."""
    status = 255
    try:
        prepare(start, streams, ready, nested)
        status = run(start)
    finally:
        os._exit(status)


def prepare(start: Start, streams: list[int], ready: int, nested: bool) -> None:
    if start.new_session:
        os.setsid()
    os.chdir(start.folder)
    os.umask(start.mask)
    os.environ.clear()
    os.environ.update(start.variables)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if nested:
        atexit._clear()
    kept = [os.dup(stream) for stream in streams]
    for number, stream in enumerate(kept):
        os.dup2(stream, number)
    name_it(start.command)
    os.write(ready, str(os.getpid()).encode())
    os.closerange(3, 65536 if nested else max(*kept, ready) + 1)
    raw = bool(start.variables.get("PYTHONUNBUFFERED"))
    sys.stdin = opened(0, "rb", raw, "surrogateescape")
    sys.stdout = opened(1, "wb", raw, "surrogateescape")
    sys.stderr = opened(2, "wb", raw, "backslashreplace", line_buffering=not raw)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.orig_argv = start.command
    sys.argv = ["-m", *start.arguments]
    sys.path[0] = start.folder
    tempfile.tempdir = None
    random.seed()


def opened(number: int, mode: str, raw: bool, errors: str, **options: Any) -> io.TextIOWrapper:
    binary = open(number, mode, buffering=0 if raw and mode == "wb" else -1, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(binary, encoding="utf-8", errors=errors, write_through=raw, **options)


def name_it(command: list[str]) -> None:
    """Show that command line in /proc."""
    numbers = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(numbers[45]), int(numbers[46])
    text = b"\0".join(map(os.fsencode, command)) + b"\0"
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, text, min(len(text), end - begin))


def run(start: Start) -> int:
    """As the interpreter runs `-m`; returns the exit status."""
    if start.module == COMMANDS:
        subprocess.Popen = Nested
    else:
        subprocess.Popen = Popen
    for name in (start.module, f"{start.module}.__main__"):
        sys.modules.pop(name if name.startswith(f"{ENGINE}.") or name.endswith("__main__") else "", None)
    status = 0
    try:
        runpy.run_module(start.module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if ended.code is not None and not isinstance(ended.code, int):
            print(ended.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
    return status if flush() else 120


def flush() -> bool:
    """Whether all that was printed has been written; else Python ends with 120."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream and not stream.closed:
                stream.flush()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
