"""Presets: settings saved under a name. The built-in ones follow the guide; the user's own are files in a folder."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...core.config import links
from ...core.config.names import RESERVED
from ...core.config.parsing import parse, shown
from ...core.errors import UserError
from ...core.messages.message import Message, beside
from ...core.system import files
from ..environment.interpreter import REPOSITORY

FOLDER = "presets"  # in a host's data folder
WEBUI_DATA = "dreambooth"  # a WebUI's data folder for us
BUILT_IN = Path(__file__).with_name("presets")
LARGEST = 256 * 1024  # bytes of a preset's file
LONGEST = 60  # letters of a name: in UTF-8, file systems take 255 bytes
MOST = 500  # own presets


@dataclass(frozen=True)
class Preset:
    """Settings saved under a name; `problem` says, as a sentence, why a file cannot be used."""

    name: str
    title: str
    description: str
    built_in: bool
    settings: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), **beside("problem", self.problem)}


class Presets:
    """The built-in presets and those in `folder`, which need not exist. Everything is read when asked for.

    `others`: folders whose presets are available, but never changed.
    """

    def __init__(self, folder: Path | None = None, *others: Path):
        self.folder, self.others = folder, others

    def list(self) -> list[Preset]:
        """The built-in presets, then the user's by name; a damaged file is listed with its problem."""
        own = [_read(path) for path in (*self._files(), *(p for other in self.others for p in _files(other)))]
        return [*built_in(), *sorted(own, key=lambda preset: preset.name.casefold())]

    def get(self, name: str) -> Preset:
        """The preset with that name or title. Raises UserError("preset")."""
        known = self.list()
        for preset in known:
            if _key(name) in (_key(preset.name), _key(preset.title)):
                if preset.problem:
                    raise UserError("service.preset_unusable", "preset", name=preset.name, reason=preset.problem)
                return preset
        names = [preset.name for preset in known]
        raise UserError("service.no_preset", "preset", name=shown(name), names=names)

    def save(self, name: str, settings: Mapping[str, Any], description: str = "") -> Preset:
        """Save settings under a name, replacing the user's preset of that name.

        Raises UserError("preset") for an invalid name, and UserError with the setting's name for an invalid setting.
        """
        assert self.folder is not None
        name = unicodedata.normalize("NFC", name).strip()
        if not re.fullmatch(r"\w[\w ()+-]*", name) or RESERVED.fullmatch(name):
            raise UserError("service.preset_name", "preset", name=shown(name))
        if len(name) > LONGEST:
            raise UserError("service.preset_name_long", "preset", count=len(name), most=LONGEST)
        if any(_key(name) in (_key(preset.name), _key(preset.title)) for preset in built_in()):
            raise UserError("service.preset_name_taken", "preset", name=name)
        config, problems = parse(settings)
        for problem in problems:
            raise problem.as_error()
        there = self._files()
        path = next((path for path in there if _key(path.stem) == _key(name)), self.folder / f"{name}.json")
        if len(there) >= MOST and path not in there:
            raise UserError("service.presets_full", "preset", count=len(there))
        values = {known: value for known, value in config.as_dict().items() if known in settings}
        files.write_json(path, {"description": description.strip()[:1000], "settings": values})
        return _read(path)

    def delete(self, name: str) -> None:
        """Delete a preset. Raises UserError("preset") if it is built in or missing."""
        for path in self._files():
            if _key(path.stem) == _key(name):
                files.patiently(path.unlink)
                return
        if any(_key(name) == _key(preset.name) for preset in built_in()):
            raise UserError("service.preset_built_in", "preset", name=name)
        raise UserError("service.preset_gone", "preset", name=shown(name))

    def _files(self) -> Sequence[Path]:
        return _files(self.folder)


def _files(folder: Path | None) -> list[Path]:
    if folder is None or not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def known_here(webui: Path | None = None) -> Presets:
    """The presets saved in the tab: standalone, in the WebUI that contains this extension, and in a named WebUI."""
    webuis = [REPOSITORY.parent.parent] if REPOSITORY.parent.name == "extensions" else []
    webuis += [webui] if webui else []
    return Presets(REPOSITORY / FOLDER, *(place / WEBUI_DATA / FOLDER for place in webuis))


def built_in() -> list[Preset]:
    """The presets that come with the program, in their order."""
    found = [(files.read_json(path), path.stem) for path in BUILT_IN.glob("*.json")]
    return [
        Preset(name, content["title"], content["description"], True, content["settings"])
        for content, name in sorted(found, key=lambda pair: pair[0]["order"])
    ]


def read_file(path: Path) -> Preset:
    """Read a preset from a named file. Raises UserError("preset")."""
    preset = _read(path)
    if preset.problem:
        raise UserError("service.preset_file", "preset", file=path, reason=preset.problem)
    return preset


def _read(path: Path) -> Preset:
    """Read one of the user's presets; its name is the file's."""
    name = unicodedata.normalize("NFC", path.stem)
    content, problem = _content(path)
    if problem:
        return Preset(name, name, "", False, problem=problem)
    settings = {
        name: links.masked(value) if isinstance(value, str) else value for name, value in content["settings"].items()
    }
    problems = parse(settings)[1]
    if problems:
        first = problems[0]
        problem = Message("service.preset_outdated", setting=first.field, reason=first.message)
    return Preset(name, name, str(content.get("description") or ""), False, {} if problem else settings, problem)


def _content(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a preset's file, {"settings": {...}, ...}, and why it cannot be used, or ""."""
    try:
        if path.stat().st_size > LARGEST:
            return {}, Message("service.preset_too_large")
        content = files.read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        return {}, Message("service.preset_unreadable", error=error)
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        return {}, Message("service.preset_no_settings")
    return content, ""


def _key(name: str) -> str:
    """A key under which names are equal that some file systems treat as equal."""
    return unicodedata.normalize("NFC", name).strip().casefold()
