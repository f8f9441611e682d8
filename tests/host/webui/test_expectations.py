"""What we ask of the WebUI's modules stands in one table; each stand-in has it, and the real WebUI of $WEBUI_DIR."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from dreambooth_ext.host.webui import expectations
from tests.host.standin import asking, running
from tests.host.standin.asking import Client
from tests.host.webui.test_webui_forks import KINDS
from tests.webui.server import webui_folder

OURS = Path(running.REPOSITORY, "dreambooth_ext", "host", "webui")
LOOK = """
def has(name):
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        found = sys.modules.get(".".join(parts[:count]))
        if found is not None:
            for part in parts[count:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False
"""


def asked_of_modules(path: Path) -> set[str]:
    """`modules.x.y` for every `x.y` in a file of ours that has imported x from the WebUI's `modules`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "modules" and not node.level:
            imported |= {alias.asname or alias.name: f"modules.{alias.name}" for alias in node.names}
    found = {
        f"{imported[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
    }
    text = path.read_text(encoding="utf-8")
    return found | set(re.findall(r'sys\.modules(?:\.get\(|\[)"([\w.]+)"', text))


def options_asked(path: Path) -> set[str]:
    return set(re.findall(r'\bflag\("(\w+)"\)', path.read_text(encoding="utf-8")))


def test_the_table_has_all_that_we_ask_for():
    listed = {*expectations.needed(), *expectations.ASKED, *(name for row in expectations.ONE_OF for name in row)}
    for path in OURS.glob("*.py"):
        for name in asked_of_modules(path) - {"modules.shared.sd_model"}:
            assert any(f"{known}.".startswith(f"{name}.") for known in listed), f"{path.name} asks for {name}"
        options = {*expectations.OPTIONS_NEEDED.split(), *expectations.OPTIONS_ASKED}
        assert options_asked(path) <= options


@pytest.mark.parametrize("like", KINDS)
def test_every_stand_in_has_it(tmp_path, like):
    asking.prepare(tmp_path)
    running.add_checkpoint(tmp_path, "one.safetensors", b"first")
    with running.running(tmp_path, gradio=KINDS[like], options=["--api", "--like", like]) as standin:
        client = Client(standin.address, tmp_path)
        client.draw()
        client.run(f"exec({LOOK!r}, globals())")
        if like in ("forge", "neo"):  # the modules of a text encoder are not there, only what they make
            assert client.run("len(__import__('dreambooth_ext.host.webui.webui_forks').host.webui.webui_forks"
                              ".embeddings_of(sd_models.model_data.sd_model))")  # fmt: skip
        names = [*expectations.needed(), *(name for row in expectations.ONE_OF for name in row)]
        there = client.run(f"[name for name in {names!r} if has(name)]")
        options = client.run("sorted(vars(shared.cmd_opts))")
    engines = {expectations.ONE_OF[-1][-1]} if like in ("forge", "neo") else set()
    assert expectations.missing({*there, *engines}.__contains__, options.__contains__) == []


# --- a real one, by its source


@functools.cache
def parsed(path: Path) -> dict[str, ast.AST]:
    """What a file, or a class, names at its top level, also in branches."""
    return named(ast.parse(path.read_text(encoding="utf-8")).body)


def named(body: list[ast.stmt]) -> dict[str, ast.AST]:
    found: dict[str, ast.AST] = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.partition(".")[0]: node for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        found[name.id] = node
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.For)):
            parts = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
            parts += [handler.body for handler in getattr(node, "handlers", [])]
            for part in parts:
                found |= named(part)
    return found


def members(node: ast.ClassDef) -> set[str]:
    """Of a class: what it names, and what its methods put into `self`."""
    own = {
        target.attr
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
    }
    return own | set(named(node.body))


class Source:
    """A WebUI's folder, asked as a running one would be."""

    def __init__(self, root: Path):
        self.root = root

    def file(self, module: str) -> Path | None:
        place = Path(*module.split("."))
        starts = [self.root, *self.root.glob("extensions-builtin/*"), *self.root.glob("repositories/*")]
        starts += [self.root / "modules_forge" / "packages"]
        candidates = [start / place.with_suffix(".py") for start in starts]
        return next((path for path in candidates if path.is_file()), None)

    def has(self, name: str) -> bool:
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            path = self.file(".".join(parts[:count]))
            if path:
                return self.inside(path, parts[count:])
        return False

    def inside(self, path: Path, parts: list[str]) -> bool:
        if not parts:
            return True
        node = parsed(path).get(parts[0])
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Call) and parts[1:]:
            kind = node.value.func
            node = parsed(path).get(kind.id) if isinstance(kind, ast.Name) else None
        if len(parts) == 1 or not isinstance(node, ast.ClassDef):
            return node is not None and len(parts) == 1
        return parts[1] in members(node)

    def has_option(self, name: str) -> bool:
        texts = [path.read_text(encoding="utf-8") for path in self.root.glob("modules/*cmd*.py")]
        return any(f'"--{name.replace("_", "-")}"' in text or re.search(rf"\.{name} =", text) for text in texts)


@pytest.mark.skipif(webui_folder() is None, reason="$WEBUI_DIR names no WebUI")
def test_a_real_webui_has_it():
    source = Source(webui_folder())
    assert expectations.missing(source.has, source.has_option) == []
    for name, without in expectations.ASKED.items():
        if not source.has(name):
            print(f"{name}: {without}")
