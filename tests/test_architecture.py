"""The import rule: host -> core <- engine; host and core need nothing but Python, the engine never sees a host.

And the house: a room is a folder of the package; imports between rooms run one way and stand in room_imports.txt.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dreambooth_ext"
BARE = ("core", "host", "commands")  # what runs with nothing installed but Python
# What only a host has, and the files that live in one. PIL comes with the WebUI, too.
HOSTS_OWN = {
    "host/webui/webui_forks.py": {"modules"},
    "host/webui/model_offload.py": {"modules", "fastapi", "gradio"},
    "host/webui/extension.py": {"modules", "gradio"},
    "host/webui/tab.py": {"gradio"},
    "host/web/routes.py": {"starlette"},
    "host/web/endpoint.py": {"starlette", "anyio"},
    "host/web/auth.py": {"starlette", "anyio"},
    "host/web/server.py": {"starlette", "uvicorn"},
    "host/webui/interrogation.py": {"modules", "PIL"},
    "host/pictures/image_decoding.py": {"PIL"},
    "host/web/responses.py": {"starlette"},
    "host/web/caption_routes.py": {"starlette"},
    "host/web/model_routes.py": {"starlette"},
    "host/web/picture_routes.py": {"starlette"},
    "host/web/run_routes.py": {"starlette"},
    "host/web/small_pictures.py": {"starlette"},
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


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "dreambooth_ext"


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


DIFFUSERS = "engine/runtime/diffusers_models.py"
HEAVY = re.compile(r"diffusers\.((AutoencoderKL|UNet\w+|\w*Pipeline)$|(models|training_utils|loaders|pipelines)\b)")


@pytest.mark.parametrize("file", [file for file in FILES if wing(file) not in BARE and file != DIFFUSERS])
def test_diffusers_models_come_from_where_their_import_is_quick(file):
    for module in imports(file):
        assert not HEAVY.match(module), f"{file} imports {module}: take it from {DIFFUSERS}, which is quick"


# --- The house

ROOM_IMPORTS = Path(__file__).with_name("room_imports.txt")
MOST_FILES = 15  # of a room, that a newcomer can still look over


def file_of(module: str) -> str | None:
    """The file that an absolute name of `imports` means: a module, or the one that has it as a name."""
    path = module.replace(".", "/").removeprefix("dreambooth_ext").lstrip("/")
    parent = path.rpartition("/")[0]
    names = (f"{path}.py", f"{path}/__init__.py".lstrip("/"), f"{parent}.py", f"{parent}/__init__.py".lstrip("/"))
    found = next((name for name in names if name in FILES), None)
    if found == names[3] != names[1]:  # a name in a package itself, or in no place at all
        words = re.findall(r"\w+", (PACKAGE / found).read_text(encoding="utf-8"))
        return found if path.rpartition("/")[2] in words else None
    return found


def module_graph() -> dict[str, set[str]]:
    """Each file of the package with those of its files that it imports, anywhere in it."""
    graph = {}
    for file in FILES:
        named = {file_of(module) for module in imports(file) if is_ours(module)}
        graph[file] = {target for target in named if target and target != file}
    return graph


def room(file: str) -> str:
    return file.rpartition("/")[0] or "."


def room_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for file, targets in module_graph().items():
        graph.setdefault(room(file), set()).update(room(target) for target in targets if room(target) != room(file))
    return graph


def circles(graph: Mapping[str, set[str]]) -> set[tuple[str, ...]]:
    """The groups of names from each of which one comes to every other and back."""

    def reached(start: str) -> set[str]:
        found, left = set(), [start]
        while left:
            new = graph.get(left.pop(), set()) - found
            found |= new
            left += new
        return found

    ahead = {name: reached(name) for name in graph}
    around = (sorted(other for other in ahead[name] if name in ahead.get(other, ())) for name in graph)
    return {tuple(names) for names in around if names}


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == set()
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == {("b", "c"), ("d",)}


@pytest.mark.parametrize("file", FILES)
def test_what_a_file_imports_is_there(file):
    """A module that has moved is noticed here, before whatever would run it."""
    assert [module for module in imports(file) if is_ours(module) and file_of(module) is None] == []


def test_a_module_that_has_moved_is_noticed():
    assert file_of("dreambooth_ext.core.errors.UserError") == file_of("dreambooth_ext.core.errors") == "core/errors.py"
    assert file_of("dreambooth_ext") == "__init__.py"
    assert file_of("dreambooth_ext.engine.methods.METHODS") == "engine/methods/__init__.py"
    assert file_of("dreambooth_ext.core.mistakes.UserError") is file_of("dreambooth_ext.core.mistakes") is None


def test_imports_of_modules_are_found():
    graph = module_graph()
    assert "core/runs/run_folder.py" in graph["engine/worker.py"]  # by its own name
    assert "core/system/files.py" in graph["core/runs/run_folder.py"]  # by a name in it
    assert "commands/train.py" in graph["__main__.py"]
    assert len(graph) == len(FILES) and sum(map(len, graph.values())) > len(FILES)


def test_no_module_comes_back_to_itself():
    """A circle is usually one function in the wrong file."""
    assert circles(module_graph()) == set()


def test_no_room_comes_back_to_itself():
    assert circles(room_graph()) == set()


def test_no_room_is_crowded():
    sources = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".js") and path.name != "__init__.py"]
    crowded = {room: count for room, count in Counter(path.parent for path in sources).items() if count > MOST_FILES}
    assert not crowded, "Begin another room: what is new gets one before it gets a second file in another's."


def test_every_import_between_rooms_is_listed():
    now = {f"{room} -> {target}" for room, targets in room_graph().items() for target in targets}
    listed = set(ROOM_IMPORTS.read_text(encoding="utf-8").split("\n")) - {""}
    grown, gone = sorted(now - listed), sorted(listed - now)
    assert not grown and not gone, "\n".join([
        "Rooms that import others have changed.",
        *(f"New: {line}" for line in grown),
        *(f"Gone: {line}" for line in gone),
        f"Is each new one wanted? Then add its line to tests/{ROOM_IMPORTS.name}, and delete those that are gone.",
    ])  # fmt: skip


# --- Files that can run

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
