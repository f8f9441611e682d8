"""Generates parts of the documentation: `python -m dreambooth_ext.commands.reference` writes them.

The settings come from the one list in `run_config.py`, the map of files from the first paragraph of each docstring.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from ..core.config.run_config import FILLED_IN, SETTINGS
from ..core.facts.methods import METHOD_LABELS
from ..core.facts.setting import Setting

PACKAGE = Path(__file__).resolve().parents[1]
REPOSITORY = PACKAGE.parent
BEGIN = "<!-- {name}: made by `python -m dreambooth_ext.commands.reference` -->"
END = "<!-- end of {name} -->"


def settings_table() -> str:
    """Markdown with a heading and a table for each group of settings."""
    groups: dict[str, list[Setting]] = {}
    for known in SETTINGS.values():
        groups.setdefault(known.group, []).append(known)
    return "\n\n".join(f"## {group}\n\n" + _table(members) for group, members in groups.items())


def _table(members: list[Setting]) -> str:
    rows = ["| setting | default | what it does |", "| --- | --- | --- |"]
    rows += [f"| `{known.name}` | {_default(known)} | {_about(known)} |" for known in members]
    return "\n".join(rows)


def _default(known: Setting) -> str:
    if known.default is None:
        return "filled in" if known.name in FILLED_IN else "off"
    if known.default in ("", [], {}):
        return ""
    return f"`{str(known.default).lower() if known.kind == 'bool' else known.default}`"


def _about(known: Setting) -> str:
    about = known.help
    if known.choices:
        about += " One of " + ", ".join(f"`{choice}`" for choice in known.choices) + "."
    elif known.range:
        about += f" {known.range}."
    others = [method for method in METHOD_LABELS if method not in known.methods]
    if others and len(others) < len(known.methods):
        about += f" Not for {', '.join(others)}."
    elif others:
        about += f" Only for {', '.join(known.methods)}."
    return about.replace("|", "\\|")


def file_map() -> str:
    """Markdown with a heading and a table for each folder, with the first paragraph of each file's docstring."""
    parts = []
    for folder in sorted({path.parent for path in PACKAGE.rglob("*.py")}):
        rows = ["| file | |", "| --- | --- |"]
        for path in sorted(folder.glob("*.py")):
            if about := _first_sentence(path):
                rows.append(f"| `{path.relative_to(REPOSITORY).as_posix()}` | {about} |")
        if len(rows) > 2:
            parts.append(f"### `{folder.relative_to(REPOSITORY).as_posix()}/`\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _first_sentence(path: Path) -> str:
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return about.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


PAGES: dict[str, tuple[Path, Callable[[], str]]] = {  # what is made, where it stands, and by which function
    "settings": (REPOSITORY / "docs" / "settings.md", settings_table),
    "map": (REPOSITORY / "docs" / "architecture.md", file_map),
}


def updated() -> Iterator[tuple[Path, str]]:
    """Each page with a generated part, and its text with that part regenerated."""
    for name, (page, made) in PAGES.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        head, mark, rest = page.read_text(encoding="utf-8").partition(begin)
        _, other_mark, tail = rest.partition(end)
        assert mark and other_mark, f"{page} has lost the lines between which '{name}' stands"
        yield page, f"{head}{begin}\n\n{made()}\n\n{end}{tail}"


if __name__ == "__main__":
    for page, text in updated():
        page.write_text(text, encoding="utf-8")
