"""Bulk changes of captions, as pure functions: what the tab, the API and the command line do to a set's texts.

A caption is one line; a file with several is changed line by line. As tags, a caption is what stands between
separators; a sentence without one is a single tag.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..data.captions import fill_template, words
from ..errors import UserError
from .variation import tags

SEPARATOR = ","
LONGEST = 4000  # letters of a text that is asked for
MOST_TAGS = 500  # in one change
KINDS = ("replace", "replace_tag", "add", "remove", "first", "sort", "unique", "template", "set")
SORTS = ("frequency", "alphabet")
Captions = Mapping[str, str]  # a picture's name -> its caption, "" for none


@dataclass(frozen=True)
class Edit:
    """One bulk change.

    kind: "replace" finds `find` anywhere in the text, whatever its case if `any_case`, and puts `text` there;
    "replace_tag" does so for whole tags; "add" adds `tags` that are not there yet, at the start if `at_start`; "remove"
    takes `tags` away; "first" moves those of `tags` that are there to the start; "sort" orders tags by `by` and keeps
    the first `keep` where they are; "unique" removes what comes twice; "template" puts the caption into `text` at
    [filewords], with [name] as `word`; "set" gives each picture its text of `texts`.
    """

    kind: str
    find: str = ""
    text: str = ""
    tags: tuple[str, ...] = ()
    any_case: bool = False
    at_start: bool = False
    by: str = "frequency"
    keep: int = 0
    word: str = ""
    texts: Mapping[str, str] | None = None
    separator: str = SEPARATOR

    @classmethod
    def from_dict(cls, asked: Mapping[str, Any]) -> Edit:
        """An edit from JSON. Raises UserError that names the value which does not fit."""
        kinds: dict[str, Any] = {
            "kind": str, "find": str, "text": str, "tags": list, "any_case": bool, "at_start": bool, "by": str,
            "keep": int, "word": str, "texts": dict, "separator": str,
        }  # fmt: skip
        known = {name: value for name, value in asked.items() if value is not None}
        for name, value in known.items():
            if name not in kinds:
                raise UserError("captions.edit_unknown_key", name, names=list(kinds))
            if not isinstance(value, kinds[name]) or (kinds[name] is int and isinstance(value, bool)):
                raise UserError("captions.edit_bad_value", name)
        listed = [*(known.get("tags") or []), *(known.get("texts") or {}).values()]
        if not all(isinstance(one, str) for one in listed):
            raise UserError("captions.edit_bad_value", "tags" if known.get("tags") else "texts")
        if any(len(one) > LONGEST for one in (*listed, *(v for v in known.values() if isinstance(v, str)))):
            raise UserError("captions.edit_too_long", "text", most=LONGEST)
        if len(known.get("tags") or []) > MOST_TAGS:
            raise UserError("captions.edit_too_many_tags", "tags", most=MOST_TAGS)
        if "tags" in known:
            known["tags"] = tuple(known["tags"])
        made = cls(**{"kind": "", **known})
        made.check()
        return made

    def check(self) -> None:
        """Raise UserError for an edit that could not do anything."""
        if self.kind not in KINDS:
            raise UserError("captions.edit_unknown_kind", "kind", kinds=list(KINDS))
        if self.kind in ("replace", "replace_tag") and not self.find.strip():
            raise UserError("captions.edit_nothing_to_find", "find")
        if self.kind in ("add", "remove", "first") and not any(tag.strip() for tag in self.tags):
            raise UserError("captions.edit_no_tags", "tags")
        if self.kind == "sort" and self.by not in SORTS:
            raise UserError("captions.edit_unknown_order", "by", orders=list(SORTS))
        if self.kind == "template" and not self.text.strip():
            raise UserError("captions.edit_no_template", "text")
        if not self.separator.strip():
            raise UserError("captions.no_separator", "separator")


def apply(edit: Edit, captions: Captions) -> dict[str, str]:
    """The captions afterwards, all of them, in the same order."""
    if edit.kind == "set":
        given = edit.texts or {}
        return {name: tidied(given.get(name, text)) for name, text in captions.items()}
    change = _change(edit, captions)
    return {name: tidied("\n".join(map(change, text.split("\n")))) for name, text in captions.items()}


def tidied(text: str) -> str:
    """A caption file's text: single spaces between words, and no empty lines."""
    return "\n".join(line for raw in text.splitlines() if (line := " ".join(raw.split())))


