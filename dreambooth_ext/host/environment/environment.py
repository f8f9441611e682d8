"""The trainer's environment: what state it is in, whether it works, and running programs inside it.

The engine has its own pinned packages in a folder of the extension. Standalone that is a full environment with torch;
over a WebUI, or a Python that has torch, it is an overlay which sees the torch of that host and changes nothing there.
Making it is `builder.py`'s part.
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

from ...core.errors import UserError
from ...core.system import environment_users
from ...core.system.files import read_json, try_lock, write_json
from ...core.system.terminal import StageLine, Stages, silent
from .builder import MARKER_KEYS, Build
from .interpreter import REPOSITORY, Interpreter, clean_variables, probe, torch_stamp
from .lock_file import Recipe, Row, lock_hash, version_tuple
from .pip_runner import interpreter_of, site_of

FOLDER_VARIABLE = "DREAMBOOTH_EXT_ENVIRONMENT"
WHEELS_VARIABLE = "DREAMBOOTH_EXT_WHEELS"
REPAIR = "Repair it with: python -m dreambooth_ext env --repair"


@dataclass(frozen=True)
class Status:
    """`state` is missing, broken, outdated or ready; `optional` names what does not work here and why."""

    state: str
    reason: str
    folder: str
    kind: str = ""  # full, overlay (on a host's torch), or target (an overlay without a virtual environment)
    python: str = ""
    python_version: str = ""
    torch: str = ""
    device: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Environment:
    """One environment in one folder; `folder` defaults to `environment` in the repository."""

    def __init__(self, folder: Path | None = None, recipe: Recipe | None = None):
        chosen = folder or os.environ.get(FOLDER_VARIABLE) or REPOSITORY / "environment"
        self.folder = Path(chosen).absolute()
        self.recipe = recipe or Recipe()
        self.tree = self.folder / "venv"
        self.packages = self.folder / "packages"  # of the kind "target"
        self.marker = self.folder / "ready.json"  # written last: without it nothing here counts
        self.constraints = self.folder / "constraints.txt"
        self.log = self.folder / "install.log"
        self.failure = self.folder / "failure.json"  # why the last set-up failed, until one succeeds

    # --- looking ---

    def record(self) -> dict[str, Any]:
        """The marker's content; empty without a readable one."""
        try:
            record = read_json(self.marker)
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) and record.keys() >= MARKER_KEYS else {}

    def status(self) -> Status:
        """From the marker and a few files, in milliseconds; `verify` is the thorough one."""
        record = self.record()
        state, reason = self.judge(record)
        if state != "ready" and (failure := self.last_failure()):
            reason = f"{reason} The last set-up failed: {failure}"
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
            packages=record["packages"],
            optional=record["optional"],
        )

    def judge(self, record: dict[str, Any]) -> tuple[str, str]:
        """(state, reason) of an environment with that marker."""
        if not record:
            if self.tree.exists() or self.packages.exists():
                return "broken", "An earlier set-up was interrupted."
            return "missing", "The trainer's environment has not been made yet."
        python = Path(record["python"])
        if not python.exists():
            return "broken", f"Its interpreter {python} is gone."
        if os.path.realpath(record["folder"]) != os.path.realpath(self.folder):  # a link to it is no other place
            return "outdated", f"It was made in {record['folder']} and cannot be moved."
        if os.path.realpath(python) != record["real_python"] or not Path(record["base_python"]).exists():
            return "outdated", "The Python that it was made with has been replaced."
        if record["torch_stamp"] != torch_stamp(record["torch"]["folder"]):
            return "outdated", f"The torch in {record['torch']['folder']} has changed or is gone."
        gone = [name for name, place in record["places"].items() if not os.path.exists(place)]
        if gone:  # an overlay shares what the host has in the right version, until the host changes it
            return "outdated", f"These packages have changed or are gone: {', '.join(gone)}."
        if record["lock"] != lock_hash(self.recipe.lock):
            return "outdated", "The list of its packages has changed."
        return "ready", ""

    def last_failure(self) -> str:
        """What the last set-up died of and what to do; empty where it succeeded, or was killed."""
        try:
            return read_json(self.failure)["message"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def python(self) -> Path:
        """Its interpreter, which need not exist yet."""
        record = self.record()
        return Path(record["python"]) if record else interpreter_of(self.tree)

    def own_site(self, python: tuple[int, int], kind: str) -> Path:
        return self.packages if kind == "target" else site_of(self.tree, python)

    # --- checking ---

    def verify(self) -> Status:
        """Import everything and compare every version. Raises UserError("environment") naming all that is wrong."""
        record = self.record()
        if not record or not Path(record["python"]).exists():
            raise UserError("environment", self.status().reason, REPAIR)
        found = probe(self.command([]), "imports", self.names_to_import(), own_site=True)
        faults = self.faults(found, [Row(*pair) for pair in record["expected"].items()], record["kind"])
        if faults:
            raise UserError("environment", "The trainer's environment is damaged: " + "; ".join(faults), REPAIR)
        record |= self.findings(found, set(record["expected"]), {})
        write_json(self.marker, record)
        return self.status()

    def names_to_import(self) -> tuple[str, ...]:
        return (*self.recipe.imports, *self.recipe.optional.values())

    def faults(self, found: Interpreter, expected: list[Row], kind: str) -> list[str]:
        """What keeps the trainer from working, one sentence each."""
        faults = [
            f"{name} does not import ({found.imports[name]})" for name in self.recipe.imports if found.imports[name]
        ]
        for row in expected:
            if not row.satisfied_by(found.packages) and row.name not in self.recipe.optional:
                faults.append(f"{row.name} is {found.packages.get(row.name, 'missing')}, not {row.version}")
        if kind != "full":
            own = self.own_site(found.python, kind)
            strangers = sorted(p.name for p in own.glob("torch*") if p.is_dir())
            if strangers:
                faults.append(f"a second torch in {own} ({', '.join(strangers)})")
        return faults

    def findings(self, found: Interpreter, expected: set[str], install_errors: Mapping[str, str]) -> dict[str, Any]:
        """The marker's entries that come from trying it out."""
        optional = {}
        for package, name in self.recipe.optional.items():
            reason = found.imports[name] and (install_errors.get(package) or found.imports[name])
            if package not in found.packages and not install_errors.get(package):
                reason = "not installed"
            if package == "bitsandbytes" and not reason and found.torch["device"] == "CPU only":
                # 0.50 is the first that was seen to step on a CPU, and needs torch 2.4
                old = version_tuple(found.packages[package]) < (0, 50)
                reason = f"{found.packages[package]}, which this torch needs, works on NVIDIA cards only" if old else ""
            if reason:
                optional[package] = reason
        places = {name: place for name, place in found.places.items() if name in expected and place}
        return {"torch": found.torch, "packages": found.packages, "places": places, "optional": optional}

    # --- making ---

    def build(
        self,
        progress: Stages = silent,
        wheels: Path | None = None,
        host_python: Path | None = None,
        *,
        renew: bool = False,
    ) -> Status:
        """Make it, or bring it up to date; waits while another process does. Raises UserError("environment").

        `wheels`: a folder to install from, without a network; by default $DREAMBOOTH_EXT_WHEELS, or `wheels` in the
        repository where there is one. `host_python`: the Python whose torch to use.
        `renew`: start from nothing even if it is ready.
        """
        with self.only_builder(progress) as (lock, waited):
            if not renew and waited and self.status().state == "ready":
                return self.status()
            self.check_unused()
            try:
                Build(self, progress, wheels or named_wheels(), host_python, lock).run(renew)
            except Exception as error:
                with suppress(OSError):  # such as a full disk, which the error itself tells
                    write_json(self.failure, {"message": str(error)})
                raise
            self.failure.unlink(missing_ok=True)
        return self.status()

    def repair(self, progress: Stages = silent, wheels: Path | None = None) -> Status:
        """Make it anew from nothing, with the same Python and host as before."""
        return self.build(progress, wheels, renew=True)

    def add(self, lock: Path, progress: Stages = silent, wheels: Path | None = None) -> None:
        """Install the packages of a further lock (the tests') into a ready environment; at once if they are there."""
        if self.record().get("extras", {}).get(lock.parent.name) == lock_hash(lock):
            return
        with self.only_builder(progress) as (descriptor, _):
            Build(self, progress, wheels, None, descriptor).add(lock)

    def ensure(
        self, wheels: Path | None = None, host_python: Path | None = None, progress: Stages | None = None
    ) -> Path:
        """Its interpreter; made first, with progress on stderr, unless it is ready."""
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
            progress(None, f"waiting for another set-up of {self.folder}: {time.monotonic() - start:.0f} s")
            time.sleep(0.3)
        try:
            yield lock, time.monotonic() - start > 0.3
        finally:
            lock.close()

    # --- using ---

    def check_unused(self) -> None:
        """Raises UserError("environment") while a program runs inside, whoever started it: a training, say."""
        if found := environment_users.names(self.folder):
            message = f"The trainer's environment is in use: {', '.join(found)}."
            raise UserError("environment", message, "Wait until that has ended, or stop it; then try again.")

    def command(self, argv: list[str]) -> list[str]:
        """The command line that runs `argv` (["-m", module, ...] or [file, ...]) inside."""
        return [*self.starter(self.record().get("kind", ""), self.python), *argv]

    def starter(self, kind: str, python: Path) -> list[str]:
        """How programs inside are started, for an environment of that kind."""
        if kind == "target":
            return [str(python), str(Path(__file__).with_name("bootstrap.py")), str(self.packages)]
        return [str(python)]

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
        """Run `argv` (see `command`) inside and return its exit status; an environment that is not ready is made first.

        `replace`: become that program where the system can (not on Windows), so that signals and kills reach it.
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


def named_wheels() -> Path | None:
    """The folder of wheels for machines without a network, where one is named or put beside the package."""
    named = os.environ.get(WHEELS_VARIABLE)
    beside = REPOSITORY / "wheels"
    return Path(named) if named else beside if beside.is_dir() else None
