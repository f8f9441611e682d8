"""The README says what the code does: its settings, its verbs, its map."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from dreambooth_ext import reference
from dreambooth_ext.__main__ import VERBS, make_parser
from dreambooth_ext.config import SETTINGS

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_table_of_settings_is_made_from_the_one_list():
    assert reference.updated(README) == README, "run: python -m dreambooth_ext.reference"
    assert all(f"`{name}`" in README for name in SETTINGS)


def test_every_verb_is_in_the_table():
    assert set(re.findall(r"^\| `([a-z]+)", README, re.MULTILINE)) >= set(VERBS)


def test_every_command_of_the_readme_is_understood():
    commands = re.findall(r"python -m dreambooth_ext ([^`#\n]+)", README)
    verbs = [
        words for text in commands if (words := _words(text))[0] in VERBS and "VERB" not in text and "..." not in text
    ]
    assert len(verbs) >= 5
    for words in verbs:
        make_parser().parse_args(words)  # exits with a message where a word is unknown


def test_the_map_names_every_file():
    found = {p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / "dreambooth_ext").rglob("*.py")}
    named = set(re.findall(r"^\| `([\w/.]+\.py)`", README, re.MULTILINE))
    missing = {path for path in found if path not in named and not path.endswith("__init__.py")}
    assert not missing, missing
    assert not {path for path in named if not (REPOSITORY / path).exists()}


def _words(text: str) -> list[str]:

    return [word for word in shlex.split(text.strip()) if not word.startswith("[")]
