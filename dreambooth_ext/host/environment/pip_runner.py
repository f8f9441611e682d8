"""Running pip for the trainer's environment: its output to a log, its progress to the screen, its errors in words."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import UserError
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
)
_DISK = ("No space left on device", "not enough space on the disk", "Disk quota exceeded")
_LOCKED = ("Permission denied", "PermissionError", "WinError 5", "WinError 32", "Access is denied")


@dataclass(frozen=True)
class Window:
    """The part of the whole progress, from 0 to 1, that one piece of work fills."""

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
        """The last 400 lines of output. Raises UserError("environment") when it fails.

        `steps`: how many packages are coming, for the share that is done.
        """
        lines: deque[str] = deque(maxlen=400)
        reading = _PipReading(stage, window, steps)
        self.progress(window.start, stage)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} $ {escaped(' '.join(command))}\n")
            process = subprocess.Popen(
                command,
                env=clean_variables(PYTHONNOUSERSITE="1", PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=(self.lock_descriptor,) if self.lock_descriptor and os.name != "nt" else (),
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
                    process.kill()
                process.wait()
        if process.returncode:
            raise _explained(list(lines), stage, self.log)
        return list(lines)


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
    """What pip's lines mean for the progress."""

    def __init__(self, stage: str, window: Window, steps: int):
        self.stage, self.window, self.steps = stage, window, steps
        self.collected = 0
        self.share = 0.0
        self.doing = ""
        self.since = time.monotonic()

    def read(self, line: str) -> tuple[float, str]:
        if match := re.match(r"Progress (\d+) of (\d+)", line):  # pip 24.1 and newer, --progress-bar raw
            done, total = int(match[1]), max(int(match[2]), 1)
            if self.steps <= 1:
                self.share = 0.8 * done / total
            size = re.sub(r" \(.*", "", self.doing)
            return self._say(f"{size}, {human_size(done)} of {human_size(total)}")
        if line.startswith("Collecting"):
            self.collected += 1
            self._begin(f"looking for {line.split()[1]}")
            if self.steps > 1:
                self.share = 0.7 * self.collected / self.steps
        elif match := re.match(r"\s*(Downloading|Using cached) (?:\S*/)?([^/\s]+\.whl)\S* (\(.*\))", line):
            self._begin(f"{match[1].lower()} {match[2].split('-')[0]} {match[3]}")
        elif line.startswith("Installing collected packages"):
            self.share = 0.8
            self._begin("unpacking")
        return self._say(self.doing)

    def _begin(self, doing: str) -> None:
        self.doing, self.since = doing, time.monotonic()

    def _say(self, doing: str) -> tuple[float, str]:
        seconds = time.monotonic() - self.since
        waited = f", {seconds:.0f} s" if seconds > 3 else ""
        return self.window.at(self.share), f"{self.stage}: {doing}{waited}" if doing else self.stage


def _explained(lines: list[str], stage: str, log: Path) -> UserError:
    """The failed command's output as a problem with a remedy."""
    text = "\n".join(lines)
    errors = [line for line in lines if line.startswith("ERROR: ")]
    if any(sign in text for sign in _DISK):
        message, remedy = "the disk is full.", "Make room and start again."
    elif any(sign in text for sign in _NETWORK):
        message = "the network or the package server cannot be reached."
        remedy = "Check the connection and start again, or name a folder with the packages: env --wheels DIR."
    elif missing := re.search(r"No matching distribution found for (\S+)", text):
        message = f"there is no build of {missing[1]} for this Python and system."
        remedy = "Use another Python (3.11 is the best supported), or put the wheel into the folder of --wheels."
    elif "No module named pip" in text or "No module named ensurepip" in text or "ensurepip is not available" in text:
        message, remedy = "this Python has no pip.", "On Debian and Ubuntu: apt install python3-venv python3-pip."
    elif any(sign in text for sign in _LOCKED):
        message = "a file cannot be written; a program may be using it."
        remedy = "Stop running trainings, close programs that use the folder, and start again."
    else:
        message, remedy = errors[-1][len("ERROR: ") :] if errors else (lines or ["it failed"])[-1], "Start again."
    return UserError("environment", f"{stage}: {message}", f"{remedy} The log is {log}.")


def pip_command(creator: Interpreter, python: Path, sees_pip: bool, runner: Runner) -> list[str]:
    """How to install into the environment of `python`, without leaving more there than necessary."""
    if sees_pip:
        return [str(python), "-m", "pip"]
    version = tuple(int(n) for n in re.findall(r"\d+", creator.packages.get("pip", "0"))[:2])
    if "pip" in creator.modules and version >= (22, 3):  # the first with --python
        return [str(creator.path), "-m", "pip", "--python", str(python)]
    runner.run([str(python), "-m", "ensurepip", "--default-pip"], "environment", Window(0.01, 0.03))
    return [str(python), "-m", "pip"]


def own_sources(pip: list[str]) -> tuple[bool, bool]:
    """Whether the user's pip configuration names (packages' sources of its own, no network at all)."""
    listed = subprocess.run(
        [*pip[:3], "config", "list"],
        env=clean_variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    ).stdout
    named = {line.partition("=")[0].rpartition(".")[2] for line in listed.splitlines()}
    return bool(named & {"index-url", "extra-index-url", "find-links", "no-index"}), "no-index" in named


@dataclass(frozen=True)
class Pip:
    """pip, set up for one environment."""

    command: list[str]
    version: str
    runner: Runner
    constraints: Path
    wheels: Path | None = None
    target: Path | None = None  # a plain folder, where no virtual environment could be made

    def install(
        self, what: Iterable[str], stage: str, window: Window, *, dependencies: bool = False, index: str | None = None
    ) -> None:
        packages = list(what)
        if not packages:
            return
        numbers = [int(n) for n in re.findall(r"\d+", self.version)[:2]]
        options = ["--no-input", "--disable-pip-version-check", "--only-binary=:all:", "--no-warn-conflicts"]
        options += ["--no-warn-script-location", "--progress-bar", "raw" if numbers >= [24, 1] else "off"]
        options += ["--constraint", str(self.constraints)] + ([] if dependencies else ["--no-deps"])
        if self.wheels:
            options += ["--no-index", "--find-links", str(self.wheels)]
        if index:
            options += ["--extra-index-url", index]
        if self.target:
            options += ["--target", str(self.target), "--upgrade"]
        self.runner.run([*self.command, "install", *options, *packages], stage, window, steps=len(packages))


def make_venv(creator: Interpreter, folder: Path, runner: Runner) -> None:
    if "venv" not in creator.modules:
        raise UserError(
            "environment",
            f"{creator.path} cannot make virtual environments: its module venv is missing.",
            "On Debian and Ubuntu: apt install python3-venv. On Windows use the installer from python.org.",
        )
    command = [str(creator.path), "-m", "venv", "--without-pip", str(folder)]
    runner.run(command, "making the environment", Window(0.0, 0.01))


def interpreter_of(folder: Path) -> Path:
    """The interpreter of the virtual environment in `folder`."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def site_of(folder: Path, python: tuple[int, int]) -> Path:
    """Its own package folder."""
    if os.name == "nt":
        return folder / "Lib" / "site-packages"
    return folder / "lib" / f"python{python[0]}.{python[1]}" / "site-packages"


def running_inside(folder: Path) -> bool:
    """Whether this very process runs in the virtual environment `folder`."""
    return Path(sys.prefix).resolve() == folder.resolve()
