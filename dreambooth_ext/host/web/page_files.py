"""The page's own files and the headers that they are sent with: standard library only, for both of our servers."""

from __future__ import annotations

import re
from pathlib import Path

from ..environment.interpreter import REPOSITORY

PREFIX = "/dreambooth/v1"  # of all addresses of ours
PAGE = Path(__file__).resolve().parents[1] / "page"
HTML, CSS, SCRIPT = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript"))
TYPES = {".js": SCRIPT, ".css": CSS}
STYLE = REPOSITORY / "style.css"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
NAME = re.compile(r"([a-z]+/)?[a-z][a-z0-9_-]*\.[a-z]+")


def find(name: str) -> tuple[Path, str] | None:
    """(file, media type) of a module or style of the page, by its untrusted path below it; None if there is none."""
    path = PAGE / name if NAME.fullmatch(name) else PAGE
    kind = TYPES.get(path.suffix)
    return (path, kind) if kind and path.is_file() else None
