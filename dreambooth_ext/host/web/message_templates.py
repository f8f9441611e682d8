"""What the program says to its users, as templates: read from the sources, so that translations can be asked for them.

A message is an f-string somewhere in the code: f"there is no folder {shown(folder)}." Its template is "there is no
folder {folder}.", by which a translation is listed in `localizations/`; the page (localised.js) finds the template that
a message of the server was made from, and puts its values into the translation. So the server knows no languages, and
command line, logs and API stay in English.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeGuard

PACKAGE = Path(__file__).resolve().parents[2]
# What everybody who fills in the form may meet: a complete translation has all of it
OF_THE_FORM = (
    *(
        "core/guide/completion",
        "core/data/identifiers",
        "core/checks/config_warnings",
        "core/checks/config_checks",
        "core/checks/without_effect",
        "core/checks/method_checks",
        "core/config/names",
        "core/data/concepts",
        "core/data/caption_files",
    ),
    *("core/data/picture_entries", "core/data/validation_split", "core/data/prompt_templates"),
    *(
        "core/config/rates",
        "core/config/parsing",
        "host/service/config_completion",
        "host/jobs/time_estimate",
    ),
)
OTHERS = (
    *("core/data/kohya_dataset", "core/data/metadata_files", "core/system/disk"),
    *(
        "core/config/links",
        "engine/downloads/progress_thread",
        "engine/models/base_download",
        "engine/downloads/http_file",
        "engine/downloads/hub_files",
        "engine/data/hub_dataset",
        "engine/data/picture_checks",
        "engine/data/latent_encoding",
    ),
    *(
        "core/runs/run_folder",
        "core/runs/run_list",
        "engine/plan",
        "engine/worker",
        "engine/training/run_outputs",
        "engine/training/loop",
        "engine/models/base_model",
        "engine/training/class_images",
    ),
    "engine/models/base_files",
    "host/pictures/uploads",
    *(
        "host/importers/read",
        "host/importers/common",
        "host/importers/kohya",
        "host/importers/kohya_lora",
        "host/importers/kohya_optimizer",
    ),
    *("host/importers/kohya_pictures", "host/importers/kohya_textual_inversion", "host/importers/optimizers"),
    *("host/importers/sd_dreambooth_extension", "host/importers/kohya_names"),
)
WORDS = (  # that stand in messages as values, and a message of values alone
    *("person", "style", "object", "pet", "a person", "a style", "an object", "a pet", "{low} to {high}"),
    "'{word}' {problem}.",
)
LETTERS = 3  # that a template has at least, beside its values
UNSPOKEN = {"add_argument", "ArgumentParser", "compile", "sub", "fullmatch", "match", "search", "strftime", "split"}


def of_modules(names: Iterable[str]) -> list[str]:
    """The templates of modules, "host/jobs/time_estimate" say, each once, in the order of the sources."""
    return list(dict.fromkeys(text for name in names for text in _of_module(name)))


def _of_module(name: str) -> Iterator[str]:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    found = [(part.lineno, part.col_offset, template(part)) for part in _parts(tree)]
    for _, _, text in sorted(found):
        letters = re.findall(r"[A-Za-z]", re.sub(r"\{\w+\}|\b[A-Z]+\b", "", text))  # RTX 4090 is no sentence
        values = re.findall(r"\{\w+\}", text)
        is_frame = len(values) > 1 and text.endswith(".") and " " in text  # "'{word}' {problem}."
        if is_frame or (len(letters) >= LETTERS and " " in text.strip() and "{}" not in text and "\n" not in text):
            yield text.strip()


def _parts(node: ast.AST) -> Iterator[ast.JoinedStr | ast.Constant]:
    """Every text of a tree that is not inside another one: no documentation, no pattern, nothing of an assertion."""
    for _, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Assert):
                continue
            is_text = _is_text(child)
            if _is_text(child) and not isinstance(node, ast.Expr):
                yield child
            elif isinstance(child, ast.Call) and _name(child.func) in UNSPOKEN:
                continue
            if not is_text:
                yield from _parts(child)
            elif isinstance(child, ast.JoinedStr):
                for inner in child.values:  # texts to choose from, inside
                    if isinstance(inner, ast.FormattedValue) and isinstance(inner.value, ast.IfExp):
                        yield from _parts(inner.value)


def _is_text(node: ast.AST) -> TypeGuard[ast.JoinedStr | ast.Constant]:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def template(text: ast.JoinedStr | ast.Constant) -> str:
    """A literal's or f-string's text with its values as {names}; of two with the same name the second has a number."""
    if isinstance(text, ast.Constant):
        return str(text.value)
    taken: list[str] = []
    made = ""
    for part in text.values:
        if isinstance(part, ast.Constant):
            made += str(part.value)
            continue
        name = _name(part.value if isinstance(part, ast.FormattedValue) else part) or "value"
        taken.append(name)
        made += "{" + name + (str(taken.count(name)) if taken.count(name) > 1 else "") + "}"
    return made


def _name(value: ast.AST) -> str:
    """What a value is called in the code: `completed.subject_type` -> "subject_type", `shown(folder)` -> "folder"."""
    if isinstance(value, ast.Name):
        return value.id.lower()
    if isinstance(value, ast.Attribute):
        return value.attr.lower()
    if isinstance(value, ast.Subscript):
        inner = value.slice
        return inner.value if isinstance(inner, ast.Constant) and isinstance(inner.value, str) else _name(value.value)
    if isinstance(value, ast.Call):
        function = _name(value.func)
        if function == "len":
            return "count"
        if function == "join":
            return "names"
        return next((name for one in value.args if (name := _name(one))), function)
    return ""
