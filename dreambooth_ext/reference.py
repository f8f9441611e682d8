"""The README's table of settings, made from `config.py`: `python -m dreambooth_ext.reference` puts it there anew."""

from __future__ import annotations

from pathlib import Path

from .config import METHODS, SETTINGS, Setting

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- settings: made by `python -m dreambooth_ext.reference` -->", "<!-- end of settings -->"


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
    not in ("class_prompt", "class_data_dir", "num_train_epochs", "snr_gamma", "instance_prompt", "text_encoder_2_lr")
)


def _about(known: Setting) -> str:
    about = known.help
    if known.choices:
        about += " One of " + ", ".join(f"`{choice}`" for choice in known.choices) + "."
    elif known.minimum is not None:
        about += f" {known.minimum:g} to {known.maximum:g}."
    if len(known.methods) < len(METHODS):
        about += f" Only for {', '.join(known.methods)}."
    return about.replace("|", "\\|")


def updated(readme: str) -> str:
    """The README with the table between its marks."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{settings_table()}\n\n{END}{tail}"


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
