"""Builds the trainer's environment, step by step: host, disk, virtual environment, torch, packages, check, marker.

A build may be killed at any instant. The marker is removed first and written last, and anything without a marker is
deleted and built again: half-installed packages look like complete ones, and pip's cache avoids the downloads.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import IO, Any

from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.system.files import free_bytes, human_size, write_json, write_text
from ...core.system.terminal import Stages
from . import proof
from .gpu_probe import this_machine
from .interpreter import Interpreter, check_python, neighbour_webui, probe, torch_stamp
from .layout import MARKER_KEYS, Layout
from .lock_file import Row, for_torch, lock_hash, missing_wheels, over_host, read_lock
from .pip_runner import (
    Cancelled,
    Pip,
    Runner,
    Window,
    interpreter_of,
    make_venv,
    own_sources,
    pip_command,
    running_inside,
    site_of,
)
from .torch_build import AUTOMATIC, Build, choose, usual
from .uv_runner import Uv, find_uv, uv_sources

# Disk space that a set-up needs at its peak, downloads in pip's cache included (bytes).
SPACE_CUDA, SPACE_CPU, SPACE_OVERLAY = 6 * 2**30, 2 * 2**30, 1 * 2**30


def unusable(host: Interpreter) -> Message:
    """Why a host's torch is not used."""
    if version := host.torch.get("version"):
        return Message("environment.torch_unfit", python=host.path, version=version)
    return Message("environment.torch_broken", python=host.path, error=host.torch.get("error", ""))


