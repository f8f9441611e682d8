"""The one list of settings; form, tooltips, command line, API schema, documentation and defaults are made from it.

`RunConfig` is what one run was asked to do; its fields are in `form_sections/`, section by section. A field that is
`None` was left out: `completion.fill_in` fills in what follows from the subject type and the number of pictures before
a run is created, and `engine.plan.resolve` what only the base and the machine can answer (resolution, clip skip, and
everything "auto") when it starts. `stages` has the types that say what is known after each.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..facts.methods import FORMATS, PROMPTED_METHODS
from ..facts.setting import Setting
from .form_sections.data_set import DataSetSettings
from .form_sections.hub import HubSettings
from .form_sections.hypernetwork import HypernetworkSettings
from .form_sections.lora import LoRASettings
from .form_sections.loss import LossSettings
from .form_sections.machine import MachineSettings
from .form_sections.masks import MaskSettings
from .form_sections.model import ModelSettings
from .form_sections.pictures import PictureSettings
from .form_sections.previews import PreviewSettings
from .form_sections.saving import SavingSettings
from .form_sections.textual_inversion import TextualInversionSettings
from .form_sections.training import TrainingSettings
from .form_sections.unconditional import UnconditionalSettings
from .form_sections.verdict import VerdictSettings

Config = TypeVar("Config", bound="RunConfig")  # changes keep what is known of the config


@dataclass(frozen=True)
class RunConfig(
    # dataclasses take the fields of the last one first
    HubSettings,
    VerdictSettings,
    PreviewSettings,
    SavingSettings,
    MachineSettings,
    LossSettings,
    UnconditionalSettings,
    HypernetworkSettings,
    TextualInversionSettings,
    LoRASettings,
    TrainingSettings,
    DataSetSettings,
    MaskSettings,
    PictureSettings,
    ModelSettings,
):
    """What to train, on what, and how. Field names are those of diffusers and kohya."""

    @property
    def model_format(self) -> str:
        """The model file's ending without its dot: `save_format` if the method offers a choice."""
        formats = FORMATS[self.method]
        return self.save_format if self.save_format in formats else formats[0]

    def model_file(self, name: str) -> str:
        """The file name of a model with this name; without an ending it is a folder."""
        return f"{name}.{self.model_format}" if self.model_format else name

    @property
    def pictures_setting(self) -> str:
        """The setting that names the folder of pictures."""
        return "instance_data_dir" if self.method in PROMPTED_METHODS else "train_data_dir"

    @property
    def tokens(self) -> list[str]:
        """The words that the run trains."""
        return _parts(self.placeholder_token)

    def paths(self) -> list[tuple[str, str]]:
        """Every file, folder, Hub name and link that the settings name, each with its field ("base_model",
        "concepts[0].class_data_dir"). For paths inside a data set's own file, see `kohya_dataset.read(...).paths`."""
        found: list[tuple[str, str]] = []

        def note(field: str, path: str) -> str:
            found.append((field, path))
            return path

        self.with_paths(note)
        return found

    def with_paths(self: Config, change: Callable[[str, str], str]) -> Config:
        """The config with each of its `paths` replaced by change(field, path)."""
        changed: dict[str, Any] = {}
        for name, known in SETTINGS.items():
            value = getattr(self, name)
            if known.kind == "path" and isinstance(value, str):
                changed[name] = self._changed(known, name, value, change)
            elif known.kind == "concepts":
                changed[name] = [self._in_concept(f"{name}[{n}].", one, change) for n, one in enumerate(value)]
        return self.replace(**changed)

    def _in_concept(self, field: str, concept: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
        """A concept with its paths changed; its keys have the types of the settings of the same names."""
        return {
            key: self._changed(SETTINGS[key], field + key, value, change)
            if key in SETTINGS and SETTINGS[key].kind == "path" and isinstance(value, str)
            else value
            for key, value in concept.items()
        }

    def _changed(self, known: Setting, field: str, value: str, change: Callable[[str, str], str]) -> str:
        if not value or value in known.words:
            return value
        if known.listed_by and len(_parts(getattr(self, known.listed_by))) > 1:  # one alone may hold a comma
            return ", ".join(change(field, path) for path in _parts(value))
        return change(field, value)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def replace(self: Config, **changes: Any) -> Config:
        return dataclasses.replace(self, **changes)


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _kind(annotation: Any, about: Mapping[str, Any]) -> tuple[str, bool]:
    """A field's kind and whether it may be None, from its annotation: `int | None` is ("int", True)."""
    is_union = isinstance(annotation, types.UnionType)
    members = [t for t in typing.get_args(annotation) if t is not type(None)] if is_union else [annotation]
    return about.get("kind", members[0].__name__), is_union and type(None) in typing.get_args(annotation)


def _settings() -> dict[str, Setting]:
    hints = typing.get_type_hints(RunConfig)
    blank = RunConfig()
    settings = {}
    for item in dataclasses.fields(RunConfig):
        about = dict(item.metadata)
        kind, optional = _kind(hints[item.name], about)
        about.pop("kind", None)
        settings[item.name] = Setting(
            name=item.name, kind=kind, optional=optional, default=getattr(blank, item.name), **about
        )
    return settings


SETTINGS: dict[str, Setting] = _settings()

# Left out, these follow from the guide, the base or the machine; the other optional settings are then off.
FILLED_IN = frozenset(
    name
    for name, known in SETTINGS.items()
    if known.default is None
    and name
    not in (
        *("class_prompt", "class_data_dir", "num_train_epochs", "snr_gamma", "instance_prompt", "text_encoder_2_lr"),
        *("dataset_config", "dataset_name", "model_config"),
    )
    and not name.endswith("_weights")
)
