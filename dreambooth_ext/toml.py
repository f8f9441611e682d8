"""TOML, also on Python 3.10, which has no reader of its own: all of TOML 1.0 but dates and times.

`loads` is Python's own reader from 3.11 on. `read` is ours; a test compares the two.
"""

from __future__ import annotations

import re
from typing import Any

try:
    import tomllib
except ImportError:  # Python 3.10
    tomllib = None

ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}
DEEPEST = 100  # arrays and inline tables in each other

_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^,\]}#\n]*")
_INTEGER = re.compile(r"[+-]?(?:0|[1-9](?:_?\d)*)|0x[\da-fA-F](?:_?[\da-fA-F])*|0o[0-7](?:_?[0-7])*|0b[01](?:_?[01])*")
_FLOAT = re.compile(r"[+-]?(?:(?:0|[1-9](?:_?\d)*)(?:\.\d(?:_?\d)*)?(?:[eE][+-]?\d(?:_?\d)*)?|inf|nan)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def loads(text: str) -> dict[str, Any]:
    """Raises ValueError, with the line, for what is no TOML."""
    return tomllib.loads(text) if tomllib else read(text)


def read(text: str) -> dict[str, Any]:
    """The same with nothing but this file."""
    return _Reader(text.replace("\r\n", "\n")).document()


class _Reader:
    def __init__(self, text: str):
        self.text = text
        self.at = 0
        self.closed: set[int] = set()  # ids of tables that were written in one piece: nothing is added to them
        self.headed: set[int] = set()  # ids of tables that had a header of their own
        self.dotted: set[int] = set()  # ids of tables that dotted keys made

    def document(self) -> dict[str, Any]:
        if found := _CONTROL.search(self.text):
            self.at = found.start()
            raise self.error("a control character")
        root: dict[str, Any] = {}
        table = root
        while self.skip(_GAP) < len(self.text):
            if self.text[self.at] == "[":
                table = self.header(root)
            else:
                self.pair(table)
            self.line_end()
        return root

    def error(self, what: str) -> ValueError:
        line = self.text.count("\n", 0, self.at) + 1
        column = self.at - (self.text.rfind("\n", 0, self.at) + 1) + 1
        return ValueError(f"{what} (at line {line}, column {column})")

    def skip(self, pattern: re.Pattern) -> int:
        self.at = pattern.match(self.text, self.at).end()
        return self.at

    def peek(self, what: str) -> bool:
        return self.text.startswith(what, self.at)

    def take(self, what: str) -> bool:
        """Go past `what` if it comes next."""
        if not self.peek(what):
            return False
        self.at += len(what)
        return True

    def expect(self, what: str) -> None:
        if not self.take(what):
            raise self.error(f"{what!r} is missing")

    def line_end(self) -> None:
        self.skip(_BLANK)
        if self.peek("#"):
            self.at = (self.text + "\n").index("\n", self.at)
        if self.at < len(self.text) and self.text[self.at] != "\n":
            raise self.error("the line should end here")

    # --- tables and keys

    def header(self, root: dict[str, Any]) -> dict[str, Any]:
        is_list = self.take("[[") or not self.take("[")
        *path, last = self.key()
        self.expect("]]" if is_list else "]")
        table = root
        for part in path:
            table = self.inner(table, part)
            if id(table) in self.closed:
                raise self.error(f"{part!r} cannot be added to")
        if is_list:
            items = table.setdefault(last, [])
            if not isinstance(items, list) or id(items) in self.closed:
                raise self.error(f"{last!r} is set already")
            items.append({})
            return items[-1]
        found = table.setdefault(last, {})
        if not isinstance(found, dict) or id(found) in self.closed | self.headed | self.dotted:
            raise self.error(f"{last!r} is set already")
        self.headed.add(id(found))
        return found

    def inner(self, table: dict[str, Any], part: str) -> dict[str, Any]:
        """The table of this name in a table, of a list of tables the last one."""
        found = table.setdefault(part, {})
        if isinstance(found, list) and found and id(found) not in self.closed:
            found = found[-1]
        if not isinstance(found, dict):
            raise self.error(f"{part!r} is no table")
        return found

    def key(self) -> list[str]:
        parts = []
        while True:
            self.skip(_BLANK)
            if self.peek('"') or self.peek("'"):
                parts.append(self.string(self.text[self.at]))
            elif found := _BARE_KEY.match(self.text, self.at):
                self.at = found.end()
                parts.append(found[0])
            else:
                raise self.error("a name should stand here")
            self.skip(_BLANK)
            if not self.take("."):
                return parts

    def pair(self, table: dict[str, Any], depth: int = 0) -> None:
        *path, last = self.key()
        for part in path:
            is_new = part not in table
            found = table.setdefault(part, {})
            if not isinstance(found, dict) or id(found) in self.closed | self.headed:
                raise self.error(f"{part!r} cannot be added to")
            if is_new:
                self.dotted.add(id(found))
            table = found
        self.expect("=")
        if last in table:
            raise self.error(f"{last!r} is set twice")
        table[last] = self.value(depth)

    # --- values

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise self.error("nested too deeply")
        self.skip(_BLANK)
        for mark in ('"""', "'''", '"', "'"):
            if self.peek(mark):
                return self.string(mark)
        if self.take("["):
            return self.array(depth)
        if self.take("{"):
            return self.inline_table(depth)
        return self.plain()

    def plain(self) -> Any:
        word = _PLAIN.match(self.text, self.at)[0].rstrip(" \t")
        if word in ("true", "false"):
            result: Any = word == "true"
        elif _INTEGER.fullmatch(word):
            result = int(word, 0 if word[:2] in ("0x", "0o", "0b") else 10)
        elif _FLOAT.fullmatch(word):
            result = float(word)
        elif _DATE.match(word):
            raise self.error("dates and times are not read")
        else:
            raise self.error("a value should stand here; texts stand in quotation marks")
        self.at += len(word)
        return result

    def array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.closed.add(id(items))
        while self.skip(_GAP) < len(self.text) and not self.take("]"):
            items.append(self.value(depth + 1))
            self.skip(_GAP)
            if not self.take(","):
                self.expect("]")
                return items
        if self.text[self.at - 1] != "]":
            raise self.error("']' is missing")
        return items

    def inline_table(self, depth: int) -> dict[str, Any]:
        table: dict[str, Any] = {}
        self.skip(_BLANK)
        if not self.take("}"):
            while True:
                self.pair(table, depth + 1)
                self.skip(_BLANK)
                if not self.take(","):
                    break
            self.expect("}")
        self._close(table)
        return table

    def _close(self, table: dict[str, Any]) -> None:
        self.closed.add(id(table))
        for value in table.values():
            if isinstance(value, dict):
                self._close(value)

    def string(self, mark: str) -> str:
        self.at += len(mark)
        is_long = len(mark) == 3
        if is_long:
            self.take("\n")
        letters = []
        while self.at < len(self.text):
            if self.take(mark):
                while is_long and self.peek(mark[0]) and self.extra(mark):
                    letters.append(mark[0])
                    self.at += 1
                return "".join(letters)
            letter = self.text[self.at]
            if letter == "\n" and not is_long:
                break
            if letter == "\\" and mark[0] == '"':
                letters.append(self.escape(is_long))
            else:
                letters.append(letter)
                self.at += 1
        raise self.error("the text does not end")

    def extra(self, mark: str) -> bool:
        """Whether another quotation mark belongs to a long text's end: up to two may stand before the closing ones."""
        start = self.at
        while start > 0 and self.text[start - 1] == mark[0]:
            start -= 1
        return self.at - start < 5

    def escape(self, is_long: bool) -> str:
        letter = self.text[self.at + 1 : self.at + 2]
        if letter in ESCAPES and letter:
            self.at += 2
            return ESCAPES[letter]
        if letter in ("u", "U"):
            length = 4 if letter == "u" else 8
            digits = self.text[self.at + 2 : self.at + 2 + length]
            is_letter = re.fullmatch(rf"[\da-fA-F]{{{length}}}", digits)
            if not is_letter or not (int(digits, 16) < 0xD800 or 0xE000 <= int(digits, 16) < 0x110000):
                raise self.error(f"\\{letter} needs the number of a letter")
            self.at += 2 + length
            return chr(int(digits, 16))
        if is_long and (gap := re.compile(r"\\[ \t]*\n[ \t\n]*").match(self.text, self.at)):
            self.at = gap.end()
            return ""
        raise self.error("a \\ in a text: write Windows paths in single quotation marks")
