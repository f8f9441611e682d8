"""Links that share a file from Google Drive or Dropbox, and links to the file itself."""

from __future__ import annotations

import html.parser
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ...core.config import links
from ...core.errors import UserError
from ..downloads.connections import Address, ask
from ..downloads.refusals import explained, patiently
from .found import Found, Logins

DRIVE = "https://drive.usercontent.google.com"
DRIVE_HOSTS = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")
DRIVE_FILE = re.compile(r"/(?:file/)?(?:u/\d+/)?d/([\w-]{10,100})(?:/.*)?")
DRIVE_ID = re.compile(r"[\w-]{10,100}")
DROPBOX_HOSTS = ("dropbox.com", "www.dropbox.com", "dl.dropboxusercontent.com")
DROPBOX_FOLDERS = ("/sh/", "/scl/fo/")
PAGE = 2**20  # bytes of Drive's page that are read


def is_drive(link: str) -> bool:
    return (urlsplit(link).hostname or "") in DRIVE_HOSTS


def drive(link: str, choice: str, logins: Logins, public_only: bool, field: str) -> Found:
    """A file on Google Drive; a large one is behind a page that asks for confirmation. Raises UserError."""
    parts = urlsplit(link)
    query = dict(parse_qsl(parts.query))
    named = re.search(DRIVE_FILE, parts.path)
    id = named[1] if named else query.get("id", "")
    if "/folders/" in parts.path or not DRIVE_ID.fullmatch(id):
        raise UserError("download.drive_no_file", field)
    wanted = {"id": id, "export": "download", "confirm": "t"}
    if query.get("resourcekey"):
        wanted["resourcekey"] = query["resourcekey"]
    address = Address(f"{DRIVE}/download?{urlencode(wanted)}", public_only=public_only, refusal=drive_refusal(field))
    found = confirmed(address, field)
    shown = f"https://drive.google.com/file/d/{id}/view"
    return Found("Google Drive", shown, found, "", is_whole="resourcekey" not in wanted)


def drive_refusal(field: str) -> Any:
    def refusal(status: int, body: bytes) -> UserError | None:
        if b"uota exceeded" in body or b"many users have viewed or downloaded" in body:
            return UserError("download.drive_quota", field)
        return UserError("download.drive_private", field) if status in (401, 403, 404) else None

    return refusal


def confirmed(address: Address, field: str) -> Address:
    """The address of the file itself: that of the form on the page that asks for confirmation, if there is one."""

    def once() -> Address:
        with explained(address, field), ask(address) as answer:
            if answer.headers.get_content_type() != "text/html":
                return address
            if urlsplit(answer.geturl()).hostname == "accounts.google.com":
                raise UserError("download.drive_private", field)
            body = answer.read(PAGE)
        form = Form(body.decode("utf-8", "replace"))
        if refused := drive_refusal(field)(200, body):
            raise refused
        if not form.action.startswith((f"{DRIVE}/", "https://drive.google.com/", "https://docs.google.com/")):
            raise UserError("download.drive_private", field)
        link = f"{form.action}?{urlencode(form.values)}" if form.values else form.action
        return Address(link, public_only=address.public_only, refusal=address.refusal)

    return patiently(once)


class Form(html.parser.HTMLParser):
    """A page's first form: its action, and the values of its hidden fields."""

    def __init__(self, page: str):
        super().__init__()
        self.action = ""
        self.values: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attributes}
        if tag == "form" and not self.action:
            self.action = told.get("action", "")
        elif tag == "input" and told.get("type") == "hidden" and told.get("name"):
            self.values.setdefault(told["name"], told.get("value", ""))


def is_dropbox(link: str) -> bool:
    return (urlsplit(link).hostname or "") in DROPBOX_HOSTS


def dropbox(link: str, choice: str, logins: Logins, public_only: bool, field: str) -> Found:
    """A file shared from Dropbox. Its key (rlkey) is a secret: without it, the link opens nothing."""
    parts = urlsplit(link)
    if parts.path.startswith(DROPBOX_FOLDERS):
        raise UserError("download.dropbox_folder", field)
    query = {**dict(parse_qsl(parts.query, keep_blank_values=True)), "dl": "1"}
    query.pop("raw", None)
    made = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))
    is_whole = not (set(query) - {"dl", "st", "e"})
    return Found("Dropbox", links.bare(link), Address(made, public_only=public_only), "", is_whole=is_whole)


def direct(link: str, choice: str, logins: Logins, public_only: bool, field: str) -> Found:
    """A link to a file itself."""
    shown = links.bare(link)
    host = urlsplit(shown).netloc
    return Found(host, shown, Address(link, public_only=public_only), "", is_whole=shown == link)
