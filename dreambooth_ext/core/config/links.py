"""Links to models: what of them may be written down, and how the rest reaches the process that downloads.

A link may hold secrets: a user with a password, a token in its query. So a config holds the bare link, which is all
that files, messages and pages ever see, and carries the whole one along in memory (`Link`). A worker is given the whole
links in the variable DREAMBOOTH_EXT_LINKS of its environment, and so can be any program of this package by its user.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..errors import UserError

if TYPE_CHECKING:
    from .run_config import Config, RunConfig

VARIABLE = "DREAMBOOTH_EXT_LINKS"  # whole links, separated by white space
SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+://")  # of two letters at least: C:// is a disk
WITHIN = re.compile(SCHEME.pattern.removeprefix(r"\s*") + r"[^\s\"'<>]+")  # a link in a text
HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[^:@\\\[\]]*)(:\d*)?")  # with its port


class Link(str):
    """The bare link as text; `whole` is what was given. Copies made for writing, `as_dict`'s too, are bare texts."""

    whole: str

    def __new__(cls, whole: str) -> Link:
        made = super().__new__(cls, bare(whole))
        made.whole = _spelled(whole)
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def is_link(text: str) -> bool:
    return SCHEME.match(text) is not None


def hidden(text: str) -> str:
    """A `Link` for a link with something that must not be written down; any other text as it is."""
    return Link(text) if is_link(text) and bare(text) != text else text


def masked(text: str) -> str:
    """A text with the bare links in the place of those in it."""
    return WITHIN.sub(lambda found: bare(found[0]), text)


def bare(link: str) -> str:
    """A link without user, query and fragment; of one whose host cannot be told only the scheme is left."""
    scheme, _, rest = _spelled(link).partition("://")
    authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    host = authority.rpartition("@")[2]
    if not HOST.fullmatch(host):  # a password with a / or ?, say
        return f"{scheme.lower()}://"
    return f"{scheme.lower()}://{host}{slash}{path}"


def whole(link: str) -> str:
    """All that is known of a link here."""
    return link.whole if isinstance(link, Link) else link


def _spelled(link: str) -> str:
    """White space as links spell it, so that none separates the parts of one."""
    return re.sub(r"\s", lambda found: quote(found[0]), link.strip())


# --- from process to process


def of(config: RunConfig) -> list[str]:
    """The whole links of a config, as far as they hold more than may be written down."""
    return [path.whole for _, path in config.paths() if isinstance(path, Link)]


def variables(links: Iterable[str]) -> dict[str, str]:
    """The environment's variable that gives them to a process, after those that this one has; none where there are
    none."""
    text = "\n".join(dict.fromkeys([*os.environ.get(VARIABLE, "").split(), *links]))
    return {VARIABLE: text} if text else {}


def taken() -> list[str]:
    """The whole links that this process was given. The variable is gone then: no program that it starts inherits it."""
    return os.environ.pop(VARIABLE, "").split()


def again(text: str, known: str, run: str) -> str:
    """A whole link that is given anew for a run, which began from `known`. Raises UserError for another one."""
    link = hidden(text)
    if not is_link(known) or bare(text) != known:
        if not known:
            raise UserError("settings.no_base_to_link", "base_model", run=run)
        raise UserError("settings.other_base", "base_model", run=run, base=known)
    return whole(link)


def found(text: str, given: Iterable[str]) -> str:
    """The whole one of these links where the text is its bare one."""
    return hidden({bare(link): link for link in given}.get(text, whole(text)))


def handed(words: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """A command line's words without secrets, for all can read those, and the variables that give the whole links."""
    kept, given = [], []
    for word in words:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        link = hidden(value)
        kept.append(f"{option}{equals}{link}")
        given += [link.whole] if isinstance(link, Link) else []
    return kept, variables(given)


def restored(config: Config, given: Iterable[str]) -> Config:
    """The config with these whole links where it holds their bare ones."""
    known = list(given)
    return config.with_paths(lambda _, path: found(path, known))
