"""What fetching a tagger from Hugging Face would bring: sizes, hashes and licence, before any of it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from huggingface_hub import HfApi, constants

from ...core.config import links
from ...core.errors import UserError
from ..downloads import hub_files

TIME_OUT = 30.0  # seconds
FIELD = "tagger"


def run(arguments: argparse.Namespace) -> str:
    """{"name", "licence", "size", "files": [{"name", "size", "sha256"}]} as JSON. Raises UserError."""
    name = arguments.repository
    if constants.HF_HUB_OFFLINE:
        raise UserError("tagging.unreachable", FIELD, name=name, error="HF_HUB_OFFLINE=1")
    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=TIME_OUT)
    except hub_files.REACH as error:
        why = f"{type(error).__name__}: {links.masked(str(error))[:200]}"
        raise UserError("tagging.unreachable", FIELD, name=name, error=why) from error
    known = {one.rfilename: one for one in info.siblings or []}
    if missing := [file for file in arguments.files if file not in known]:
        raise UserError("download.hub_no_file", FIELD, name=name, file=missing[0])
    card: Any = info.card_data
    files = [
        {"name": file, "size": known[file].size or 0, "sha256": known[file].lfs.sha256 if known[file].lfs else ""}
        for file in arguments.files
    ]
    told = {"name": name, "licence": str(getattr(card, "license", None) or ""), "files": files}
    return json.dumps({**told, "size": sum(one["size"] for one in files)})
