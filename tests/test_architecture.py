"""The import rule: host -> core <- engine; host and core need nothing but Python, the engine never sees a host."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dreambooth_ext"
BARE = ("core", "host", "commands")  # what runs with nothing installed but Python
# What only a host has, and the files that live in one. PIL comes with the WebUI, too.
HOSTS_OWN = {
    "host/webui/webui_host.py": {"modules"},
    "host/webui/model_offload.py": {"modules", "fastapi", "gradio"},
    "host/webui/extension.py": {"modules", "gradio"},
    "host/webui/tab.py": {"gradio"},
    "host/web/routes.py": {"starlette", "anyio"},
    "host/web/auth.py": {"starlette", "anyio"},
    "host/web/server.py": {"starlette", "uvicorn"},
    "host/web/image_decoding.py": {"PIL"},
    "host/web/responses.py": {"starlette"},
}
HOSTS_ONLY = {"gradio", "fastapi", "starlette", "modules", "modules_forge"}
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imports(file: str) -> Iterator[str]:
    """Every module that `file` imports, anywhere in it, by its absolute name."""
    package = ["dreambooth_ext", *file.split("/")[:-1]]
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"), file, feature_version=(3, 10))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            yield from (f"{base}.{name.name}" for name in node.names)


def wing(file: str) -> str:
    """The command line is a wing by itself, the door to both: it builds the environment and starts the engine in it."""
    if file == "__main__.py":
        return "commands"
    return file.split("/")[0] if "/" in file else "core"


def enters(module: str, name: str) -> bool:
    return (module + ".").startswith(f"dreambooth_ext.{name}.")


@pytest.mark.parametrize("file", [file for file in FILES if wing(file) in BARE])
def test_host_core_and_commands_need_nothing_but_python(file):
    for module in imports(file):
        root = module.split(".")[0]
        known = root == "dreambooth_ext" or root in sys.stdlib_module_names or root in HOSTS_OWN.get(file, ())
        assert known, f"{file} imports {module}"
        assert not enters(module, "engine"), f"{file} imports {module}"
        if wing(file) == "core":
            assert not enters(module, "host"), f"{file} imports {module}"


@pytest.mark.parametrize("file", [file for file in FILES if wing(file) not in BARE])
def test_the_engine_sees_no_host(file):
    for module in imports(file):
        assert module.split(".")[0] not in HOSTS_ONLY, f"{file} imports {module}"
        assert not enters(module, "host"), f"{file} imports {module}"


# What runs whatever a file says, and where it stands all the same: our own reading and writing of PyTorch's files
RUNS_FILES = {"torch.load", "torch.jit", "torch.hub", "torch.package", "pickle.load", "pickle.loads", "Unpickler"}
RUNS_FILES |= {"marshal.load", "marshal.loads", "shelve.open", "yaml.load", "yaml.unsafe_load", "dill", "joblib"}
RUNS_FILES |= {"numpy.load", "np.load", "read_pickle"}
NAMED_SHORT = ("torch", "pickle", "marshal", "yaml", "shelve")
OUR_PICKLES = ("engine/tensors/unpickler.py", "engine/tensors/torch_pickle.py", "engine/training/training_state.py")


def named(tree: ast.AST) -> Iterator[str]:
    """Every dotted name in a file, and each imported one by its full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):  # under another name they could load anything
            yield from (f"{alias.name}.load" for alias in node.names if alias.asname and alias.name in NAMED_SHORT)


def dangers(source: str) -> set[str]:
    found = set()
    for name in named(ast.parse(source)):
        for danger in RUNS_FILES:
            parts = danger.split(".")
            known = name.split(".")[: len(parts)] if len(parts) > 1 else name.split(".")
            if known == parts or danger in known:
                found.add(danger)
    return found


@pytest.mark.parametrize("file", FILES)
def test_nothing_loads_files_that_can_run(file):
    allowed = {"Unpickler", "read_pickle"} if file in OUR_PICKLES else set()
    assert dangers((PACKAGE / file).read_text(encoding="utf-8")) <= allowed


def test_every_way_to_load_files_that_can_run_is_noticed():
    for source in ("torch.load(x)", "from torch import load", "torch.jit.load(x)", "import torch as t"):
        assert dangers(source), source
    for source in ("pickle.loads(x)", "from pickle import loads", "pickle.Unpickler(x)", "np.load(x)", "yaml.load(x)"):
        assert dangers(source), source
    assert not dangers("from safetensors.torch import load_file\nimport json\njson.load(x)")


def is_raw(node: ast.AST) -> bool:
    """Whether a line prints what is neither JSON nor without names."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    if called.startswith("traceback.print_"):
        return True
    return called == "print" and not all(ast.unparse(given).startswith("json.dumps(") for given in node.args)


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("demo/")])
def test_people_are_told_by_the_terminal_s_module(file):
    """It writes out what a stranger's file name would have a terminal do."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    assert [node.lineno for node in ast.walk(tree) if is_raw(node)] == []
