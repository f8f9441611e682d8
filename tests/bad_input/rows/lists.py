"""Rows: files that list pictures and captions, kohya's data sets, prompt templates, imports and presets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import kohya_dataset, picture_entries, prompt_templates
from dreambooth_ext.core.errors import Problem
from dreambooth_ext.host.importers import read
from dreambooth_ext.host.service import preset_store
from tests.bad_input import sound
from tests.bad_input.case import Case, Verb, rows
from tests.bad_input.rows.descriptions import put
from tests.bad_input.verbs import CHECK, CHECK_REQUEST, IMPORT_REQUEST, RUN_REQUEST, TRAIN

ALL = (CHECK, TRAIN, CHECK_REQUEST, RUN_REQUEST)
Making = Callable[[Path], Any]
DEEP = "[" * 100_000
DOTTED = ".".join("a" * 50_000) + " = 1\n"


# --- beside pictures


def _entries(values: dict[str, Any], _: Path) -> list[Problem]:
    return picture_entries.entries(parse(values)[0])[1]


def listed(name: str, content: Callable[[], str] | int) -> Making:
    """The good settings, and this file among the pictures."""

    def make(folder: Path) -> dict[str, Any]:
        values = sound.settings(folder)
        put(Path(values["instance_data_dir"]) / name, content if isinstance(content, int) else content())
        return values | {"use_captions": True}

    return make


def deep_folders(folder: Path) -> dict[str, Any]:
    values = sound.settings(folder)
    (folder / "deep" / "/".join("a" * 200)).mkdir(parents=True)
    return values | {"instance_data_dir": str(folder / "deep")}


LINE = '{"file_name": "x", "text": "y"}\n'
JSONL, CAPTIONS = "metadata.jsonl", "use_captions"
BESIDE: dict[str, tuple[Making, str, str]] = {
    "a jsonl of gigabytes": (listed(JSONL, 2**32), CAPTIONS, "it has more than 128.0 MB"),
    "a jsonl of one line": (listed(JSONL, lambda: '{"file_name": "' + "x" * 10**7), CAPTIONS, "is not valid JSON"),
    "a jsonl of very many lines": (
        listed(JSONL, lambda: LINE * 300_000),
        CAPTIONS,
        "only the first 250000 lines were read",
    ),
    "a jsonl of a million bad lines": (
        listed(JSONL, lambda: "{}\n" * 10**6),
        CAPTIONS,
        "lines were read",
    ),
    "a deep jsonl": (listed(JSONL, lambda: DEEP + "\n"), CAPTIONS, "nested too deeply"),
    "a deep meta_cap.json": (listed("meta_cap.json", lambda: DEEP), CAPTIONS, "nested too deeply"),
    "folders in folders without end": (deep_folders, "instance_data_dir", "nested more than 100 deep"),
}
SLOW = {"a jsonl of very many lines", "a jsonl of a million bad lines", "a jsonl of gigabytes", "a jsonl of one line"}
ENTRIES = Verb("entries", _entries)


# --- kohya's data sets


def _data_set(values: dict[str, Any], _: Path) -> list[Problem]:
    return kohya_dataset.read(values["dataset_config"]).problems


def data_set(content: Callable[[], str] | int, name: str = "a.toml") -> Making:
    def make(folder: Path) -> dict[str, Any]:
        values = sound.settings(folder)
        del values["instance_data_dir"], values["instance_prompt"]
        path = put(folder / name, content if isinstance(content, int) else content())
        return values | {"dataset_config": str(path)}

    return make


PARTS = "a key has more than 16 parts"
DATA_SETS: dict[str, tuple[Making, str]] = {
    "dotted": (data_set(lambda: DOTTED), PARTS),
    "a dotted table": (data_set(lambda: "[" + ".".join("a" * 50_000) + "]\n"), PARTS),
    "a dotted inline table": (data_set(lambda: "x = {" + DOTTED.strip() + "}"), PARTS),
    "dots behind texts": (data_set(lambda: 'x = """\n\\"""\n""" # "\n' + DOTTED), PARTS),
    "dots in texts": (data_set(lambda: '"a"' + ".'a'" * 50_000 + " = 1"), PARTS),
    "texts that never end": (data_set(lambda: '"""\n' + '\\"""\n' * 40_000 + "\\"), "cannot be parsed"),
    "deep": (data_set(lambda: "a = " + DEEP), "cannot be parsed"),
    "deep JSON": (data_set(lambda: DEEP, "a.json"), "cannot be parsed"),
    "gigabytes": (data_set(2**32), "it has more than 1.0 MB"),
    "a number of digits": (data_set(lambda: "a = " + "9" * 10**6), "a number has more than 1000 digits"),
}
DATA_SET = Verb("dataset_config", _data_set)


