"""install.py as the WebUI's launcher runs it: quick when nothing is to do, and never in the way of the start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreambooth_ext.core.system import files
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.interpreter import clean_variables
from dreambooth_ext.host.environment.layout import MARKER_KEYS
from dreambooth_ext.host.environment.lock_file import lock_hash
from tests.host.standin import running

QUICK = 0.3  # seconds


@pytest.fixture
def folder(tmp_path) -> Path:
    """The extension, copied as git would."""
    return running.install_extension(tmp_path / "extensions", "Моя папка (1)", link=False)


def install(folder: Path, **variables: str) -> str:
    """What it prints. Started as the launcher does: through a shell, elsewhere, with the WebUI's folder on the path."""
    given = clean_variables(PYTHONPATH=str(folder.parent), **{"DREAMBOOTH_EXT_ENVIRONMENT": "", **variables})
    bare = getattr(sys, "_base_executable", sys.executable)  # without the packages of the tests' own environment
    command = f'"{bare}" "{folder / "install.py"}"'
    done = subprocess.run(
        command, shell=True, cwd=folder.parent, env=given, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def pretend_ready(folder: Path) -> Environment:
    """An environment that looks whole from outside, which is all that a start looks at."""
    environment = Environment(folder / "environment")
    real = os.path.realpath(sys.executable)
    known = {
        "folder": str(environment.folder),
        "python": sys.executable,
        "real_python": real,
        "base_python": real,
        "torch": {"version": "2.1.2", "folder": "", "device": "CPU only"},
        "torch_stamp": "",
        "lock": lock_hash(environment.recipe.lock),
    }
    files.write_json(environment.marker, {**{key: {} for key in MARKER_KEYS}, **known})
    return environment


def test_it_is_quick_and_silent_when_nothing_is_to_do(folder):
    assert pretend_ready(folder).status().state == "ready"
    spent = []
    for _ in range(3):
        before = spent_by_children()
        assert install(folder) == ""
        spent.append(spent_by_children() - before)
    assert min(spent) < QUICK, spent


def spent_by_children() -> float:
    """Processor time, for other tests may have the processor; where the system does not tell it, the clock's."""
    times = os.times()
    return times.children_user + times.children_system or time.monotonic()


def test_a_failure_is_told_and_kept_for_the_tab(folder, tmp_path):
    wheels = tmp_path / "wheels of nothing"
    wheels.mkdir()
    said = install(folder, DREAMBOOTH_EXT_WHEELS=str(wheels))
    assert "could not be set up" in said and "The WebUI works without it" in said and "Traceback" not in said
    status = Environment(folder / "environment").status()
    assert status.state == "missing" and f"missing in {wheels}" in status.reason and "pip download" in status.reason


def test_a_folder_of_wheels_in_the_extension_is_used(folder):
    (folder / "wheels").mkdir()
    assert f"missing in {folder / 'wheels'}" in install(folder)


def test_a_success_forgets_the_failure(folder):
    environment = pretend_ready(folder)
    files.write_json(environment.failure, {"message": "no network"})
    assert environment.status().reason == ""
    environment.marker.unlink()
    assert "no network" in environment.status().reason
    environment.failure.write_text("[", encoding="utf-8")
    assert environment.status().state == "missing"


def test_the_start_does_not_wait_for_another_set_up(folder):
    with files.locked(folder / "environment" / "build.lock"):
        assert "another process" in install(folder)


def test_whatever_is_wrong_the_start_goes_on(folder, tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    assert "The WebUI works without it" in install(folder, DREAMBOOTH_EXT_ENVIRONMENT=str(tmp_path / "file" / "there"))
    (folder / "dreambooth_ext" / "core" / "system" / "files.py").write_text("def (", encoding="utf-8")
    assert "The WebUI works without it" in install(folder)


def test_options_of_a_file_survive_anything_in_it(tmp_path):
    from dreambooth_ext.host.hosts.options import OPTIONS, FileOptions

    options = FileOptions(tmp_path / "options.json")
    defaults = {option.name: option.default for option in OPTIONS}
    assert options.values() == defaults
    options.path.write_text(json.dumps({"select": "sometimes", "publish": 1, "on_close": "stop"}), encoding="utf-8")
    assert options.values() == {**defaults, "on_close": "stop"}
    options.set("select", "never")
    assert options.values() == {**defaults, "on_close": "stop", "select": "never"}
    options.path.write_text("{", encoding="utf-8")
    assert options.values() == defaults
