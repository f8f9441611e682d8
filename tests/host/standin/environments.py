"""The Pythons with gradio that the stand-in runs in: made once for each lock and Python, kept in outputs/."""

from __future__ import annotations

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
PYTHONS = ((3, 10), (3, 11))  # for which the locks' versions have builds


class NoPython(RuntimeError):
    """There is no Python for the locks here; tests are skipped."""


def python(gradio: int) -> Path:
    """The interpreter that has gradio 3 or 4. Waits while another process makes it; takes half a minute once."""
    lock = HERE / f"gradio{gradio}.lock"
    base = base_python()
    stamp = hashlib.sha256(lock.read_bytes() + os.fsencode(base)).hexdigest()[:12]
    tree = CACHE / f"gradio{gradio}-{stamp}"
    interpreter = tree / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    with files.locked(CACHE / f"{tree.name}.lock"):
        if not (tree / "ready").exists():
            shutil.rmtree(tree, ignore_errors=True)
            run([base, "-m", "venv", str(tree)])
            run([str(interpreter), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(lock)])
            run([str(interpreter), "-c", "import gradio"])
            (tree / "ready").write_text(base, encoding="utf-8")
    return interpreter


def base_python() -> str:
    if sys.version_info[:2] in PYTHONS:
        return os.path.realpath(sys.executable)
    names = [f"python{major}.{minor}" for major, minor in PYTHONS]
    found = next((path for name in names if (path := shutil.which(name))), None)
    if not found:
        raise NoPython("The stand-in of the WebUI needs Python 3.10 or 3.11; neither is on the PATH.")
    return found


def run(command: list[str]) -> None:
    done = subprocess.run(command, env=clean_variables(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