def strange(folder: Path) -> dict[str, Any]:
    return data_set(lambda: "[general]\n" + "".join(f"resolutoin{n} = 1\n" for n in range(40_000)))(folder)


def unknown(folder: Path) -> dict[str, Any]:
    return {f"setting_{number}": 1 for number in range(40_000)}


FIRST = Verb("dataset_config, the first", lambda values, _: _data_set(values, _)[:1])
PARSE_FIRST = Verb("settings, the first", lambda values, _: parse(values)[1][:1], "setting_0")


# --- texts that are pasted, and files that are named


def _template(path: Path, _: Path) -> list[Problem]:
    return prompt_templates.lines(RunConfig(prompt_template=str(path)))[1]


def _preset(path: Path, _: Path) -> list[Problem]:
    found = preset_store.read_file(path)
    return [Problem("other.as_said", "preset", message=found.problem, remedy="-")] if found.problem else []


def pasted(text: Callable[[], str]) -> Making:
    return lambda folder: text()


IMPORTED: dict[str, tuple[Callable[[], str], str]] = {
    "dotted": (lambda: ".".join("a" * 20_000) + " = 1", PARTS),
    "many dots": (lambda: "".join(f"k{n}.a.b.c.d.e = 1\n" for n in range(10_000)), "any configuration"),
    "deep": (lambda: '{"a":' + DEEP, "nested too deeply"),
    "wide": (
        lambda: '{"unet_lr": 1, "a": [' + "1," * 100_000 + "1]}",
        "more values than any configuration",
    ),
}
IMPORT = Verb("import", lambda text, folder: read.read(text))
CASES = []
for name, row in BESIDE.items():
    CASES.append(Case(f"list: {name}", row[0], (ENTRIES,) if name in SLOW else (ENTRIES, *ALL), *row[1:]))
for name, (make, part) in DATA_SETS.items():
    verbs = (DATA_SET,) if "digits" in name else (DATA_SET, *ALL)
    CASES.append(Case(f"data set: {name}", make, verbs, "dataset_config", part))
CASES.append(Case("data set: strange names", strange, (FIRST,), "dataset_config", "is unknown"))
CASES.append(Case("settings that nobody knows", unknown, (PARSE_FIRST,), "setting_0", "there is no setting"))
for name, (text, part) in IMPORTED.items():
    CASES.append(Case(f"import: {name}", pasted(text), (IMPORT, IMPORT_REQUEST), "text", part))
CASES += rows(
    "prompt_template",
    (Verb("prompt_template", _template),),
    {"a gigabyte": (lambda folder: put(folder / "a.txt", 2**30), "prompt_template", "too large")},
)
CASES += rows(
    "preset",
    (Verb("read", _preset),),
    {"gigabytes": (lambda folder: put(folder / "a.json", 2**32), "preset", "too large")},
)
CASES.append(
    Case(
        "subjects by the thousand",
        lambda _: {"concepts": [{}] * 200_000},
        (Verb("parse", lambda v, _: parse(v)[1]),),
        "concepts",
        "more than 1000 subjects",
    )
)
