"""Looks up what is behind any link to a model, and asks its server about the file; fetches nothing else."""

from __future__ import annotations

import dataclasses
import os
import re
from urllib.parse import urlsplit

from huggingface_hub import get_token

from ...core.config import links
from ...core.errors import UserError
from ...core.messages.message import Message
from ..downloads.http_file import Offer, Transfer, plain_name
from ..downloads.progress_thread import Stage, silent
from . import civitai, hub, shares
from .found import FOLDER, Found, Logins
from .header import with_header

CIVITAI_KEYS = ("CIVITAI_API_KEY", "CIVITAI_API_TOKEN", "CIVITAI_TOKEN")  # of the environment
SITES = (
    (civitai.is_ours, civitai.look_up),
    (hub.is_ours, hub.look_up),
    (shares.is_drive, shares.drive),
    (shares.is_dropbox, shares.dropbox),
)
# What sites call the bases of families that cannot be trained here
OTHERS = re.compile(
    r"flux|sd ?3|stable diffusion 3|hunyuan|pixart|wan|ltxv|qwen|kolors|lumina|aura|pony v7|chroma|hidream|cascade|svd|"
    r"sora|veo|mochi|cogvideo|z-?image|anima\b|ernie|playground",
    re.IGNORECASE,
)


def logins() -> Logins:
    """Those of this machine: Hugging Face's token as its own programs find it, and Civitai's key of the environment."""
    key = next((os.environ[name].strip() for name in CIVITAI_KEYS if os.environ.get(name, "").strip()), "")
    return Logins((get_token() or "").strip(), key)


def look_up(link: str, field: str, *, choice: str = "", known: Logins, public_only: bool = False) -> Found:
    """What is behind a complete link, a Hugging Face name or a Civitai AIR name. Raises UserError.

    choice: one of the files, where there are several. known: what may be used to log in.
    """
    link = links.whole(link).strip()
    is_name = any(is_ours(link) for is_ours, _ in SITES[:2]) and not links.is_link(link)
    if not is_name and urlsplit(links.bare(link) if links.is_link(link) else "").scheme not in ("http", "https"):
        raise UserError("download.no_link", field)
    look = next((look for is_ours, look in SITES if is_ours(link)), shares.direct)
    try:
        found = look(link, choice, known, public_only, field)
    except ValueError as error:  # of urllib.parse
        raise UserError("download.no_link", field) from error
    if found.kind in ("checkpoint", FOLDER) and OTHERS.search(found.family):
        raise UserError("download.other_family", field, name=found.title, family=found.family)
    return found


def offered(found: Found, field: str, stage: Stage = silent) -> tuple[Found, Offer]:
    """The found file with what its own server and its first bytes tell: its name, size, kind, family, and whether it
    may be had. Raises UserError."""
    transfer = Transfer(found.address, field, stage)
    offer = transfer.offer()
    name = plain_name(found.name) if found.name else offer.name
    size = offer.size if offer.size is not None else found.size
    notes = found.notes
    if not found.sha256:
        notes = (*notes, Message("download.no_hash"))
    found = dataclasses.replace(found, address=transfer.address, name=name, size=size, notes=notes)
    return with_header(found, field), offer
