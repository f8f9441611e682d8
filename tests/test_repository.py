"""What surrounds the package: workflows, issue forms, linters and the version say what is so."""

from __future__ import annotations

import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

import dreambooth_ext
from dreambooth_ext.__main__ import make_parser

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
FIELDS = {"markdown", "input", "textarea", "dropdown", "checkboxes"}  # all that issue forms have
SENTENCES = (
    "core/messages/english/training.json",
    "core/messages/english/web.json",
)  # that tell of an unexpected error, and name the report's button
ANOTHER_S = {"tests/host/standin/page/script.js"}  # what a WebUI's own script does, for the tests


def read_yaml(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands(workflow: dict[Any, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


# --- workflows


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_whole(path):
    workflow = read_yaml(path)
    assert {"push", "pull_request"} <= set(workflow[True])  # YAML 1.1 reads "on" so
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"] and job["timeout-minutes"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


def test_the_tests_run_on_both_systems_with_the_oldest_and_the_newest_python():
    workflow = read_yaml(REPOSITORY / ".github" / "workflows" / "tests.yml")
    (job,) = workflow["jobs"].values()
    oldest, newest = re.search(r"Python (3\.\d+) to (3\.\d+)", README).groups()
    assert job["strategy"]["matrix"] == {"os": ["ubuntu-latest", "windows-latest"], "python": [oldest, newest]}
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={oldest}"' in project and f'python_version = "{oldest}"' in project
    *preparations, command = commands(workflow)
    assert preparations == ["pip install uv"]  # all else is made by the tests
    assert re.search(rf"^{command}\b", README, re.MULTILINE) and command in CONTRIBUTING


def test_the_linters_run_as_a_contributor_runs_them():
    for command in commands(read_yaml(REPOSITORY / ".github" / "workflows" / "lint.yml")):
        assert command.partition(" --show")[0] in CONTRIBUTING


# --- linters


def hooks() -> dict[str, dict[str, Any]]:
    config = read_yaml(REPOSITORY / ".pre-commit-config.yaml")
    return {hook["id"]: hook for repository in config["repos"] for hook in repository["hooks"]}


def test_every_linter_has_one_version():
    assert set(hooks()) == {"ruff-check", "ruff-format", "mypy", "eslint"}
    for name, hook in hooks().items():
        (package,) = hook["additional_dependencies"]
        assert re.fullmatch(r"(ruff|mypy)==\d+\.\d+\.\d+|eslint@\d+\.\d+\.\d+", package), name
        assert hook["entry"].split()[0] in package
    assert hooks()["ruff-check"]["additional_dependencies"] == hooks()["ruff-format"]["additional_dependencies"]


def test_the_package_has_no_type_error(tmp_path):
    program, (pinned,) = shutil.which("mypy"), hooks()["mypy"]["additional_dependencies"]
    if program is None:
        pytest.skip("mypy is not installed here; pre-commit and the workflow bring it")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    if version != pinned.partition("==")[2]:
        pytest.skip(f"mypy {version} is installed here, and may find other things than {pinned}")
    found = subprocess.run(
        [program, "--cache-dir", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_script_is_linted():
    config = (REPOSITORY / "eslint.config.mjs").read_text(encoding="utf-8")
    globs = [glob for found in re.findall(r"files: \[([^\]]*)\]", config) for glob in re.findall(r'"([^"]+)"', found)]
    scripts = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("dreambooth_ext", "javascript", "tests", "scripts", "benchmarks", "docs")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".js", ".mjs", ".cjs", ".ts")
    }
    linted = {path for path in scripts if any(fnmatch(path, glob) for glob in globs)}
    assert len(linted) > 30 and scripts - linted == ANOTHER_S
    assert all(any(fnmatch(path, glob) for path in scripts) for glob in globs)


def test_no_packages_of_others_are_kept():
    ignored = (REPOSITORY / ".gitignore").read_text(encoding="utf-8").split()
    assert "node_modules/" in ignored
    assert not (REPOSITORY / "package.json").exists()  # eslint's version stands in .pre-commit-config.yaml alone


# --- issue forms


@pytest.mark.parametrize("path", [path for path in FORMS if path.stem != "config"], ids=lambda path: path.stem)
def test_an_issue_form_is_one(path):
    form = read_yaml(path)
    assert form["name"] and form["description"] and set(form) <= {"name", "description", "labels", "title", "body"}
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert asked and {field["type"] for field in form["body"]} <= FIELDS
    ids = [field["id"] for field in asked]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[\w-]+", one) for one in ids)
    assert all(field["attributes"]["label"] for field in asked)
    assert all(field["attributes"]["value"] for field in form["body"] if field["type"] == "markdown")
    assert any(field.get("validations", {}).get("required") for field in asked)


def test_forms_sentences_and_page_call_the_button_the_same():
    page = REPOSITORY / "dreambooth_ext" / "host" / "page" / "runs" / "texts.js"
    (button,) = re.findall(r'report: \{\s+copy: "([^"]+)"', page.read_text(encoding="utf-8"))
    form = (REPOSITORY / ".github" / "ISSUE_TEMPLATE" / "problem.yml").read_text(encoding="utf-8")
    assert f'"{button}"' in form and f"*{button}*" in CONTRIBUTING
    for source in SENTENCES:
        assert f"'{button}'" in (REPOSITORY / "dreambooth_ext" / source).read_text(encoding="utf-8"), source
    for text in (form, CONTRIBUTING):
        for words in re.findall(r"python -m dreambooth_ext (runs report[^`]*)`", text):
            assert make_parser().parse_args(words.split()).action == "report"


# --- the version


def test_the_changelog_tells_of_this_version():
    headings = re.findall(r"^## (.+)$", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert released[0] == dreambooth_ext.__version__ and headings.index(released[0]) <= 1
    assert released == sorted(released, key=lambda version: [int(part) for part in version.split(".")], reverse=True)
