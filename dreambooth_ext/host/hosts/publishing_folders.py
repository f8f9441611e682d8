"""Where a WebUI keeps its models, by kind, and whether a folder is a WebUI's."""

from __future__ import annotations

from pathlib import Path

from ...core.errors import UserError

CHECKPOINTS = Path("models", "Stable-diffusion")  # in a WebUI's folder
WEBUI_FOLDERS = {
    "checkpoint": CHECKPOINTS,
    "lora": Path("models", "Lora"),
    "textual_inversion": Path("embeddings"),
    "hypernetwork": Path("models", "hypernetworks"),
}


def webui_folder(webui: Path, kind: str) -> Path:
    """The folder of a WebUI for one of WEBUI_FOLDERS' kinds. Raises UserError where `webui` is none."""
    signs = (WEBUI_FOLDERS["checkpoint"], Path("webui.py"), Path("launch.py"))
    is_empty = webui.is_dir() and not any(webui.iterdir())  # a place that is to become one
    if not is_empty and not any((webui / sign).exists() for sign in signs):
        raise UserError("publishing.not_a_webui", "webui", folder=webui)
    return webui / WEBUI_FOLDERS[kind]
