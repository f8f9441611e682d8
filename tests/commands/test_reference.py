"""README and docs say what the code does: settings, verbs, files, links."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from dreambooth_ext.__main__ import VERBS, make_parser
from dreambooth_ext.commands import reference
from dreambooth_ext.core.config.run_config import SETTINGS
from dreambooth_ext.core.facts.methods import METHOD_LABELS
from dreambooth_ext.core.guide import tables
from dreambooth_ext.host.web import localization

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
}
README, ARCHITECTURE = PAGES["README.md"], PAGES["docs/architecture.md"]
METHOD_PAGES = [f"docs/methods/{method}.md" for method in METHOD_LABELS]
OTHERS_OPTIONS = {
    "--nproc-per-node",
    *("--uv", "--ckpt-dirs"),  # of WebUIs and of tools
    *("--gradio-auth", "--gradio-auth-path", "--listen", "--share", "--ngrok", "--server-name", "--nowebui"),
    *("--enable-insecure-extension-access", "--hide-ui-dir-config", "--slow", "--durations", "--kills", "--all-files"),
    *("--packages", "--time"),  # of benchmarks.doctor
    *("--data-binary", "--data", "--output"),  # curl's
    "--python",  # pip's
    *(
        "--nproc-per-node",
        "--nnodes",
        "--ntasks-per-node",
        "--nodes",
        "--gpus-per-task",
        "--gpus-per-node",
    ),  # of launchers
}


def test_the_generated_parts_are_up_to_date():
    for page, text in reference.updated():
        assert page.read_text(encoding="utf-8") == text, "run: python -m dreambooth_ext.commands.reference"
    assert all(f"| `{name}` |" in PAGES["docs/settings.md"] for name in SETTINGS)


def test_every_verb_is_in_a_table():
    rows = re.findall(r"^\| `([a-z]+)", "\n".join(PAGES.values()), re.MULTILINE)
    assert set(rows) >= set(VERBS)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_understood(page):
    for text in re.findall(r"python3? -m dreambooth_ext ([^`#\n]+)", PAGES[page]):
        words = shlex.split(text)
        if words[0] in VERBS and "..." not in words:
            make_parser().parse_args(words)  # exits with a message where a word is unknown
        else:
            assert words[0] == "VERB" or words[-1] == "...", text


@pytest.mark.parametrize("page", PAGES)
def test_every_option_is_known(page):
    """Wherever it stands, in a command or in a sentence."""
    known = options(make_parser()) | OTHERS_OPTIONS
    written = PAGES[page].partition("\n## Every file")[0]  # what follows is of docstrings
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", written)) - known == set()


def options(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a parser and of its verbs."""
    found: set[str] = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*(options(verb) for verb in action.choices.values()))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_program_is_there(page):
    for module in re.findall(r"python3? -m ([\w.]*\w)", PAGES[page]):
        place = REPOSITORY.joinpath(*module.split("."))
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def test_the_map_names_every_file():
    found = {p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / "dreambooth_ext").rglob("*.py")}
    named = set(re.findall(r"^\| `([\w/.]+\.py)` \|", ARCHITECTURE, re.MULTILINE))
    missing = {path for path in found if path not in named and not path.endswith("__init__.py")}
    assert not missing, f"these have no docstring that says what they are for: {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_is_there(page):
    folders = "|".join(("dreambooth_ext", "tests", "benchmarks", "docs", "localizations"))
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", PAGES[page]):
        assert (REPOSITORY / path).exists(), path


def test_the_usual_changes_name_files_that_exist():
    rows = ARCHITECTURE.partition("## Twelve usual changes")[2].partition("## Every file")[0]
    changes = [line for line in rows.splitlines() if line.startswith("| a") or line.startswith("| the ")]
    assert len(changes) == 12
    for line in changes:
        paths = re.findall(r"`([\w.]+/[\w./]+)`", line)
        assert paths, line
        assert not [path for path in paths if not (REPOSITORY / path).exists()], line


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith("http"):
            continue
        file, _, heading = link.partition("#")
        target = (REPOSITORY / page).parent / file if file else REPOSITORY / page
        assert target.exists(), link
        if heading:
            assert heading in anchors(target.read_text(encoding="utf-8")), link


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page in links to them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


WEBUIS = {"Extensions", "Install from URL", "Install", "Settings", "User interface", "Localization"}  # own labels
WEBUIS |= {"Generate", "Extras", "Interrogate"}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/glossary.md"])
def test_what_the_pages_name_is_in_the_tab(page):
    """*Runs > Train longer* stands for labels of the tab, nothing else is written in italics on a line."""
    known = {*localization.sources(), *localization.SAME, *WEBUIS}
    written = re.sub(r"```.*?```", "", PAGES[page].partition("\n## Every file")[0], flags=re.DOTALL)
    for label in re.findall(r"(?<![*\w])\*([^*\n]+)\*(?![*\w])", written):
        assert set(label.split(" > ")) <= known, f"the tab has no '{label}'"


@pytest.mark.parametrize("page", METHOD_PAGES)
def test_a_methods_page_advises_on_settings_that_it_has(page):
    method = Path(page).stem
    table = PAGES[page].partition("## Settings that matter")[2].partition("\n## ")[0]
    named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert len(named) >= 9
    assert [name for name in named if name not in SETTINGS or method not in SETTINGS[name].methods] == []


def test_the_readme_is_short_and_leads_to_every_page():
    assert len(README.splitlines()) <= 150
    linked = set(
        re.findall(r"\]\(([\w./-]+)\)", README + PAGES["docs/methods/README.md"].replace("](", "](docs/methods/"))
    )
    assert [page for page in PAGES if page not in linked | {"README.md", "docs/contributing.md"}] == []


@pytest.mark.parametrize("page", ["docs/pictures.md", "docs/methods/dreambooth.md"])
def test_numbers_of_pictures_are_the_guides(page):
    for kind, (least, low, high, most) in tables.PICTURES.items():
        assert f"| {kind} | {least} | {low} to {high} | {most} |" in PAGES[page]


def test_steps_are_the_guides():
    table = PAGES["docs/methods/dreambooth.md"].partition("| pictures | person | style | object, pet |")[2]
    rows = [row for row in table.partition("\n\n")[0].splitlines() if row[:3] in ("| f", "| 1", "| 2")]
    for index, row in enumerate(rows):
        told = re.findall(r"(\d+) \(to (\d+)\)", row)
        assert told == [tuple(map(str, tables.STEPS[kind][index][1])) for kind in ("person", "style", "object")]
    assert len(rows) == len(tables.STEPS["person"]) and tables.STEPS["pet"] == tables.STEPS["object"]
