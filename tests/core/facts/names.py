"""Where the package asks for a name, instead of a fact: in texts, comparisons and look-ups."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "dreambooth_ext"


def questions(source: str, names: Collection[str], setting: str) -> list[int]:
    """The lines that hold one of the names, or look into a config's `setting`, which holds one."""

    def is_name(node: ast.AST) -> bool:
        return ast.unparse(node).endswith(f"config.{setting}")

    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in names:
            found.append(node.lineno)
        asked = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if any(map(is_name, asked)) and any(isinstance(other, ast.Constant) for other in asked):
            found.append(node.lineno)  # "8bit" in config.optimizer
        if isinstance(node, ast.Attribute) and is_name(node.value):
            found.append(node.lineno)  # config.optimizer.startswith("paged")
    return found


def outside(table: str, names: Collection[str], setting: str) -> dict[str, list[int]]:
    """{file of the package: lines} of all such questions but those of the table itself."""
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert len(files) > 200 and files.pop(table)
    known = {file: questions(path.read_text(encoding="utf-8"), names, setting) for file, path in files.items()}
    return {file: lines for file, lines in known.items() if lines}


def places(change: str) -> list[str]:
    """The files that docs/architecture.md lists for a usual change, "an optimizer" say."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {change} |"))
    return re.findall(r"`([\w.]+/[\w./]+)`", row.split("|")[2])
