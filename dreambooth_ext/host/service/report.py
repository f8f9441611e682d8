"""The report of a run for an issue, as one text: versions, card, settings, problem and the end of the log.

The tab's "Copy report", `GET runs/{id}/report` and `python -m dreambooth_ext runs report` give the same text.
"""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.config.run_config import SETTINGS
from ...core.runs.run_folder import Run
from ...core.system import files
from ...core.version import __version__
from ..jobs import exit_reasons
from .redaction import Redaction

LARGEST = 16_000  # characters of the settings: many prompts or subjects
LINES, CHARACTERS = 120, 12_000  # of the log's end: a traceback and what came before it
SHOWN = ("diffusers", "transformers", "accelerate", "safetensors", "bitsandbytes", "xformers")
REPOSITORY = Path(__file__).resolve().parents[3]


def report(run: Run | None, environment: Mapping[str, Any], host: str) -> str:
    """The report's text. environment: as from `Status.as_dict`; host: a WebUI with its version, or another name."""
    redaction = Redaction(_folders(run, environment))
    parts = ["\n".join(_about(environment, host))]
    if run is not None:
        parts += ["\n".join(_about_run(run)), f"settings: {_settings(run, redaction)}"]
        log = exit_reasons.tail(run.path / "log.txt", lines=LINES, characters=CHARACTERS)
        parts.append(f"end of the log:\n{log}" if log else "There is no log.")
    return redaction.text("\n\n".join(parts)) + "\n"


def _about(environment: Mapping[str, Any], host: str) -> Iterator[str]:
    yield f"DreamBooth extension {__version__}, {host}"
    yield f"system: {platform.platform()}, Python {platform.python_version()}"
    state = " ".join(filter(None, (environment.get("state"), environment.get("reason"))))
    yield f"trainer's environment: {state}"
    if environment.get("kind"):
        python, packages = _dotted(environment["python_version"]), environment["packages"]
        yield f"    {environment['kind']}, Python {python}, torch {environment['torch']}"
        yield "    " + ", ".join(f"{name} {packages[name]}" for name in SHOWN if name in packages)
    yield f"card: {environment.get('device') or 'unknown, because the environment is not ready'}"
    for name, why in (environment.get("optional") or {}).items():
        yield f"not available: {name} ({why['reason']})"


def _dotted(version: Any) -> str:
    return ".".join(map(str, version)) if isinstance(version, list | tuple) else str(version)


def _about_run(run: Run) -> Iterator[str]:
    try:
        state = run.state()
    except Exception as error:  # a damaged run is one that is reported
        yield f"run: its state cannot be read ({error})"
        return
    version = state.get("version") or "unknown"
    step = f"step {state['step']} of {state.get('total') or '?'}"
    yield f"run: {state['status']} at {step}, started with version {version}"
    problems = state.get("problems") or ([state["problem"]] if state.get("problem") else [])
    for problem in problems:
        yield "problem: " + " ".join(filter(None, (problem.get(key) for key in ("field", "message", "remedy"))))


def _settings(run: Run, redaction: Redaction) -> str:
    """The run's settings that differ from their defaults."""
    try:
        config = files.read_json(run.path / "config.json")
    except (OSError, ValueError) as error:
        return f"config.json cannot be read ({error})."
    if not isinstance(config, dict):
        return "config.json holds no settings."
    told = {
        name: value
        for name, value in config.items()
        if name == "method" or name not in SETTINGS or value != SETTINGS[name].default
    }
    text = json.dumps(redaction.value(told), ensure_ascii=False, indent=1)
    return text if len(text) <= LARGEST else f"{text[:LARGEST]} ..."


def _folders(run: Run | None, environment: Mapping[str, Any]) -> Iterator[str]:
    """Known folders of this machine, so that they are redacted whatever their names look like."""
    with contextlib.suppress(RuntimeError):  # there may be none
        yield str(Path.home())
    yield tempfile.gettempdir()
    yield str(REPOSITORY)
    if folder := environment.get("folder"):
        yield str(folder)
    if run is None:
        return
    yield str(run.path.parent.resolve())
    with contextlib.suppress(Exception):  # a damaged run's
        for _, path in run.config.paths():
            if Path(path).is_absolute():
                yield from (path, str(Path(path).parent))
