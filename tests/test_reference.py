"""README and docs say what the code does: settings, verbs, files, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dreambooth_ext.__main__ import VERBS, make_parser
from dreambooth_ext.commands import reference
from dreambooth_ext.config import SETTINGS

REPOSITORY = Path(__file__).parents[1]
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
}
README, ARCHITECTURE = PAGES["README.md"], PAGES["docs/architecture.md"]


def test_the_generated_parts_are_up_to_date():
    for page, text in reference.updated():
        assert page.read_text(encoding="utf-8") == text, "run: python -m dreambooth_ext.commands.reference"
    assert all(f"| `{name}` |" in PAGES["docs/settings.md"] for name in SETTINGS)


def test_every_verb_is_in_a_table():
    rows = re.findall(r"^\| `([a-z]+)", "\n".join(PAGES.values()), re.MULTILINE)
    assert set(rows) >= set(VERBS)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_understood(page):
    for text in re.findall(r"python -m dreambooth_ext ([^`#\n]+)", PAGES[page]):
        words = [word for word in shlex.split(text.strip()) if not word.startswith("[")]
        if words[0] in VERBS and "..." not in text:
            make_parser().parse_args(words)  # exits with a message where a word is unknown
        else:
            assert words[0] in ("VERB", "...") or words[-1] == "...", text


@pytest.mark.parametrize("page", PAGES)
def test_every_program_is_there(page):
    for module in re.findall(r"python -m ([\w.]*\w)", PAGES[page]):
        place = REPOSITORY.joinpath(*module.split("."))
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def test_the_map_names_every_file():
    found = {p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / "dreambooth_ext").rglob("*.py")}
    named = set(re.findall(r"^\| `([\w/.]+\.py)` \|", ARCHITECTURE, re.MULTILINE))
    missing = {path for path in found if path not in named and not path.endswith("__init__.py")}
    assert not missing, f"these have no docstring that says what they are for: {missing}"


def test_the_usual_changes_name_files_that_exist():
    rows = ARCHITECTURE.partition("## Twelve usual changes")[2].partition("## Every file")[0]
    changes = [line for line in rows.splitlines() if line.startswith("| a") or line.startswith("| the ")]
    assert len(changes) == 12
    for line in changes:
        paths = re.findall(r"`([\w.]+/[\w./]+)`", line)
        assert paths, line
        assert not [path for path in paths if not (REPOSITORY / path).exists()], line
