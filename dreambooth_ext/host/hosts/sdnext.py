"""SD.Next as a place to publish to: its folders, by its files and without starting it, and what it cannot use.

Its rules, as of July 2026: `config.json` can move each folder; there are no hypernetworks; SDXL that predicts v is told
by the tensors `v_pred` and `ztsnr`, or by "vpred" in the name.
"""

from __future__ import annotations

from pathlib import Path

from ...core.config.run_config import RunConfig
from ...core.errors import Problem
from ...core.facts.family_marks import BASE_FAMILIES
from ...core.messages.message import Message
from ...core.system.files import read_json

SIGN = "installer.py"  # beside launch.py; no other program of the family has it
FOLDERS = {"checkpoint": "Stable-diffusion", "lora": "Lora", "textual_inversion": "embeddings"}  # in `models`
OPTIONS = {"checkpoint": "ckpt_dir", "lora": "lora_dir", "textual_inversion": "embeddings_dir"}
UNUSED = {"hypernetwork": "hypernetworks"}  # the folder that it had


def root_of(folder: Path) -> Path | None:
    """The folder, if it is SD.Next's or that of its data."""
    is_program = (folder / SIGN).is_file() and (folder / "launch.py").is_file()
    is_data = (folder / "models" / FOLDERS["checkpoint"]).is_dir() and not (folder / "modules").is_dir()
    return folder if is_program or is_data else None


def folders(root: Path) -> dict[str, Path]:
    """Kind -> its folder, as its config.json says, else as it is by default. Relative ones are in its own folder."""
    try:
        said = read_json(root / "config.json")
    except (OSError, ValueError):
        said = {}

    def named(option: str, default: Path) -> Path:
        value = said.get(option) if isinstance(said, dict) else None
        return root / value if isinstance(value, str) and value else default

    models = named("models_dir", root / "models")
    found = {kind: named(OPTIONS[kind], models / name) for kind, name in FOLDERS.items()}
    return found | {kind: models / name for kind, name in UNUSED.items()}


def lacks(program: str) -> dict[str, Message]:
    """See host.Host.lacks."""
    return {"hypernetwork": Message("hosts.no_hypernetworks", host=program)}


def refused(config: RunConfig, family: str, program: str) -> list[Problem]:
    """What of a config's models it could not use: of embeddings in `.pt` files it reads those of one text encoder."""
    of_two = family in BASE_FAMILIES and BASE_FAMILIES[family].text_encoders > 1
    if config.method == "textual_inversion" and config.save_format == "pt" and of_two:
        return [Problem("hosts.no_pt_for_sdxl", "save_format", host=program)]
    return []
