"""Runs pip for the trainer's environment: logs its output, shows its progress, explains its errors."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.system.files import human_size
from ...core.system.terminal import Stages, escaped
from .interpreter import Interpreter, clean_variables

_NETWORK = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "NameResolutionError",
    "ReadTimeoutError",
    "Read timed out",
    "ProxyError",
    "SSLError",
    "Max retries exceeded",
    "Connection aborted",
    "Network is unreachable",
    "There was a problem confirming the ssl certificate",
    "error sending request",  # uv
    "Failed to fetch",
    "dns error",
)
_DISK = ("No space left on device", "not enough space on the disk", "Disk quota exceeded")
# Settings of somebody's shell that would put packages elsewhere, change their versions, or link them to a cache.
_ELSEWHERE = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CONSTRAINT", "UV_SYSTEM_PYTHON", "UV_PYTHON", "UV_LINK_MODE"}
_ELSEWHERE |= {"UV_CONSTRAINT", "UV_OVERRIDE", "UV_PROJECT_ENVIRONMENT", "UV_RESOLUTION", "UV_TORCH_BACKEND"}
# pip's sentences (the second beside constraints), and uv's: a version or package is nowhere, or has no wheel that fits.
_NO_BUILD = re.compile(
    r"No matching distribution found for (\S+)|Cannot install (\S+) because these package versions have conflicting"
    r"|there is no version of (\S+)"
    r"|Because (\S+) (?:has no (?:usable )?wheels|was not found in the)"
)
_LOCKED = ("Permission denied", "PermissionError", "WinError 5", "WinError 32", "Access is denied")


class Cancelled(UserError):
    """Raised by a `Stages` callback to end what it is told of: no fault, that something else could be tried after."""

    def __init__(self) -> None:
        super().__init__("environment.cancelled", "environment")


@dataclass(frozen=True)
class Window:
    """The part of the whole progress, from 0 to 1, that one step takes up."""

    start: float
    end: float

    def at(self, share: float) -> float:
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)


@dataclass(frozen=True)
class Runner:
    """Runs one command after another, each with its output in `log`."""

    log: Path
    progress: Stages
    lock_descriptor: int | None = None  # kept open by the children: a pip that outlives a killed builder still locks

    def run(self, command: list[str], stage: str, window: Window, steps: int = 0) -> list[str]:
        """The last 400 lines of output. Raises UserError("environment") if it fails.

        `steps`: how many packages are coming, to compute the progress.
        """
        lines: deque[str] = deque(maxlen=400)
        reading = _PipReading(stage, window, steps)
        self.progress(window.start, stage)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} $ {escaped(' '.join(command))}\n")
            process = subprocess.Popen(
                command,
                env=installers_variables(),
                cwd=self.log.parent,  # for uv, which obeys the pyproject.toml of the folder that it is started in
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=(self.lock_descriptor,) if self.lock_descriptor and os.name != "nt" else (),
                start_new_session=os.name != "nt",  # to be ended with what it starts: pip --python starts another pip
            )
            try:
                for line in _lines_or_ticks(process):
                    if line and not line.startswith("Progress "):
                        log.write(f"{time.strftime('%H:%M:%S')} {escaped(line)}\n")
                        log.flush()
                        lines.append(line)
                    self.progress(*reading.read(line))
            finally:
                if process.poll() is None:
                    end(process)
                process.wait()
        if process.returncode:
            raise _explained(list(lines), stage, self.log)
        return list(lines)


def installers_variables() -> dict[str, str]:
    """Environment variables for pip and uv: the user's indexes, and nothing that sends packages elsewhere."""
    known = clean_variables(PYTHONNOUSERSITE="1", PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0")
    return {name: value for name, value in known.items() if name.upper() not in _ELSEWHERE}


def end(process: subprocess.Popen[str]) -> None:
    """Kill a program of `Runner` and all that it has started."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/PID", str(process.pid), "/T", "/F"], capture_output=True, check=False)
        process.kill()  # where there is no taskkill
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _lines_or_ticks(process: subprocess.Popen[str]) -> Iterator[str]:
    """The process's lines as they come, and "" after each second without one."""
    received: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            received.put(line.rstrip())
        received.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = received.get(timeout=1.0)
        except queue.Empty:
            line = ""
        if line is None:
            return
        yield line


class _PipReading:
    """Derives progress from pip's output."""

    def __init__(self, stage: str, window: Window, steps: int):
        self.stage, self.window, self.steps = stage, window, steps
        self.collected = 0
        self.share = 0.0
        self.doing = self.name = ""  # what pip does, with which package
        self.since = time.monotonic()

    def read(self, line: str) -> tuple[float, str]:
        if match := re.match(r"Progress (\d+) of (\d+)", line):  # pip 24.1 and newer, --progress-bar raw
            done, total = int(match[1]), max(int(match[2]), 1)
            if self.steps <= 1:
                self.share = 0.8 * done / total
            about = {"done": human_size(done), "total": human_size(total)}
            return self._say(Message("environment.pip_received", name=self.name, **about))
        if line.startswith("Collecting"):
            self.collected += 1
            self._begin("environment.pip_collecting", line.split()[1])
            if self.steps > 1:
                self.share = 0.7 * self.collected / self.steps
        elif match := re.match(r"\s*(Downloading|Using cached) (?:\S*/)?([^/\s]+\.whl)\S* (\(.*\))", line):
            downloads = match[1] == "Downloading"
            code = "environment.pip_downloading" if downloads else "environment.pip_cached"
            self._begin(code, match[2].split("-")[0], size=match[3].strip("()"))
        elif match := re.match(r"\s*Downloading (\S+) (\(.*\))$", line):  # uv
            self._begin("environment.pip_downloading", match[1], size=match[2].strip("()"))
        elif line.startswith(("Installing collected packages", "Prepared ")):
            self.share = 0.8
            self.doing, self.since = Message("environment.pip_unpacking"), time.monotonic()
        return self._say(self.doing)

    def _begin(self, code: str, name: str, **values: str) -> None:
        self.name, self.since = name, time.monotonic()
        self.doing = Message(code, name=name, **values)

    def _say(self, doing: str) -> tuple[float, str]:
        at, seconds = self.window.at(self.share), int(time.monotonic() - self.since)
        if not doing:
            return at, self.stage
        if seconds <= 3:
            return at, Message("environment.stage", stage=self.stage, doing=doing)
        return at, Message("environment.stage_for", stage=self.stage, doing=doing, seconds=seconds)


def _explained(lines: list[str], stage: str, log: Path) -> UserError:
    """The error that a failed command's output indicates."""
    code, values = _fault("\n".join(lines))
    if code == "environment.pip_failed":
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines or ["?"]
        values = {"error": errors[-1]}
    return UserError(code, "environment", stage=stage, log=log, **values)


def _fault(text: str) -> tuple[str, dict[str, str]]:
    """(code, values) of the fault that the output indicates."""
    if any(sign in text for sign in _DISK):
        return "environment.disk_full", {}
    if any(sign in text for sign in _NETWORK):
        return "environment.no_network", {}
    if missing := _NO_BUILD.search(text):
        return "environment.no_build", {"name": next(filter(None, missing.groups()))}
    if "No module named pip" in text or "No module named ensurepip" in text or "ensurepip is not available" in text:
        return "environment.no_pip", {}
    return ("environment.file_in_use" if any(sign in text for sign in _LOCKED) else "environment.pip_failed"), {}


def pip_command(creator: Interpreter, python: Path, sees_pip: bool, runner: Runner) -> list[str]:
    """The pip command for the environment of `python`, installing as little as possible there."""
    if sees_pip:
        return [str(python), "-m", "pip"]
    version = tuple(int(n) for n in re.findall(r"\d+", creator.packages.get("pip", "0"))[:2])
    if "pip" in creator.modules and version >= (22, 3):  # the first with --python
        return [str(creator.path), "-m", "pip", "--python", str(python)]
    runner.run([str(python), "-m", "ensurepip", "--default-pip"], Message("environment.making"), Window(0.01, 0.03))
    return [str(python), "-m", "pip"]


def own_sources(pip: list[str]) -> tuple[bool, bool]:
    """Whether the user's pip configuration names (its own package sources, no network at all).

    Uses `Popen`, because with `--uv` Forge Neo makes `subprocess.run` call uv instead of pip.
    """
    with subprocess.Popen(
        [*pip[:3], "config", "list"],
        env=clean_variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
    ) as asked:
        listed, _ = asked.communicate()
    named = {line.partition("=")[0].rpartition(".")[2] for line in listed.splitlines()}
    return bool(named & {"index-url", "extra-index-url", "find-links", "no-index"}), "no-index" in named


@dataclass(frozen=True)
class Installer:
    """A program that installs packages into one environment."""

    runner: Runner
    constraints: Path
    wheels: Path | None
    target: Path | None  # a plain folder, where no virtual environment could be made

    def options(self, dependencies: bool, index: str | None) -> list[str]:
        """Those that pip and uv have in common. `index`: a further package index."""
        found = ["--only-binary=:all:", "--constraint", str(self.constraints)]
        found += [] if dependencies else ["--no-deps"]
        found += ["--no-index", "--find-links", str(self.wheels)] if self.wheels else []
        found += ["--extra-index-url", index] if index else []
        return [*found, "--target", str(self.target)] if self.target else found


@dataclass(frozen=True)
class Pip(Installer):
    command: list[str]
    version: str

    def install(
        self, what: Iterable[str], stage: str, window: Window, *, dependencies: bool = False, index: str | None = None
    ) -> None:
        packages = list(what)
        if not packages:
            return
        numbers = [int(n) for n in re.findall(r"\d+", self.version)[:2]]
        options = ["--no-input", "--disable-pip-version-check", "--no-warn-conflicts", "--no-warn-script-location"]
        options += ["--progress-bar", "raw" if numbers >= [24, 1] else "off"]
        options += (["--upgrade"] if self.target else []) + self.options(dependencies, index)
        self.runner.run([*self.command, "install", *options, *packages], stage, window, steps=len(packages))


def make_venv(creator: Interpreter, folder: Path, runner: Runner) -> None:
    if "venv" not in creator.modules:
        raise UserError("environment.no_venv", "environment", python=creator.path)
    command = [str(creator.path), "-m", "venv", "--without-pip", str(folder)]
    runner.run(command, Message("environment.making"), Window(0.0, 0.01))


def interpreter_of(folder: Path) -> Path:
    """The interpreter of the virtual environment in `folder`."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def site_of(folder: Path, python: tuple[int, int]) -> Path:
    """The virtual environment's own package folder."""
    if os.name == "nt":
        return folder / "Lib" / "site-packages"
    return folder / "lib" / f"python{python[0]}.{python[1]}" / "site-packages"


def running_inside(folder: Path) -> bool:
    """Whether this process runs in the virtual environment `folder`."""
    return Path(sys.prefix).resolve() == folder.resolve()
