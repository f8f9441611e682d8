"""The extension's options: a section of the WebUI's settings page, or a JSON file without a WebUI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.system.files import read_json, write_json

PREFIX = "dreambooth_ext_"  # of their names among the WebUI's own


@dataclass(frozen=True)
class Option:
    name: str
    default: str | bool
    label: str
    help: str
    choices: Mapping[str, str] = field(default_factory=dict)  # value -> what it means, in words
    is_secret: bool = False  # told to no page and no report


OPTIONS = (
    Option(
        "runs_folder",
        "",
        "Runs folder",
        "where runs are kept, with their training states; empty: dreambooth/runs in the data folder; takes effect "
        "after a restart",
    ),
    Option(
        "while_training",
        "refuse",
        "Generate during training",
        "with the first two, the WebUI's model leaves the graphics card meanwhile, and Extras, Interrogate, Train and "
        "the checkpoint merger behave like Generate. A run on another device changes nothing. Models that other "
        "extensions load by themselves cannot be held back",
        {
            "refuse": "shows a message instead",
            "wait": "waits for the end of training",
            "share": "keeps working (enough memory for both)",
        },
    ),
    Option(
        "on_close",
        "continue",
        "When the WebUI is closed, a running training",
        "a run that continues is in the tab again after the next start",
        {"continue": "continues", "stop": "saves its state and stops"},
    ),
    Option(
        "publish",
        True,
        "Put trained models into the WebUI's folders",
        "off: they stay in the run's folder until you put them into the WebUI in the tab",
    ),
    Option(
        "intermediate",
        False,
        "Also put intermediate models there",
        "off: only the last model. The others stay in the run's folder, and the tab has a button for each that puts "
        "it into the WebUI",
    ),
    Option(
        "select",
        "final",
        "Select trained models in txt2img",
        "the finished model is the one that training ends with, or that you stop and save",
        {"final": "when training is finished", "every": "after every save", "never": "never"},
    ),
    Option(
        "judge",
        True,
        "Judge runs after training",
        "when nothing else goes on, the trainer draws with each saved model and says which one to keep. It stops "
        "as soon as a run is to begin or you draw, and begins again later",
    ),
    Option(
        "judge_model",
        "",
        "Model that judges likeness",
        "the folder of a CLIP, SigLIP or DINOv2 model on this machine's disk or, for persons, a face recogniser "
        "(.onnx; ArcFace, SFace); empty: the base model judges",
    ),
    Option(
        "subject_type",
        "person",
        "Type of subject when the tab opens",
        "the guide chooses settings by it",
        {"person": "Person", "style": "Style", "object": "Object", "pet": "Pet"},
    ),
    Option(
        "tracker",
        "tensorboard",
        "Tracker",
        "writes files for TensorBoard into the run's folder",
        {"tensorboard": "curves and previews for TensorBoard", "none": "none"},
    ),
    Option(
        "civitai_key",
        "",
        "Civitai API key",
        "for models that Civitai gives only to those who are logged in; made in your account's settings there. "
        "Whoever opens these settings can read it: CIVITAI_API_KEY in the environment is safer",
        is_secret=True,
    ),
)
BY_NAME = {option.name: option for option in OPTIONS}


def checked(name: str, value: Any) -> Any:
    """`value` if it is valid for the option. Raises UserError with the option's name."""
    option = BY_NAME.get(name)
    if option is None:
        raise UserError("web.no_option", name, names=list(BY_NAME))
    if option.choices and value not in option.choices:
        raise UserError("web.no_choice", name, value=shown(value), choices=list(option.choices))
    if not isinstance(value, type(option.default)):
        if isinstance(option.default, bool):
            raise UserError("web.not_flag", name)
        raise UserError("web.not_choice", name)
    return value


def valid(name: str, value: Any) -> Any:
    """`value`, or the option's default if it is invalid: the file may be old or edited by hand."""
    try:
        return checked(name, value)
    except UserError:
        return BY_NAME[name].default


class FileOptions:
    """The options in a JSON file, read again each time, because another process may have changed them."""

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
        """Set an option. Raises UserError if the value is invalid."""
        write_json(self.path, {**self.values(), name: checked(name, value)})
