"""The README's settings and map, made from `config.py` and the docstrings: `python -m dreambooth_ext.reference`."""

from __future__ import annotations

import ast
from pathlib import Path

from .config import SETTINGS
from .settings.methods import METHODS
from .settings.setting import Setting

PACKAGE = Path(__file__).resolve().parent
README = PACKAGE.parent / "README.md"
MARKS = {  # made by us, between these lines of the README
    "settings": ("<!-- settings: made by `python -m dreambooth_ext.reference` -->", "<!-- end of settings -->"),
    "map": ("<!-- map: made by `python -m dreambooth_ext.reference` -->", "<!-- end of map -->"),
}
WINGS = {
    "": "Shared: standard library only",
    "settings": "Every setting of a run",
    "commands": "The command line",
    "host": "Host: beside the WebUI",
    "engine": "Engine: in the trainer's process",
    "engine/methods": "Ways to train",
    "demo": "The demo",
}


def settings_table() -> str:
    """Markdown: a table for each group of settings."""
    groups: dict[str, list[Setting]] = {}
    for known in SETTINGS.values():
        groups.setdefault(known.group, []).append(known)
    return "\n\n".join(f"**{group}**\n\n" + _table(members) for group, members in groups.items())


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


# Left out, these follow from the guide, the base or the machine; the other optional settings are then off.
FILLED_IN = frozenset(
    name
    for name, known in SETTINGS.items()
    if known.default is None
    and name
    not in (
        *("class_prompt", "class_data_dir", "num_train_epochs", "snr_gamma", "instance_prompt", "text_encoder_2_lr"),
        *("dataset_config", "dataset_name", "model_config"),
    )
    and not name.endswith("_weights")
)


def _about(known: Setting) -> str:
    about = known.help
    if known.choices:
        about += " One of " + ", ".join(f"`{choice}`" for choice in known.choices) + "."
    elif known.minimum is not None:
        about += f" {known.minimum:g} to {known.maximum:g}."
    others = [method for method in METHODS if method not in known.methods]
    if others and len(others) < len(known.methods):
        about += f" Not for {', '.join(others)}."
    elif others:
        about += f" Only for {', '.join(known.methods)}."
    return about.replace("|", "\\|")


def house_map() -> str:
    """Markdown: a table for each folder, with the first sentence of every file."""
    tables = []
    for folder, title in WINGS.items():
        rows = ["| file | |", "| --- | --- |"]
        for path in sorted((PACKAGE / folder).glob("*.py")):
            about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            if about:
                line = about.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
                rows.append(f"| `{path.relative_to(PACKAGE.parent).as_posix()}` | {line} |")
        tables.append(f"**{title}**\n\n" + "\n".join(rows))
    return "\n\n".join(tables)


def updated(readme: str) -> str:
    """The README with settings and map between their marks."""
    for name, text in (("settings", settings_table()), ("map", house_map())):
        begin, end = MARKS[name]
        head, _, rest = readme.partition(begin)
        _, _, tail = rest.partition(end)
        readme = f"{head}{begin}\n\n{text}\n\n{end}{tail}"
    return readme


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
