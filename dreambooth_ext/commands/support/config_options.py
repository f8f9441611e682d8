"""Turns every setting into a command line option, and options and a config file into a `RunConfig`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...core.checks import config_checks
from ...core.config.parsing import parse
from ...core.config.run_config import SETTINGS, RunConfig
from ...core.errors import Problem, UserError
from ...core.facts.setting import Setting
from ...core.guide import completion
from ...core.messages.message import written
from ...core.system.files import read_json
from ...core.system.terminal import say
from ...core.verbs.path_option import path
from ...host.service import preset_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=path, metavar="FILE", help="settings from a JSON file; options override it")
    names = ", ".join(preset.name for preset in preset_store.built_in())
    help = f"settings of a preset ({names}, one saved in the tab, or a preset's file); file and options override it"
    parser.add_argument("--preset", metavar="NAME", help=help)
    groups: dict[str, Any] = {}
    for known in SETTINGS.values():
        if known.group not in groups:
            groups[known.group] = parser.add_argument_group(known.group)
        groups[known.group].add_argument(known.option, dest=known.name, help=_help(known), **_form(known))


def _form(known: Setting) -> dict[str, Any]:
    form: dict[str, Any] = {"default": argparse.SUPPRESS, "metavar": known.kind.upper()}
    if known.kind == "bool":
        form |= {"nargs": "?", "const": "true", "metavar": "true|false"}
    elif known.kind == "list":
        form |= {"nargs": "*", "metavar": "TEXT"}
    elif known.kind in ("dict", "concepts"):
        form["metavar"] = "JSON"
    elif known.choices:
        form["metavar"] = "{" + ",".join(known.choices) + "}"
    return form


def _help(known: Setting) -> str:
    if known.default in (None, ""):
        default = ""
    else:
        default = f" Default: {str(known.default).lower() if known.kind == 'bool' else known.default}."
    limits = f" {known.range}." if known.range else ""
    methods = "" if len(known.methods) > 1 else f" Only for {known.methods[0]}."
    return (known.help + limits + default + methods).replace("%", "%%")


def read(arguments: argparse.Namespace) -> tuple[RunConfig, list[Problem]]:
    """The config that the file and the options ask for, and the values in them that cannot be read."""
    values: dict[str, Any] = {}
    if arguments.preset:
        values |= _preset(arguments.preset, getattr(arguments, "webui", None)).settings
    if arguments.config:
        values |= _read_file(arguments.config)
    values |= {name: value for name, value in vars(arguments).items() if name in SETTINGS}
    return parse(values)


def _preset(name: str, webui: Path | None) -> preset_store.Preset:
    return (
        preset_store.read_file(path(name))
        if name.lower().endswith(".json")
        else preset_store.known_here(webui).get(name)
    )


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise UserError("command.config_missing", "config", path=str(path)) from None
    except OSError as error:
        raise UserError("command.config_unreadable", "config", path=str(path), error=error.strerror) from None
    except UnicodeDecodeError:
        raise UserError("command.config_not_utf8", "config", path=str(path)) from None
    except (ValueError, RecursionError) as error:
        code = "command.config_backslashes" if "escape" in str(error) else "command.config_not_json"
        raise UserError(code, "config", path=str(path), error=str(error)) from None
    if not isinstance(values, dict):
        raise UserError("command.config_no_object", "config", path=str(path))
    return values


def complete_arguments(arguments: argparse.Namespace) -> config_checks.Checked:
    """The config of `read`, completed by the guide and checked as far as possible without a model."""
    config, unreadable = read(arguments)
    checked = config_checks.check(config)
    choices = {name: choice for name, choice in checked.choices.items() if all(name != p.field for p in unreadable)}
    problems = [*unreadable, *config_checks.independent(checked.problems, unreadable)]
    return checked._replace(choices=choices, problems=problems)


def print_problems(problems: Iterable[Problem]) -> None:
    say(*(f"error: {problem}" for problem in problems))


def print_warnings(warnings: Iterable[Problem]) -> None:
    """Print warnings, grave ones last, where they are seen first."""
    say(
        *(
            f"{'WARNING' if one.is_grave else 'warning'}: {one}"
            for one in sorted(warnings, key=lambda one: one.is_grave)
        )
    )


def print_choices(choices: dict[str, completion.Choice]) -> None:
    """Print what the guide filled in, with its reasons."""
    say(*(f"{name} = {_given(choice.value)}  ({choice.reason})" for name, choice in choices.items()))


def _given(value: object) -> str:
    """A value as its option accepts it, with numbers in the usual notation: 2e-6."""
    return str(value).lower() if isinstance(value, bool) else written(value)
