"""Completes a config from a request: what the host and the guide fill in, and all problems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.checks import config_checks
from ...core.config.parsing import parse
from ...core.config.run_config import SETTINGS, RunConfig
from ...core.errors import UserError
from ...core.facts.methods import METHOD_LABELS, PROMPTED_METHODS
from ...core.guide.completion import Choice
from ...core.messages.message import Message
from ..hosts import path_policy

if TYPE_CHECKING:
    from ..hosts.host import Host


def complete_form(values: Mapping[str, Any], host: Host, runs_dir: Path) -> config_checks.Checked:
    """The completed config, what was filled in and why, its pictures, and all problems found without a model.

    Raises a Refusal (403) for paths that the host restricts, before anything reads them.
    """
    offered = offers(values, host)
    config, unreadable = parse({**values, **{name: choice.value for name, choice in offered.items()}})
    check_depth(config)
    data_set = path_policy.check_paths(config, host)
    checked = config_checks.check(config, data_set)
    choices = {name: choice for name, choice in checked.choices.items() if all(name != p.field for p in unreadable)}
    problems = [
        *unreadable,
        *config_checks.independent(checked.problems, unreadable),
        *config_checks.folder_problems("runs_dir", runs_dir),
    ]
    return checked._replace(choices={**offered, **choices}, problems=problems)


def offers(values: Mapping[str, Any], host: Host) -> dict[str, Choice]:
    """The host's values for settings that were left out."""
    known = {
        "base_model": (host.current_base(), Message("guide.current_base", webui=host.name)),
        "subject_type": (host.option("subject_type"), Message("guide.of_options")),
        "report_to": (host.option("tracker"), Message("guide.of_options")),
    }
    given = values.get("method")
    method = given if given and isinstance(given, str) else SETTINGS["method"].default  # `parse` says what is no text
    prompted = method in PROMPTED_METHODS or method not in METHOD_LABELS
    fitting = [name for name in known if prompted or name not in ("base_model", "subject_type")]
    left_out = {name: known[name] for name in fitting if values.get(name) in (None, "")}
    return {name: Choice(value, reason) for name, (value, reason) in left_out.items() if value}


def check_depth(config: RunConfig) -> None:
    """Raise UserError if the config is nested too deeply to be saved with a run."""
    try:
        json.dumps(config.as_dict(), indent=2)
    except RecursionError:
        raise UserError("settings.too_deep", "config") from None