class Builder:
    """One build of an environment, whose builders' lock the caller holds."""

    def __init__(
        self,
        layout: Layout,
        progress: Stages,
        wheels: Path | None,
        host_python: Path | None,
        lock: IO[bytes],
    ):
        """`host_python`: the Python whose torch to use. The caller has written down the build of torch that was asked
        for, if any (`Layout.asked_torch`)."""
        self.layout = layout
        self.progress = progress
        self.wheels = wheels.absolute() if wheels else None
        self.host_python = host_python
        self.asked = layout.asked_torch()
        self.runner = Runner(layout.log, progress, lock.fileno())
        self.install_errors: dict[str, str] = {}

    def run(self, renew: bool) -> None:
        layout = self.layout
        record = layout.record()
        keep = not renew and self._only_lock_changed(record)
        progress = self.progress
        progress(0.0, Message("environment.looking"))
        host = probe([str(self._host(record))])
        check_python(host)
        kind = record["kind"] if keep else self._kind(host)
        rows = self._rows(host, kind)
        self._check_wheels(rows, {} if kind == "full" else host.packages)
        build = self._build(host, kind)
        self._check_space(SPACE_OVERLAY if kind != "full" or keep else SPACE_CPU if build.name == "cpu" else SPACE_CUDA)

        layout.marker.unlink(missing_ok=True)
        if not keep:
            self._clear()
        kind, python = self._make(host, kind, keep)
        pip = self._installer(host, kind, python, rows)
        installed = self._install_torch(pip, python, rows, build) if kind == "full" else None
        self._install(pip, rows, self._seen(kind, python))
        build = installed or build
        chosen = {"name": build.name, "asked": self.asked, "reason": build.reason.as_dict()}
        as_before = keep and not installed
        self._prove(host, kind, python, rows, record.get("torch_build", chosen) if as_before else chosen)

    def add(self, lock: Path) -> None:
        """Install the packages of another `lock` into a ready environment."""
        layout = self.layout
        record = layout.record()
        host = probe([record["host"]])
        kind, python = record["kind"], Path(record["python"])
        rows = read_lock(lock, host.python)
        seen = self._seen(kind, python)
        needed = [row for row in rows if not row.satisfied_by(seen)]
        if self.wheels and (missing := missing_wheels(needed, self.wheels)):
            raise UserError("environment.missing_wheels", "environment", folder=self.wheels, names=missing)
        expected = [Row(*pair) for pair in record["expected"].items()]
        pip = self._installer(host, kind, python, expected)
        pip.install(
            [str(row) for row in needed], Message("environment.packages_of", name=lock.parent.name), Window(0.0, 1.0)
        )
        record["extras"][lock.parent.name] = lock_hash(lock)
        write_json(layout.marker, record)

    # --- deciding ---

    def _only_lock_changed(self, record: dict) -> bool:
        """Whether the environment may be updated in place: complete, not moved, and with the torch it was built for."""
        state, _ = self.layout.judge({**record, "lock": lock_hash(self.layout.recipe.lock)} if record else {})
        same_host = not self.host_python or not record or Path(record["host"]) == self.host_python
        return state == "ready" and same_host and self.layout.has_torch(self.asked, record)

    def _host(self, record: dict) -> Path:
        """The Python to build with: the one asked for, the last one used, that of a WebUI around us, or the running
        one."""
        before = Path(record["host"]) if record else None
        here = Path(sys.executable)
        if running_inside(self.layout.tree):  # cannot be built with itself
            here = Path(getattr(sys, "_base_executable", sys.executable))
        choices = (self.host_python, before if before and before.exists() else None, neighbour_webui(), here)
        return next(path for path in choices if path)

    def _kind(self, host: Interpreter) -> str:
        if self.asked != AUTOMATIC:
            return "full"
        if host.usable_torch:
            return "overlay" if "venv" in host.modules else "target"
        if host.torch:
            self.progress(None, unusable(host))
        return "full"

    def _build(self, host: Interpreter, kind: str) -> Build:
        """Which torch it will have, and why. Raises UserError("torch") for one that does not exist here."""
        if kind != "full":
            reason = Message("environment.torch_of_host", python=host.path, version=host.torch["version"])
            return Build("host", None, reason)
        sources, offline = self._sources(host)
        if self.wheels or offline:
            build = choose(this_machine(), self.asked)
            return Build(build.name, None, Message("environment.torch_of_wheels", reason=build.reason))
        return choose(this_machine(), self.asked, sources or uv_sources())

    def _rows(self, host: Interpreter, kind: str) -> list[Row]:
        rows = read_lock(self.layout.recipe.lock, host.python)
        if kind == "full" or not host.usable_torch:
            return rows
        return over_host(for_torch(rows, host.usable_torch), host.packages, host.torch_requires)

    def _check_wheels(self, rows: list[Row], there: dict[str, str]) -> None:
        """Report all missing wheels at once, while pip would stop at the first. `there`: installed packages, which need
        none."""
        if not self.wheels:
            return
        if not self.wheels.is_dir():
            raise UserError("environment.no_wheels_folder", "environment", folder=self.wheels)
        recipe = self.layout.recipe
        needed = [row for row in rows if row.name not in recipe.optional and not row.satisfied_by(there)]
        missing = missing_wheels(needed, self.wheels)
        if missing:
            about = {"folder": self.wheels, "names": missing, "lock": recipe.lock}
            raise UserError("environment.wheels_to_download", "environment", **about)

    def _check_space(self, needed: int) -> None:
        free = free_bytes(self.layout.folder)
        if free < needed:
            about = {"needed": human_size(needed), "free": human_size(free), "folder": self.layout.folder}
            raise UserError("environment.no_space", "environment", **about)

    # --- doing ---

    def _clear(self) -> None:
        for folder in (self.layout.tree, self.layout.packages):
            if folder.exists():
                self.progress(0.0, Message("environment.removing"))
                try:
                    shutil.rmtree(folder)
                except OSError as error:
                    raise UserError("environment.not_removed", "environment", error=error) from error

    def _make(self, host: Interpreter, kind: str, keep: bool) -> tuple[str, Path]:
        """Create the virtual environment, which sees the host's packages if it is an overlay; returns (kind,
        interpreter)."""
        tree = self.layout.tree
        if kind == "target":
            self.layout.packages.mkdir(parents=True, exist_ok=True)
            return kind, host.path
        if keep:
            return kind, interpreter_of(tree)
        try:
            make_venv(host, tree, self.runner)
        except UserError:
            if kind == "full":
                raise
            return self._make(host, "target", keep)
        if kind == "overlay":
            # addsitedir, so that the host's own .pth files run; ASCII, because Python reads .pth files in the
            # system's encoding.
            lines = [f"import site; site.addsitedir({folder!a})\n" for folder in host.sites]
            write_text(site_of(tree, host.python) / "dreambooth_ext_host.pth", "".join(lines))
        return kind, interpreter_of(tree)

    def _installer(self, host: Interpreter, kind: str, python: Path, rows: list[Row]) -> Pip | Uv:
        """uv, where it is there and no configuration of pip's says where packages come from; it does not read that."""
        layout = self.layout
        write_text(layout.constraints, "".join(f"{row}\n" for row in rows))
        target = layout.packages if kind == "target" else None
        options = (self.runner, layout.constraints, self.wheels, target)

        def pip() -> Pip:
            command = pip_command(host, python, kind != "full" and "pip" in host.modules, self.runner)
            return Pip(*options, command, host.packages.get("pip", "0"))

        uv = find_uv(host.path)
        if uv and (self.wheels or not any(self._sources(host))):
            return Uv(*options, uv, python, pip)
        return pip()

    def _sources(self, host: Interpreter) -> tuple[bool, bool]:
        """As `own_sources`, of the host's pip; without pip there is no such configuration."""
        return own_sources([str(host.path), "-m", "pip"]) if "pip" in host.modules else (False, False)

    def _seen(self, kind: str, python: Path) -> dict[str, str]:
        """The packages that the environment finds installed, including the host's."""
        return probe(self.layout.starter(kind, python), "packages", own_site=True).packages

    def _install_torch(self, pip: Pip | Uv, python: Path, rows: list[Row], build: Build) -> Build | None:
        """Returns which build it has installed, the usual one where that of the CPU cannot be reached; None if torch is
        there."""
        torch = next(row for row in rows if row.name == "torch")
        if torch.satisfied_by(self._seen("full", python)):
            return None
        self.progress(None, build.reason)
        window, stage = Window(0.05, 0.6), f"torch {torch.version}"
        try:
            pip.install([build.requirement(torch.version)], stage, window, dependencies=True, index=build.index)
        except Cancelled:
            raise
        except UserError as error:
            if not build.index or error.problem.code == "environment.disk_full":
                raise
            if build.is_needed:  # the usual one would not run on this card
                about = {"name": build.name, "address": build.index, "reason": error.problem.message}
                raise UserError("environment.torch_not_reached", "environment", **about) from error
            reason = Message("environment.usual_server", address=build.index)
            self.progress(None, reason)
            pip.install([str(torch)], stage, window, dependencies=True)
            return Build(usual(this_machine(), build.name) or build.name, None, reason)
        return build

    def _install(self, pip: Pip | Uv, rows: list[Row], seen: dict[str, str]) -> None:
        """Install the missing rows: the required ones together, then each optional one separately."""
        optional = self.layout.recipe.optional
        needed = [row for row in rows if row.name != "torch" and not row.satisfied_by(seen)]
        required = [str(row) for row in needed if row.name not in optional]
        pip.install(required, Message("environment.packages"), Window(0.6, 0.85))
        for row in needed:
            if row.name in optional:
                try:
                    pip.install([str(row)], Message("environment.optional", name=row.name), Window(0.85, 0.9))
                except UserError as error:
                    self.install_errors[row.name] = error.problem.message
                    self.progress(None, Message("environment.without", reason=error.problem.message))

    def _prove(self, host: Interpreter, kind: str, python: Path, rows: list[Row], torch: dict[str, Any]) -> None:
        """Check that everything works, then write the marker. `torch`: which build of it this is, and why."""
        layout = self.layout
        self.progress(0.9, Message("environment.checking"))
        record = {
            "kind": kind,
            "folder": str(layout.folder),
            "host": str(host.path),
            "python": str(python),
            "python_version": ".".join(map(str, host.version)),
            "real_python": os.path.realpath(python),
            "lock": lock_hash(layout.recipe.lock),
            "expected": {row.name: row.version for row in rows},
            "extras": {},
            "torch_build": torch,
            "built": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        found = probe(layout.starter(kind, python), "imports", proof.names_to_import(layout.recipe), own_site=True)
        faults = proof.faults(layout, found, rows, kind)
        if faults:
            raise UserError("environment.not_working", "environment", faults=faults, log=layout.log)
        record["base_python"] = str(found.base)
        record |= proof.findings(layout.recipe, found, {row.name for row in rows}, self.install_errors)
        record["torch_stamp"] = torch_stamp(found.torch["folder"])
        assert record.keys() >= MARKER_KEYS
        write_json(layout.marker, record)
        self.progress(1.0, Message("environment.ready"))
