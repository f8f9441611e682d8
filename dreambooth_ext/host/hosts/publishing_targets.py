"""A WebUI's model folders by kind, how to recognise a WebUI's folder, and which models it cannot load.

Works on the files of a WebUI that is not running, for `--webui` and the tab without a WebUI.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...core.errors import UserError
from ...core.messages.message import Message

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
