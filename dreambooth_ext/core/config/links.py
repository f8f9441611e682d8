"""Links to models: which part may be stored or shown, and how the whole link reaches the process that downloads.

A link may hold secrets: a user with a password, a token in its query. So a config holds the bare link, which is all
that files, messages and pages ever see, and carries the whole link in memory (`Link`). A worker gets the whole links in
the environment variable DREAMBOOTH_EXT_LINKS; users can set it for any program of this package, too.
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
    """The bare link as text; `whole` is the link as it was given. Copies made for writing (`as_dict`) are bare text."""

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
    """A `Link` if the text is a link with parts that must not be stored; any other text unchanged."""
    return Link(text) if is_link(text) and bare(text) != text else text


def masked(text: str) -> str:
    """The text with every link in it replaced by its bare form."""
    return WITHIN.sub(lambda found: bare(found[0]), text)


def bare(link: str) -> str:
    """A link without user, query and fragment; only its scheme if the host cannot be recognised."""
    scheme, _, rest = _spelled(link).partition("://")
    authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    host = authority.rpartition("@")[2]
    if not HOST.fullmatch(host):  # a password with a / or ?, say
        return f"{scheme.lower()}://"
    return f"{scheme.lower()}://{host}{slash}{path}"


def whole(link: str) -> str:
    """The link with its secrets, as far as this process knows them."""
    return link.whole if isinstance(link, Link) else link


def _spelled(link: str) -> str:
    """Percent-encode white space, so that it never splits a link."""
    return re.sub(r"\s", lambda found: quote(found[0]), link.strip())


# --- from process to process


def of(config: RunConfig) -> list[str]:
    """The whole links of a config that contain more than may be stored."""
    return [path.whole for _, path in config.paths() if isinstance(path, Link)]


def variables(links: Iterable[str]) -> dict[str, str]:
    """The environment variable that passes whole links to another process, those of this process first; {} without
    links."""
    text = "\n".join(dict.fromkeys([*os.environ.get(VARIABLE, "").split(), *links]))
    return {VARIABLE: text} if text else {}


def taken() -> list[str]:
    """The whole links that this process was given. Removes the variable, so that child processes do not inherit it."""
    return os.environ.pop(VARIABLE, "").split()


def again(text: str, known: str, run: str) -> str:
    """The whole link that a user gives again for a run that started from `known`. Raises UserError if it differs."""
    link = hidden(text)
    if not is_link(known) or bare(text) != known:
        if not known:
            raise UserError("settings.no_base_to_link", "base_model", run=run)
        raise UserError("settings.other_base", "base_model", run=run, base=known)
    return whole(link)


def found(text: str, given: Iterable[str]) -> str:
    """The whole link from `given` whose bare form is `text`; `text` if there is none."""
    return hidden({bare(link): link for link in given}.get(text, whole(text)))


def handed(words: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """A command line's words without secrets, as others can read them, and the variables that carry the whole links."""
    kept, given = [], []
    for word in words:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        link = hidden(value)
        kept.append(f"{option}{equals}{link}")
        given += [link.whole] if isinstance(link, Link) else []
    return kept, variables(given)


def restored(config: Config, given: Iterable[str]) -> Config:
    """The config with its bare links replaced by the matching whole ones."""
    known = list(given)
    return config.with_paths(lambda _, path: found(path, known))
