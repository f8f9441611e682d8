"""The rooms of pictures and of the doctor start at once: they never load PyTorch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import dreambooth_ext
from dreambooth_ext.engine.pictures import worker

REPOSITORY = Path(dreambooth_ext.__file__).parents[1]
ROOM = Path(worker.__file__).parent
DOCTOR = ROOM.with_name("doctor")


def loaded_by(*modules: str) -> set[str]:
    """The modules that a fresh Python has loaded after importing these."""
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sorted(sys.modules))"
    command = [sys.executable, "-c", code, *modules]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_nothing_in_the_room_loads_pytorch():
    modules = [f"{worker.__package__}.{path.stem}" for path in ROOM.glob("*.py")]
    modules += [f"dreambooth_ext.engine.doctor.{path.stem}" for path in DOCTOR.glob("*.py")]
    loaded = loaded_by("dreambooth_ext.engine.__main__", *modules)
    assert {name for name in modules if not name.endswith("__init__")} <= loaded
    assert not {"torch", "diffusers", "transformers", "accelerate", "onnxruntime"} & loaded


def test_nor_does_a_function_in_it_later():
    for path in (*ROOM.glob("*.py"), *DOCTOR.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not [name for name in names if name.split(".")[0] in ("torch", "diffusers")], path.name


def test_each_task_is_there():
    for module, function in worker.TASKS.values():
        path = ROOM.parent.joinpath(*module.lstrip(".").split(".")) if module.startswith(".") else ROOM / module
        tree = ast.parse(path.with_suffix(".py").read_text(encoding="utf-8"))
        assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], (module, function)