def changed(before: Captions, after: Captions) -> dict[str, str]:
    """Those of `after` that differ."""
    return {name: text for name, text in after.items() if text != before.get(name, "")}


def frequencies(captions: Captions, separator: str = SEPARATOR) -> list[tuple[str, int]]:
    """Each tag with the number of captions that have it, the most frequent first."""
    counts: Counter[str] = Counter()
    for text in captions.values():
        counts.update(list(dict.fromkeys(tag for line in text.split("\n") for tag in tags(line, separator))))
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0].casefold()))


def joined(known: Iterable[str]) -> str:
    return ", ".join(known)


def _change(edit: Edit, captions: Captions) -> Callable[[str], str]:
    """What makes a new caption of an old one."""
    if edit.kind == "replace":
        pattern = re.compile(re.escape(edit.find), re.IGNORECASE if edit.any_case else 0)
        return lambda text: pattern.sub(lambda found: edit.text, text)
    if edit.kind == "template":
        return lambda text: _templated(edit, text)
    of_tags = _tag_changes(edit, captions)

    def change(text: str) -> str:
        known = tags(text, edit.separator)
        made = of_tags(known)
        return text if made == known else joined(made)

    return change


def _tag_changes(edit: Edit, captions: Captions) -> Callable[[list[str]], list[str]]:
    wanted = list(dict.fromkeys(tag.strip() for tag in edit.tags if tag.strip()))
    folded = {tag.casefold() for tag in wanted}

    def added(known: list[str]) -> list[str]:
        there = {tag.casefold() for tag in known}
        new = [tag for tag in wanted if tag.casefold() not in there]
        return new + known if edit.at_start else known + new

    def first(known: list[str]) -> list[str]:
        by_name = {tag.casefold(): tag for tag in known}
        ahead = [by_name[tag.casefold()] for tag in wanted if tag.casefold() in by_name]
        return ahead + [tag for tag in known if tag.casefold() not in folded]

    def replaced(known: list[str]) -> list[str]:
        sought = edit.find.strip().casefold() if edit.any_case else edit.find.strip()
        new = tags(edit.text, edit.separator)
        made = [
            one for tag in known for one in (new if (tag.casefold() if edit.any_case else tag) == sought else [tag])
        ]
        return list(dict.fromkeys(made)) if made != known else known

    def once(known: list[str]) -> list[str]:
        by_name: dict[str, str] = {}
        for tag in known:
            by_name.setdefault(tag.casefold(), tag)
        return list(by_name.values())

    counts = dict(frequencies(captions, edit.separator)) if edit.kind == "sort" else {}
    keys: dict[str, Callable[[str], Any]] = {
        "frequency": lambda tag: (-counts[tag], tag.casefold()), "alphabet": str.casefold,
    }  # fmt: skip
    changes: dict[str, Callable[[list[str]], list[str]]] = {
        "add": added,
        "remove": lambda known: [tag for tag in known if tag.casefold() not in folded],
        "first": first,
        "replace_tag": replaced,
        "sort": lambda known: known[: edit.keep] + sorted(known[edit.keep :], key=keys[edit.by]),
        "unique": once,
    }
    return changes[edit.kind]


def _templated(edit: Edit, text: str) -> str:
    """The caption in its template; one that already has the template's word is left alone, so that it can be applied
    twice."""
    if edit.word and words(edit.word) <= words(text) and "[name]" in edit.text:
        return text
    made = fill_template(edit.text, text, edit.word)
    return re.sub(r"(?:\s*,)+\s*(?=,|$)|^\s*,\s*", "", made).strip()  # commas around a caption that is empty
