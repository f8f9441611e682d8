"""Shared by all importers: the imported settings, the subjects, and what may be looked up for them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.checks import config_checks, without_effect
from ...core.config.parsing import convert, shown
from ...core.config.run_config import SETTINGS, RunConfig
from ...core.data import folder_scan
from ...core.facts.methods import title
from ...core.guide import completion
from ...core.messages.message import Message, beside, reason_of

NO_COUNTERPART = Message("import.no_counterpart")
SAME = Message("import.default")
SECRET = re.compile("(hf|huggingface|access)_token$|api_key$|password|secret")  # names of what is shown to nobody


@dataclass
class Imported:
    """The result of an import. `settings` are ours, as `parse` takes them; `ignored` says what was not imported, and
    why."""

    source: str
    settings: dict[str, Any] = field(default_factory=dict)
    ignored: list[dict[str, Any]] = field(default_factory=list)  # {"name", "reason"}, and "value" where there is one
    given: Mapping[str, Any] = field(default_factory=dict)  # what the text says, by its names
    origins: dict[str, str] = field(default_factory=dict)  # ours -> theirs

    def as_dict(self) -> dict[str, Any]:
        return {"source": self.source, "settings": self.settings, "ignored": self.ignored}

    def ignore(self, name: str, reason: str, value: Any = None) -> None:
        item = {"name": str(name)[:100], **beside("reason", reason)}
        value = self.given.get(name) if value is None else value
        if not is_nothing(value) and not SECRET.search(name):
            item["value"] = value[:100] if isinstance(value, str) else shown(value)
        self.ignored.append(item)

    def drop(self, ours: str, reason: str) -> None:
        """Remove an imported setting again, with a reason."""
        self.ignore(self.origins[ours], reason, self.settings.pop(ours))

    def take(self, theirs: str, ours: str, value: Any) -> None:
        """Import a value if the setting accepts it and it is not the default; else record why not."""
        known = SETTINGS[ours]
        try:
            value = convert(known, value)
        except (ValueError, TypeError) as error:
            self.ignore(theirs, reason_of(error))
            return
        if value is None:
            return
        config = RunConfig().replace(**{ours: value})
        problem = next((problem for problem in config_checks.range_problems(config) if problem.field == ours), None)
        if problem:
            self.ignore(theirs, Message("import.unfit", reason=problem.message, remedy=problem.remedy))
        elif value == known.default:
            if value:
                self.ignore(theirs, SAME)
        else:
            self.settings[ours] = value
            self.origins[ours] = theirs

    def settle(self) -> None:
        """Remove settings that the method does not use, or that would have no effect: other trainers ignore these."""
        method = self.settings.get("method", SETTINGS["method"].default)
        for ours in [name for name in self.settings if method not in SETTINGS[name].methods]:
            self.drop(ours, Message("import.unused", method=title(method)))
        config = RunConfig().replace(**self.settings)
        if config.dataset_config:  # with it captions are read
            config = config.replace(use_captions=True)
        config = config.replace(dataset_config=None, network_weights=None)  # nothing is opened here
        for problem in without_effect.problems(config, completion.fill_in(config, 0)[0]):
            self.drop(problem.field, problem.message)


@dataclass
class Subject:
    """One folder of pictures of a subject, with its class pictures."""

    folder: str
    prompt: str
    repeats: int = 1
    class_folder: str = ""
    class_prompt: str = ""
    class_pictures: int | None = None
    mask_folder: str = ""


@dataclass(frozen=True)
class Place:
    """What an import may look up: the host's checkpoints, and folders on this machine."""

    bases: tuple[Mapping[str, str], ...] = ()  # the checkpoints that the host lists, with "title" and "path"
    may_look: bool = True  # into folders that the text names: which ones there are, and how many pictures

    def folders(self, folder: str) -> list[str] | None:
        """Names of the folders in `folder`; None if they cannot be listed."""
        if not self.may_look:
            return None
        try:
            return sorted(path.name for path in Path(folder).iterdir() if path.is_dir() and path.name[0] != ".")
        except (OSError, ValueError):
            return None

    def exists(self, path: str) -> bool:
        try:
            return self.may_look and Path(path).is_absolute() and Path(path).exists()
        except (OSError, ValueError):
            return False

    def pictures(self, folder: str) -> int | None:
        """The number of pictures in `folder`; None if they cannot be counted."""
        if not self.may_look or not folder:
            return None
        try:
            return len(folder_scan.list_pictures(Path(folder)))
        except (OSError, ValueError):
            return None

    def base(self, name: str) -> str:
        """The path of the listed checkpoint with that name or title; else the name."""
        wanted = re.sub(r"(?<!\s)\s*\[[0-9a-f]+\]$", "", name.strip())
        if self.exists(wanted):
            return wanted
        file = re.split(r"[/\\]", wanted)[-1].casefold()
        for base in self.bases:
            if file in (Path(base["path"]).name.casefold(), Path(base["path"]).stem.casefold()):
                return base["path"]
        return wanted


def steps_of(subjects: list[Subject], epochs: int, batch: int, place: Place) -> int | None:
    """The steps in this many epochs; None unless all pictures can be counted."""
    total = 0
    for subject in subjects:
        count = place.pictures(subject.folder)
        if not count:
            return None
        total += count * subject.repeats
    return math.ceil(epochs * total / batch) if subjects else None


def set_subjects(found: Imported, subjects: list[Subject], counts_epochs: bool) -> None:
    """Set one subject as single settings; several, or one with repeats that matter, as concepts."""
    if not subjects:
        return
    first = subjects[0]
    if len(subjects) == 1 and (first.repeats == 1 or not counts_epochs):
        given = {
            "instance_data_dir": first.folder,
            "instance_prompt": first.prompt,
            "class_data_dir": first.class_folder,
            "class_prompt": first.class_prompt,
            "num_class_images": first.class_pictures,
            "mask_dir": first.mask_folder,
        }
        for name, value in given.items():
            if value:
                found.take(name, name, value)
        return
    concepts = []
    for subject in subjects:
        concept: dict[str, Any] = {"instance_data_dir": subject.folder, "instance_prompt": subject.prompt}
        if subject.class_prompt:
            concept |= {"class_data_dir": subject.class_folder, "class_prompt": subject.class_prompt}
            concept["num_class_images"] = subject.class_pictures
        concept["mask_dir"] = subject.mask_folder
        concepts.append({key: value for key, value in concept.items() if value} | {"repeats": subject.repeats})
    found.take("concepts", "concepts", concepts)


def batch_of(values: Mapping[str, Any]) -> int:
    """Pictures per step, counting accumulation; both trainers name the settings as we do."""
    factors = (number(values.get(name), 1) or 1 for name in ("train_batch_size", "gradient_accumulation_steps"))
    return max(1, int(math.prod(factors)))


def number(value: Any, default: float = 0.0) -> float:
    """A number that may be given as text; `default` for anything else."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return default
    return result if abs(result) < 1e12 else default  # more is no number of anything here


def text_of(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def is_nothing(value: Any) -> bool:
    """Whether a value is one of those by which forms and files say "not set"."""
    return value in (None, "", False, 0, "0", "None", "none") or (isinstance(value, list | dict) and not value)
