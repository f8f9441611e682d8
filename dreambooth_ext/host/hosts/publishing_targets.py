"""Programs that draw, as folders to publish into: where each keeps its models, by kind, and what it cannot use.

Without starting them: by their files, for the command line and the tab without a WebUI. What differs between WebUIs is
told by what is there.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.config.run_config import RunConfig
from ...core.errors import Problem, UserError
from ...core.messages.message import Message
from . import comfyui, sdnext

CHECKPOINTS = Path("models", "Stable-diffusion")  # in a WebUI's folder
WEBUI_FOLDERS = {
    "checkpoint": CHECKPOINTS,
    "lora": Path("models", "Lora"),
    "textual_inversion": Path("embeddings"),
    "hypernetwork": Path("models", "hypernetworks"),
}
EMBEDDINGS_AMONG_MODELS = Path("models", "embeddings")  # Forge Neo's
# Modules that move models by themselves, Forge's and its relatives': where one is, hypernetworks do nothing.
MANAGERS = ("backend.memory_management", "ldm_patched.modules.model_management")
# Modules that name every model which such a WebUI can load, and what of them is Stable Diffusion 2.
MODEL_LISTS = (
    "modules_forge.packages.huggingface_guess.model_list",
    "repositories.huggingface_guess.huggingface_guess.model_list",
    "ldm_patched.modules.supported_models",
)
SD2 = "SD20"
PROGRAMS = {"webui": "WebUI", "comfyui": "ComfyUI", "sdnext": "SD.Next"}  # by the options that name their folders
USUAL = ("ComfyUI", "ComfyUI_windows_portable", "sdnext", "SD.Next", "stable-diffusion-webui", "automatic")


@dataclass(frozen=True)
class Target:
    """A program that draws: `program` is one of PROGRAMS, `lacks` as host.Host has it."""

    program: str
    folder: Path
    folders: Mapping[str, Path]
    lacks: Mapping[str, Message]

    def refused(self, config: RunConfig, family: str) -> list[Problem]:
        """What of a config's settings its files cannot be for this program. family: see base_header, "" if unknown."""
        name = PROGRAMS[self.program]
        if self.program == "comfyui":
            return comfyui.refused(config, name)
        return sdnext.refused(config, family, name) if self.program == "sdnext" else []


def named_option(arguments: argparse.Namespace, options: Iterable[str] = PROGRAMS) -> str:
    """Which of these options names a folder; "" without. Raises UserError where several do."""
    named = [option for option in options if getattr(arguments, option)]
    if len(named) > 1:
        raise UserError("command.two_places", named[-1], option=f"--{named[0]}")
    return named[0] if named else ""


def target(program: str, folder: Path) -> Target:
    """The program in a folder that a user named, by one of PROGRAMS. Raises UserError where it is another or none."""
    folder = folder.absolute()
    if program == "comfyui":
        if (root := comfyui.root_of(folder)) is None:
            raise UserError("publishing.not_comfyui", program, folder=folder)
        return Target(program, root, comfyui.folders(root), {})
    if program == "sdnext":
        if (root := sdnext.root_of(folder)) is None:
            raise UserError("publishing.not_sdnext", program, folder=folder)
        return Target(program, root, sdnext.folders(root), sdnext.lacks(PROGRAMS[program]))
    if (folder / sdnext.SIGN).is_file():  # it has the same launchers, and reads embeddings elsewhere
        raise UserError("publishing.is_sdnext", program, folder=folder)
    return Target(program, folder, {kind: webui_folder(folder, kind) for kind in WEBUI_FOLDERS}, lacks(folder))


def recognised(folder: Path, field: str) -> Target:
    """The program in a folder, by its layout. Raises UserError where it is none."""
    for program in ("comfyui", "sdnext", "webui"):
        if folder.is_dir() and is_installed(program, folder):
            return target(program, folder)
    raise UserError("publishing.no_program", field, folder=folder)


def is_installed(program: str, folder: Path) -> bool:
    """Whether the folder is without doubt that program's."""
    if program == "comfyui":
        return comfyui.root_of(folder) is not None
    if program == "sdnext":
        return (folder / sdnext.SIGN).is_file() and sdnext.root_of(folder) is not None
    return (folder / "webui.py").is_file() and (folder / "modules").is_dir() and not (folder / sdnext.SIGN).is_file()


def neighbours(ours: Path) -> Iterator[Target]:
    """Programs around our folder, beside it and in the user's home, under their usual names: nothing is searched."""
    around = [ours.parent.parent] if ours.parent.name == "extensions" else []
    homes = (ours.parent, Path.home(), Path.home() / "Documents")
    for folder in dict.fromkeys([*around, *(home / name for home in homes for name in USUAL)]):
        program = next((program for program in PROGRAMS if is_installed(program, folder)), None)
        if program and folder != ours:
            yield target(program, folder)


def webui_folder(webui: Path, kind: str) -> Path:
    """A WebUI's folder for one of WEBUI_FOLDERS' kinds. Raises UserError if `webui` is not a WebUI."""
    signs = (WEBUI_FOLDERS["checkpoint"], Path("webui.py"), Path("launch.py"))
    is_empty = webui.is_dir() and not any(webui.iterdir())  # a place that is to become one
    if not is_empty and not any((webui / sign).exists() for sign in signs):
        raise UserError("publishing.not_a_webui", "webui", folder=webui)
    if kind == "textual_inversion" and keeps_embeddings_among_models(webui):
        return webui / EMBEDDINGS_AMONG_MODELS
    return webui / WEBUI_FOLDERS[kind]


def keeps_embeddings_among_models(webui: Path) -> bool:
    """Whether embeddings are kept in `models/embeddings`: by the WebUI's options, else by its folders."""
    options = source_of(webui / "modules" / "cmd_args.py")
    if told := re.search(r"--embeddings-dir.*?default=os\.path\.join\((\w+),", options):
        return told[1] == "models_path"
    return (webui / EMBEDDINGS_AMONG_MODELS).is_dir() and not (webui / WEBUI_FOLDERS["textual_inversion"]).is_dir()


def lacks(webui: Path) -> dict[str, Message]:
    """`host.Host.lacks` for a WebUI that is not running."""
    found = {}
    if any(module_file(webui, name).is_file() for name in MANAGERS):
        found["hypernetwork"] = Message("hosts.no_hypernetworks", host=webui)
    lists = [text for name in MODEL_LISTS if (text := source_of(module_file(webui, name)))]
    if lists and not any(re.search(rf"^class {SD2}\b", text, re.MULTILINE) for text in lists):
        found["sd2"] = Message("hosts.no_sd2", host=webui)
    return found


def module_file(webui: Path, name: str) -> Path:
    return webui.joinpath(*name.split(".")).with_suffix(".py")


def source_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
