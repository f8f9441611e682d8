"""The Pythons with gradio that the stand-in runs in: made once for each lock and Python, kept in outputs/."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dreambooth_ext.core.system import files
from dreambooth_ext.host.environment.interpreter import clean_variables

HERE = Path(__file__).parent
CACHE = Path(__file__).parents[3] / "outputs" / "standin"
UV = "uv==0.13.9"
# The locks, and the Pythons for which their versions have builds.
PYTHONS = {"3": ((3, 10), (3, 11)), "3.43": ((3, 10), (3, 11)), "4": ((3, 10), (3, 11)), "4-neo": ((3, 13),)}


class NoPython(RuntimeError):
    """There is no Python for the locks here; tests are skipped."""


def python(gradio: int | str, version: tuple[int, int] | None = None) -> Path:
    """The interpreter that has one of the locks, perhaps of one version of Python; it takes half a minute once.

    Waits while another process makes it. Raises NoPython where no such Python is on the machine.
    """
    lock = HERE / f"gradio{gradio}.lock"
    base = base_python((version,) if version else PYTHONS[str(gradio)])
    stamp = hashlib.sha256(lock.read_bytes() + os.fsencode(base)).hexdigest()[:12]
    tree = CACHE / f"gradio{gradio}-{stamp}"
    interpreter = tree / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    with files.locked(CACHE / f"{tree.name}.lock"):
        if not (tree / "ready").exists():
            make(tree, base, interpreter, lock)
            run([str(interpreter), "-c", "import gradio"], PYTHONDONTWRITEBYTECODE="")  # compiled once for all starts
            (tree / "ready").write_text(base, encoding="utf-8")
    return interpreter


def make(tree: Path, base: str, interpreter: Path, lock: Path) -> None:
    """By uv in two seconds; where uv cannot be had or does not reach the packages, by pip in forty."""
    try:
        uv = str(uv_program(base))
        run([uv, "venv", "--quiet", "--clear", "--python", base, str(tree)])
        run([uv, "pip", "install", "--quiet", "--python", str(interpreter), "--no-deps", "--requirement", str(lock)])
    except (RuntimeError, OSError):
        shutil.rmtree(tree, ignore_errors=True)
        run([base, "-m", "venv", str(tree)])
        run([str(interpreter), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(lock)])


def uv_program(base: str) -> Path:
    """uv in an environment of its own, where none that is tested finds it."""
    folder = CACHE / UV.replace("==", "-")
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    with files.locked(CACHE / f"{folder.name}.lock"):
        if not (folder / "ready").exists():
            run([base, "-m", "venv", "--clear", str(folder)])
            run([str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-deps", UV])
            (folder / "ready").touch()
    return programs / "uv"


def base_python(versions: tuple[tuple[int, int], ...]) -> str:
    if sys.version_info[:2] in versions:
        return os.path.realpath(sys.executable)
    named = [f"{major}.{minor}" for major, minor in versions]
    found = next((path for version in named if (path := on_machine(version))), None)
    if not found:
        raise NoPython(f"This stand-in of the WebUI needs Python {' or '.join(named)}, which is not on the PATH.")
    return found


@functools.cache
def on_machine(version: str) -> str | None:
    """Asked of the program itself: pyenv has a name on the PATH for every version, which works for the chosen one."""
    for command in ([f"python{version}"], ["py", f"-{version}"]):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            ask = [*command, "-c", "import os, sys; print(os.path.realpath(sys.executable))"]
            done = subprocess.run(ask, env=clean_variables(PYENV_VERSION=version), capture_output=True, text=True)
            if not done.returncode:
                return done.stdout.strip()
    return None


def run(command: list[str], **variables: str) -> None:
    done = subprocess.run(command, env=clean_variables(**variables), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
