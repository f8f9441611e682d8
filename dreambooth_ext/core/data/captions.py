"""Text from file names and caption files: rare words, the WebUI's [filewords], prompt templates."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from pathlib import Path

from ..system.files import require_ordinary
from .identifiers import COMMON_WORDS

LARGEST = 64 * 1024  # bytes of a caption file; a text encoder reads some 300 letters
CAMERA_WORDS = "dcim dji dsc dscf dscn gopr img imgp mvimg p pict pxl sam vid"  # what cameras call every file
CAMERA_NAMES = frozenset(CAMERA_WORDS.split())

_DIGITS = re.compile(r"(\d+)")
_LEADING_NUMBERS = re.compile(r"^[-\d]+\s*")  # the WebUI's re_numbers_at_start
_BRACKETED_COUNTER = re.compile(r"\s*\(\d+\)$")
_COUNTER = re.compile(r"(?:\s*\(\d+\)|[\s_-]+\d+)$")
_GLUED_COUNTER = re.compile(r"(?<=\D)\d+$")
_NO_LETTERS = re.compile(r"[\W\d_]+")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_NO_LETTER = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that are not UTF-8
_NO_TEXT = re.compile("[\0-\x06]")  # what letters of two bytes become, read as letters of one


def natural_key(path: Path | str) -> list[tuple[int, int, str]]:
    """A sort key that puts "x (2).jpg" before "x (10).jpg", ignores case, and keeps folders together."""
    key: list[tuple[int, int, str]] = []
    for part in (path,) if isinstance(path, str) else path.parts:
        pieces = _DIGITS.split(part.casefold())
        key += [(0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(pieces) if p]
        key.append((-1, 0, ""))  # the part's end: "a/b" before "a b"
    return key


def identifiers(paths: Iterable[Path]) -> dict[Path, str]:
    """The rare word in each file's name; "" if it has none (IMG_2034.jpg, 0001.png)."""
    paths = list(paths)
    return dict(zip(paths, identifiers_of([path.stem for path in paths]), strict=True))


def identifiers_of(stems: list[str]) -> list[str]:
    """The rare word in each file name without its ending, as `identifiers`.

    A counter is "(1)", " 1", "_1" or "-1" at the end. In "sksper1.jpg" the digit is a counter too, unless another
    picture shows that it belongs to the word: "person1 (3).jpg".
    """
    stems = [spoken(stem) for stem in stems]
    bare = [stem.strip() for stem in stems]
    counted = [_COUNTER.sub("", stem).strip() for stem in stems]
    proven = {word for stem, word in zip(bare, counted, strict=True) if word != stem}
    found = []
    for stem, word in zip(bare, counted, strict=True):
        if word == stem and word not in proven:
            word = _GLUED_COUNTER.sub("", word).strip(" _-")
        letters = _NO_LETTERS.split(word, maxsplit=1)[0].casefold()
        is_subject = any(c.isalpha() for c in word) and letters not in CAMERA_NAMES
        found.append(word if is_subject else "")
    return found


def cleaned_name(path: Path) -> str:
    """The file's name as the WebUI's training tab cleans it for [filewords], and without a counter "(1)"."""
    return _BRACKETED_COUNTER.sub("", _LEADING_NUMBERS.sub("", spoken(path.stem))).strip()


def spoken(name: str) -> str:
    """A name without bytes that are not text, which no tokenizer accepts."""
    return _NO_LETTER.sub("", name)


def caption_path(picture: Path, extension: str) -> Path:
    return picture.with_name(picture.stem + "." + extension.lstrip("."))


def read_caption(picture: Path, extension: str) -> str | None:
    """The caption file's text on one line; None if the file is missing or empty.

    Raises UnicodeDecodeError and OSError.
    """
    try:
        lines = read_lines(caption_path(picture, extension))
    except FileNotFoundError:
        return None
    return " ".join(lines) or None


def read_lines(path: Path | str) -> list[str]:
    """A caption file's lines, without the empty ones, each with single spaces between its words.

    Raises UnicodeDecodeError and OSError.
    """
    require_ordinary(path, LARGEST)
    with open(path, "rb") as stream:
        return lines_of(stream.read())


def lines_of(content: bytes) -> list[str]:
    """The lines of a caption file's content, as `read_lines`. Raises UnicodeDecodeError."""
    return [line for raw in decoded(content).splitlines() if (line := " ".join(raw.split()))]


def decoded(content: bytes) -> str:
    """A file's text: UTF-8, or UTF-16 with its byte order mark, as Windows writes it.

    Raises UnicodeDecodeError, also for UTF-16 without its mark, which has zeros between the letters.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    if found := _NO_TEXT.search(text):
        raise UnicodeDecodeError("utf-8", content, found.start(), found.end(), "this is no text")
    return text


def has_template(prompt: str | None) -> bool:
    return prompt is not None and ("[filewords]" in prompt or "[name]" in prompt)


def fill_template(prompt: str, filewords: str, name: str) -> str:
    return " ".join(prompt.replace("[filewords]", filewords).replace("[name]", name).split())


def words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def rare_words(instance_prompt: str, class_prompt: str | None) -> set[str]:
    """The prompt's words that can only mean the subject: neither common nor in the class prompt."""
    return words(instance_prompt) - words(class_prompt or "") - COMMON_WORDS


def with_subject(text: str, prompt: str, rare: set[str]) -> str:
    """A caption that names the subject: `text` if it already does, else the prompt followed by it.

    Training on captions without the rare word would give the word no meaning.
    """
    return text if not rare or rare & words(text) else f"{prompt}, {text}"
