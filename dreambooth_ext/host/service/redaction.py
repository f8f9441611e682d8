"""Removes secrets, and names of the machine's folders, from texts that others may read.

Only the last name of a path is kept, and of a link what `links.bare` leaves. What cannot be recognised for sure is
removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ...core.config import links

HIDDEN = "(hidden)"
SECRETS = re.compile(
    r"\b(?:hf|ghp|gho|ghs|ghu|sk)_[A-Za-z0-9]{12,}"  # tokens of Hugging Face, GitHub and others, by their look
    r"|\bsk-[A-Za-z0-9_-]{20,}"
    r"|(?<=\bBearer )\S+|(?<=\bBasic )[A-Za-z0-9+/=]{8,}"
    r"|(?i:(?<=token=)|(?<=password=)|(?<=passwd=)|(?<=secret=)|(?<=key=))[^\s&'\"]+"
)
PATH_STARTS = (  # of a path where it stands in a text
    r"(?:(?<!\w)\\\\+[?.]\\+)?(?<![A-Za-z0-9])[A-Za-z]:[\\/]+",  # C:\, \\?\C:\
    r"(?<![\w\\])\\\\+(?=[^\s\\?.])",  # \\server
    r"(?<![\w~])~[\w.-]*[\\/]+",  # ~/, ~anna/
    r"(?<![\w.)\]}/<])/+(?=[^\s/])",
)
LETTER = r"[^\n\r\t'\"`\\/:*?<>|]"
INNER = rf"(?:{LETTER}|(?<=\w)'(?=\w)|:(?=[^\s\\/]))"  # O'Brien, 12:30
FOLDER = rf"(?:(?!\s){INNER}*(?<!\s)[\\/]+)"  # names may hold spaces, but neither begin nor end with one
NAME = r"(?:(?:[^\s'\"`\\/:*?<>|,;()]|(?<=\w)'(?=\w))*)"
HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:[\\/]+(?:Users|Documents and Settings))[\\/]+[^\\/]+[\\/]*", re.IGNORECASE)
PLACE = re.compile(f"(?P<link>{links.WITHIN.pattern})|(?:{'|'.join(PATH_STARTS)}){FOLDER}*{NAME}")


class Redaction:
    """Redacts one report: `folders` are recognised as this machine's, whatever characters their names contain."""

    def __init__(self, folders: Iterable[str | Path] = ()):
        known = sorted({str(folder).rstrip("\\/") for folder in folders}, key=len, reverse=True)
        parts = [re.escape(folder).replace(r"\\", r"\\+") for folder in known if len(folder) > 2]
        self._known = re.compile(rf"(?:{'|'.join(parts)})(?P<rest>[\\/]+|(?!\w|[.-]\w))") if parts else None

    def text(self, text: str) -> str:
        """Redact a text of several lines, such as a log."""
        text = SECRETS.sub(HIDDEN, text)
        if self._known:
            text = self._known.sub(lambda found: "~/" if found["rest"] else _last(found[0]), text)
        return PLACE.sub(_shortened, text)

    def value(self, value: Any) -> Any:
        """Redact a setting's value, or any other JSON value."""
        if isinstance(value, dict):
            return {key: self.value(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        if not isinstance(value, str):
            return value
        is_path = _is_path(value) and "," not in value and "\n" not in value  # a setting may hold a list of paths
        return _last(value) if is_path else self.text(value)


def _shortened(found: re.Match[str]) -> str:
    if found["link"] is None:
        return _last(found[0])
    bare = links.bare(found["link"])
    return _last(bare) if bare.startswith("file:") else bare


def _is_path(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith(("~", "\\\\"))


def _last(path: str) -> str:
    """The last name of a path of any system; ~ for a home folder, whose name is a person's."""
    names = [name for name in re.split(r"[\\/]", path) if name.strip()]
    if HOME.fullmatch(path) or names == _home():
        return "~"
    last = names[-1] if names else ""
    return HIDDEN if not last or last.endswith(":") or (len(names) == 1 and last.startswith("~")) else last


def _home() -> list[str]:
    try:
        return [name for name in re.split(r"[\\/]", str(Path.home())) if name]
    except RuntimeError:  # there is none
        return []
