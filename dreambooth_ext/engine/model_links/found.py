"""What a site tells about a file before it is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...core.messages.message import Message
from ..downloads.connections import Address

FOLDER = "diffusers"  # the kind of a repository that is a diffusers folder: many files, which the Hub's cache keeps


@dataclass(frozen=True)
class Logins:
    """What this machine knows to log in with; "" for nothing. Each is sent to its own site alone."""

    hub: str = ""
    civitai: str = ""


@dataclass(frozen=True)
class Choice:
    """One of several files behind a link."""

    name: str
    size: int | None  # bytes


@dataclass(frozen=True)
class Found:
    """A file behind a link.

    site: its name. link: one that may be stored and shown; address: what is requested. kind: "checkpoint", "lora",
    "textual_inversion", "hypernetwork" or FOLDER; "" if only the file itself shows it. family: of the base that it is
    or needs, in the site's words. sha256: in hex. choices: all files behind the link, if there are several. files: of a
    folder, name -> bytes. is_whole: whether `link` alone finds it again, without a token or a key in it.
    """

    site: str
    link: str
    address: Address
    name: str
    size: int | None = None
    sha256: str = ""
    kind: str = ""
    family: str = ""
    title: str = ""
    licence: str | Message = ""
    notes: tuple[Message, ...] = ()
    choices: tuple[Choice, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    revision: str = ""
    is_whole: bool = True
