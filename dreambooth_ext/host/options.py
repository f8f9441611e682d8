"""Our options: a section of the WebUI's settings page, or a JSON file where there is no WebUI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json, write_json

PREFIX = "dreambooth_ext_"  # of their names among the WebUI's own


@dataclass(frozen=True)
class Option:
    name: str
    default: str | bool
    label: str
    help: str
    choices: tuple[str, ...] = ()


OPTIONS = (
    Option(
        "runs_folder",
        "",
        "Runs folder",
        "where trainings are kept, with their checkpoints; empty: dreambooth/runs in the data folder (after a restart)",
    ),
    Option(
        "while_training",
        "refuse",
        "Generate while a training runs",
        "refuse: the WebUI's model leaves the graphics card; Generate, Extras, Interrogate, Train and the checkpoint "
        "merger say so; wait: it leaves, too, and they begin when the training has ended; share: it stays, for cards "
        "with memory for both. A training on another device disturbs nothing. Models that other extensions load by "
        "themselves cannot be held back",
        ("refuse", "wait", "share"),
    ),
    Option(
        "on_close",
        "continue",
        "When the WebUI is closed, a training",
        "continue: it goes on, and the tab shows it again after the next start; stop: it saves and stops",
        ("continue", "stop"),
    ),
    Option(
        "publish",
        True,
        "Put trained models into the WebUI's folders",
        "off: they stay in the run's folder until you publish them in the tab",
    ),
    Option(
        "intermediate",
        False,
        "Also intermediate models, of saves on the way",
        "off: only the last one; the others stay in the run's folder, and the tab puts each into the WebUI's "
        "on a click",
    ),
    Option(
        "select",
        "final",
        "Select trained models in txt2img",
        "final: the finished one; every: intermediate ones, too; never: you choose",
        ("final", "every", "never"),
    ),
    Option(
        "subject_type",
        "person",
        "Type of subject that the tab starts with",
        "the guide's settings follow from it",
        ("person", "style", "object", "pet"),
    ),
    Option(
        "tracker",
        "tensorboard",
        "Tracker",
        "tensorboard: each run keeps curves and previews for TensorBoard in its folder; none: it does not",
        ("tensorboard", "none"),
    ),
)
BY_NAME = {option.name: option for option in OPTIONS}


def checked(name: str, value: Any) -> Any:
    """`value` if the option can have it. Raises UserError with the option's name."""
    option = BY_NAME.get(name)
    if option is None:
        raise UserError(name, "there is no such option.", f"The options are {', '.join(BY_NAME)}.")
    if option.choices and value not in option.choices:
        raise UserError(name, f"cannot be {value!r}.", f"Choose one of {', '.join(option.choices)}.")
    if not isinstance(value, type(option.default)):
        kind = "true or false" if isinstance(option.default, bool) else "text"
        raise UserError(name, f"cannot be {value!r}.", f"It is {kind}.")
    return value


def valid(name: str, value: Any) -> Any:
    """`value`, or the default where it is nothing that the option can be: a file may be old or written by hand."""
    try:
        return checked(name, value)
    except UserError:
        return BY_NAME[name].default


class FileOptions:
    """The options in a JSON file, read anew each time: another process may have changed them."""

    def __init__(self, path: Path):
        self.path = path

    def values(self) -> dict[str, Any]:
        try:
            content = read_json(self.path)
        except (OSError, ValueError):
            content = {}
        content = content if isinstance(content, dict) else {}
        return {option.name: valid(option.name, content.get(option.name, option.default)) for option in OPTIONS}

    def set(self, name: str, value: Any) -> None:
        """Raises UserError where the option cannot have that value."""
        write_json(self.path, {**self.values(), name: checked(name, value)})
