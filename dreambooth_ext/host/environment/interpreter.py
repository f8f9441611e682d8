"""Examines other Python interpreters, and makes the environment variables to start them with."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import UserError
from .lock_file import SUPPORTED_PYTHON, SUPPORTED_TORCH, version_tuple

PROBE = Path(__file__).with_name("probe.py")
REPOSITORY = Path(__file__).parents[3]

# What a calling virtual environment or a WebUI leaves behind that would lead the child to foreign packages, and what
# changes how Python works: transformers needs its docstrings, libraries warn, and nobody sits before the child.
_LEAKS = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
_LEAKS |= {"PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONINSPECT", "PYTHONDEVMODE", "PYTHONVERBOSE"}
# What launchers tell the processes of one training: left in a shell or container, one would wait for others for ever.
_LEAKS |= {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK"}
_LEAKS |= {"ROLE_RANK", "ROLE_NAME", "ROLE_WORLD_SIZE"}
_LAUNCHERS = ("MASTER_", "ACCELERATE_", "TORCHELASTIC_", "FSDP_", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")


def clean_variables(**changes: str) -> dict[str, str]:
    """This process's environment variables for one child Python that sees only its own packages."""
    leaks = {name for name in os.environ if name.upper() in _LEAKS or name.upper().startswith(_LAUNCHERS)}
    kept = {name: value for name, value in os.environ.items() if name not in leaks}
    return {**kept, "PYTHONUTF8": "1", **changes}


@dataclass(frozen=True)
class Interpreter:
    """What `probe.py` found. `packages` maps normalised names to versions."""

    path: Path
    base: Path  # what a virtual environment was made from; itself for others
    version: tuple[int, int, int]
    prefix: str
    sites: list[str]
    modules: list[str]
    packages: dict[str, str]
    places: dict[str, str]  # of the packages' metadata: the folder's name holds the version
    torch: dict[str, str]  # version, folder, device; or error; empty without torch
    torch_requires: list[str]
    imports: dict[str, str]

    @property
    def python(self) -> tuple[int, int]:
        return self.version[:2]

    @property
    def usable_torch(self) -> str | None:
        """The version of its torch if the trainer can run on it."""
        version = self.torch.get("version")
        low, high = SUPPORTED_TORCH
        return version if version and low <= version_tuple(version) <= high else None


def probe(command: list[str], what: str = "facts", names: tuple[str, ...] = (), own_site: bool = False) -> Interpreter:
    """Run probe.py with `command` (an interpreter and its first arguments).

    `own_site` excludes the user's site folder, as for the trainer's own environment. Raises UserError("environment") if
    it does not run.
    """
    variables = clean_variables(PYTHONNOUSERSITE="1") if own_site else clean_variables()
    try:
        done = subprocess.run(
            [*command, str(PROBE), what, *names],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError) as error:
        detail = str(error) if isinstance(error, OSError) else done.stderr.strip()[-500:]
        raise UserError("environment.python_broken", "environment", python=command[0], error=detail) from error
    keys = ("prefix", "sites", "modules", "packages", "places", "torch", "torch_requires")
    known = {key: answer[key] for key in keys}
    return Interpreter(
        path=Path(command[0]),
        base=Path(answer["base"]),
        version=tuple(answer["version"]),
        imports=answer.get("imports", {}),
        **known,
    )


def check_python(interpreter: Interpreter) -> None:
    """Raise UserError if the trainer's packages have no builds for this Python."""
    low, high = SUPPORTED_PYTHON
    if not low <= interpreter.python <= high:
        about = {"version": ".".join(map(str, interpreter.version)), "python": interpreter.path}
        if interpreter.python < low:
            raise UserError("environment.python_too_old", "environment", **about)
        raise UserError("environment.python_too_new", "environment", **about)


# Where a WebUI has its Python, from its own folder: of its launcher (and Stability Matrix's), of Pinokio, of uv, and
# embedded ones of portable archives, inside or beside it.
WEBUI_PYTHONS = (
    *(f"{name}/{program}" for name in ("venv", "env", ".venv") for program in ("Scripts/python.exe", "bin/python")),
    *(f"{up}{name}/python.exe" for up in ("", "../") for name in ("system/python", "python", "python_embeded")),
)


def neighbour_webui(repository: Path = REPOSITORY) -> Path | None:
    """The Python of the WebUI whose extensions folder holds this repository, so that its torch can be used."""
    if repository.parent.name != "extensions":
        return None
    root = repository.parent.parent
    found = next((path for place in WEBUI_PYTHONS if (path := root / place).exists()), None)
    return Path(os.path.abspath(found)) if found else None


def torch_stamp(folder: str) -> str:
    """A stamp of one build of torch, without importing it: version, git hash and CUDA are in version.py."""
    try:
        return hashlib.sha256((Path(folder) / "version.py").read_bytes()).hexdigest()[:16]
    except OSError:
        return ""
