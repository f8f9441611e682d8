"""The trainer's environment: reports its state, checks it, and runs programs inside it.

The engine has its own pinned packages in a folder of the extension. Standalone that is a full environment with torch;
with a WebUI, or a Python that has torch, it is an overlay that uses the torch of that host and changes nothing there.
`builder.py` builds it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ...core.errors import Problem, UserError
from ...core.messages.message import Message, beside, from_json
from ...core.system import environment_users
from ...core.system.files import try_lock, write_json, write_text
from ...core.system.terminal import StageLine, Stages, silent
from . import device_list, proof
from .builder import Builder
from .gpu_probe import this_machine
from .interpreter import REPOSITORY, clean_variables, probe
from .layout import Layout
from .lock_file import Row, lock_hash
from .torch_build import AUTOMATIC, choose

WHEELS_VARIABLE = "DREAMBOOTH_EXT_WHEELS"


@dataclass(frozen=True)
class Status:
    """`state` is missing, broken, outdated or ready; `optional`: package that does not work here -> why."""

    state: str
    reason: str
    folder: str
    kind: str = ""  # full, overlay (on a host's torch), or target (an overlay without a virtual environment)
    python: str = ""
    python_version: str = ""
    torch: str = ""
    device: str = ""
    devices: list[dict[str, Any]] = field(default_factory=list)  # see device_list.devices
    torch_reason: str = ""  # which build of torch it is, and why
    packages: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        optional = {name: beside("reason", why) for name, why in self.optional.items()}
        reasons = {**beside("reason", self.reason), **beside("torch_reason", self.torch_reason)}
        return {**asdict(self), **reasons, "optional": optional}


class Environment(Layout):
    """Operations on an environment: report its state, check it, build it, run programs inside."""

    # --- looking ---

    def status(self) -> Status:
        """The state according to the marker and a few files, in milliseconds; `verify` checks thoroughly."""
        record = self.record()
        state, reason = self.judge(record)
        if state != "ready" and (failure := self.last_failure()):
            about = {"failure": failure.message, "advice": failure.remedy}
            reason = Message("environment.after_failure", reason=reason, **about)
        if not record:
            return Status(state, reason, str(self.folder))
        return Status(
            state=state,
            reason=reason,
            folder=str(self.folder),
            kind=record["kind"],
            python=record["python"],
            python_version=record["python_version"],
            torch=record["torch"]["version"],
            device=record["torch"]["device"],
            devices=device_list.devices(record["torch"]),
            torch_reason=from_json(record.get("torch_build", {}).get("reason", "")),
            packages=record["packages"],
            optional={name: from_json(why) for name, why in record["optional"].items()},
        )

    # --- checking ---

    def verify(self) -> Status:
        """Import everything and compare every version. Raises UserError with everything that is wrong."""
        record = self.record()
        if not record or not Path(record["python"]).exists():
            raise UserError("environment.not_ready", "environment", reason=self.status().reason)
        found = probe(self.command([]), "imports", proof.names_to_import(self.recipe), own_site=True)
        faults = proof.faults(self, found, [Row(*pair) for pair in record["expected"].items()], record["kind"])
        if faults:
            raise UserError("environment.damaged", "environment", faults=faults)
        record |= proof.findings(self.recipe, found, set(record["expected"]), {})
        write_json(self.marker, record)
        return self.status()

    # --- making ---

    def build(
        self,
        progress: Stages = silent,
        wheels: Path | None = None,
        host_python: Path | None = None,
        *,
        renew: bool = False,
        torch: str | None = None,
    ) -> Status:
        """Build or update the environment; waits while another process does. Raises UserError("environment").

        `wheels`: a folder to install from, without a network; by default $DREAMBOOTH_EXT_WHEELS, or `wheels` in the
        repository if it exists. `host_python`: the Python whose torch to use.
        `renew`: start from nothing even if it is ready. `torch`: a build of torch (`torch_build.BUILDS`) that is used
        from now on, also over a host that has one; "auto" for the one that fits the machine; None for what was asked
        last.
        """
        if torch:
            choose(this_machine(), torch)  # what does not exist is refused before anything is changed
        with self.only_builder(progress) as (lock, waited):
            if torch:
                self._ask_torch(torch)
            is_made = self.status().state == "ready" and self.has_torch(self.asked_torch(), self.record())
            if not renew and waited and is_made:
                return self.status()
            self.check_unused()
            try:
                Builder(self, progress, wheels or named_wheels(), host_python, lock).run(renew)
            except Exception as error:
                with suppress(OSError):  # such as a full disk, which the error itself tells
                    write_json(self.failure, failure_of(error, self.log).as_dict())
                raise
            self.failure.unlink(missing_ok=True)
        return self.status()

    def _ask_torch(self, name: str) -> None:
        if name == AUTOMATIC:
            self.asked.unlink(missing_ok=True)
        else:
            write_text(self.asked, name)

    def repair(self, progress: Stages = silent, wheels: Path | None = None) -> Status:
        """Build it again from nothing, with the same Python and host as before."""
        return self.build(progress, wheels, renew=True)

    def add(self, lock: Path, progress: Stages = silent, wheels: Path | None = None) -> None:
        """Install the packages of another lock (the tests') into a ready environment, unless they are there."""
        if self.record().get("extras", {}).get(lock.parent.name) == lock_hash(lock):
            return
        with self.only_builder(progress) as (descriptor, _):
            Builder(self, progress, wheels, None, descriptor).add(lock)

    def ensure(
        self, wheels: Path | None = None, host_python: Path | None = None, progress: Stages | None = None
    ) -> Path:
        """The environment's interpreter; builds it first, with progress on stderr, unless it is ready."""
        if self.status().state != "ready":
            with StageLine() as screen:
                self.build(progress or screen, wheels, host_python)
        return self.python

    @contextmanager
    def only_builder(self, progress: Stages) -> Iterator[tuple[IO[bytes], bool]]:
        """Hold the builders' lock; yields it and whether another builder was waited for."""
        start = time.monotonic()
        path = self.folder / "build.lock"
        while not (lock := try_lock(path)):
            progress(None, Message("environment.waiting", folder=self.folder, seconds=int(time.monotonic() - start)))
            time.sleep(0.3)
        try:
            yield lock, time.monotonic() - start > 0.3
        finally:
            lock.close()

    # --- using ---

    def check_unused(self) -> None:
        """Raise UserError("environment") while any program, such as a run, uses the environment."""
        if found := environment_users.names(self.folder):
            raise UserError("environment.in_use", "environment", programs=found)

    def command(self, argv: list[str]) -> list[str]:
        """The command line that runs `argv` (["-m", module, ...] or [file, ...]) inside."""
        return [*self.starter(self.record().get("kind", ""), self.python), *argv]

    def variables(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """Environment variables for that command: this repository and the trainer's packages, nothing else."""
        path = [str(REPOSITORY)]
        if self.record().get("kind") == "target":
            path.append(str(self.packages))
        known = {
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONNOUSERSITE": "1",
            environment_users.VARIABLE: str(self.folder),
        }
        return clean_variables(**known, **(changes or {}))

    def run_inside(self, argv: list[str], env: Mapping[str, str] | None = None, *, replace: bool = False) -> int:
        """Run `argv` (see `command`) inside and return its exit status; builds the environment first if necessary.

        `replace`: replace this process if the system can (not on Windows), so that signals and kills reach the program.
        """
        self.ensure()
        command, variables = self.command(argv), self.variables(env)
        sys.stdout.flush()
        sys.stderr.flush()
        if replace and os.name != "nt":
            os.execve(command[0], command, variables)
        process = subprocess.Popen(command, env=variables)
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the child got it too and decides how to end
                continue


def failure_of(error: Exception, log: Path) -> Problem:
    """The problem with a failed build, to be stored for later display."""
    if isinstance(error, UserError):
        return error.problem
    what = f"{type(error).__name__}: {error}"
    return Problem("environment.unexpected", "environment", error=what, log=log)


def named_wheels() -> Path | None:
    """The folder of wheels for machines without a network, if one is named or is beside the package."""
    named = os.environ.get(WHEELS_VARIABLE)
    beside = REPOSITORY / "wheels"
    return Path(named) if named else beside if beside.is_dir() else None
