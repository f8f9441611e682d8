"""CLIP's byte-pair vocabulary (Sennrich et al. 2016, arXiv 1508.07909) without any package: a text's tokens, with their
places in it.

The same tokens as those of transformers' CLIPTokenizer without ftfy, which training uses; a test compares them. The
merges stand in the order in which they were learned, from frequent to rare, so a token's number tells how rare it is.
"""

from __future__ import annotations

import itertools
import re
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..messages.message import reason_of
from ..system.files import require_ordinary

BUNDLED = Path(__file__).parents[2] / "engine/models/configs/clip"  # OpenAI's, which SD 1, SD 2 and SDXL use
MERGES = "merges.txt"
LARGEST = 16 * 2**20  # bytes of a vocabulary
MOST_MERGES = 49152 - 256 - 2  # CLIP's; a longer file's others are not read
BYTES = 512  # tokens before the merges: each byte within a word, and at a word's end
END = "</w>"  # of a word
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
SHORTENED = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'ſ")
LONGEST_WORD = 200  # letters; longer ones are split, since the time grows with their square


@dataclass(frozen=True)
class Token:
    """number: its place in the vocabulary, which grows with its rarity. start, end: its letters in the text."""

    text: str  # as in the vocabulary: "sper</w>"
    number: int
    start: int
    end: int


class Vocabulary:
    """The merges of one folder. Thread-safe."""

    def __init__(self, merges: list[tuple[str, str]]):
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._known: dict[str, list[str]] = {}
        letters = [*_byte_letters(), *(letter + END for letter in _byte_letters())]
        self.numbers = {text: number for number, text in enumerate([*letters, *("".join(pair) for pair in merges)])}
        self.numbers |= {text: len(self.numbers) + place for place, text in enumerate(SPECIAL)}

    def __len__(self) -> int:
        return len(self.numbers)

    def tokens(self, text: str) -> list[Token]:
        """The text's tokens without start and end."""
        found: list[Token] = []
        for word, places in _words(text):
            if word in SPECIAL:
                found.append(Token(word, self.numbers[word], places[0], places[-1] + 1))
                continue
            letters = [(_BYTE_LETTERS[byte], at) for c, at in zip(word, places, strict=True) for byte in c.encode()]
            position = 0
            for piece in self._pieces("".join(letter for letter, _ in letters)):
                length = len(piece.removesuffix(END))
                start, end = letters[position][1], letters[position + length - 1][1] + 1
                found.append(Token(piece, self.numbers[piece], start, end))
                position += length
        return found

    def _pieces(self, word: str) -> list[str]:
        """A word's letters, merged pair by pair in the order of the merges."""
        if (known := self._known.get(word)) is not None:
            return known
        pieces = [*word[:-1], word[-1] + END]
        while len(pieces) > 1:
            pairs = list(itertools.pairwise(pieces))
            first = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if first not in self.ranks:
                break
            merged: list[str] = []
            for piece in pieces:
                if merged and (merged[-1], piece) == first and not merged[-1].endswith(END):
                    merged[-1] += piece
                else:
                    merged.append(piece)
            pieces = merged
        if len(self._known) < 50_000:
            self._known[word] = pieces
        return pieces


_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]


def _byte_letters() -> list[str]:
    """A printable letter for each byte, as GPT-2's vocabulary writes them, in the order of the vocabulary."""
    return [chr(byte) for byte in _PRINTABLE] + [chr(256 + place) for place in range(256 - len(_PRINTABLE))]


_ORDER = [*_PRINTABLE, *(byte for byte in range(256) if byte not in _PRINTABLE)]
_BYTE_LETTERS = [letter for _, letter in sorted(zip(_ORDER, _byte_letters(), strict=True))]  # by byte
_PLAIN = re.compile(r"[ -~]*")  # English text, which is quick to split
_PLAIN_WORD = re.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'(?:s|t|re|ve|m|ll|d)|[a-z]{1,200}|[0-9]|[^\sa-z0-9]{1,200}"
)


def _words(text: str) -> Iterator[tuple[str, list[int]]]:
    """The text's words as CLIP splits them, each with its letters' places in the text."""
    if _PLAIN.fullmatch(text):
        for found in _PLAIN_WORD.finditer(text.lower()):
            yield found[0], list(range(*found.span()))
        return
    for letters in _cleaned(text):
        yield from _split("".join(c for c, _ in letters), [at for _, at in letters])


def _cleaned(text: str) -> Iterator[list[tuple[str, int]]]:
    """What stands between spaces, in small letters without control characters, each with its place in the text."""
    run: list[tuple[str, int]] = []
    for at, letter in enumerate(text):
        category = unicodedata.category(letter)
        is_space = letter in " \t\n\r" or category == "Zs"
        if not is_space and (letter in "\0\ufffd" or category.startswith("C")):
            continue
        if is_space or letter.isspace() or _is_chinese(letter):
            yield from _composed(run)
            run = []
        if _is_chinese(letter):
            yield from _composed([(letter, at)])
        elif not is_space and not letter.isspace():
            run.append((letter, at))
    yield from _composed(run)


def _composed(run: list[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """A run with its accents put onto their letters (NFC), in small letters; very long ones in parts."""
    if not run:
        return
    text = "".join(letter for letter, _ in run)
    if unicodedata.is_normalized("NFC", text):
        composed = run
    else:
        composed, group = [], [run[0]]
        for letter, at in [*run[1:], ("", -1)]:
            if letter and (
                unicodedata.combining(letter) or not unicodedata.is_normalized("NFC", group[-1][0] + letter)
            ):
                group.append((letter, at))
                continue
            made = unicodedata.normalize("NFC", "".join(one for one, _ in group))
            composed += [(one, group[0][1]) for one in made]
            group = [(letter, at)]
    places = [at for letter, at in composed for _ in letter.lower()]  # a Turkish I with its dot becomes two
    whole = "".join(letter for letter, _ in composed).lower()  # as a whole: a sigma at the end is another letter
    small = list(zip(whole, places, strict=True))
    for start in range(0, len(small), LONGEST_WORD):
        yield small[start : start + LONGEST_WORD]


def _split(text: str, places: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Letters, single digits, and all else apart from each other; "'s" and the like by themselves."""
    at = 0
    while at < len(text):
        known = next((word for word in (*SPECIAL, *SHORTENED) if text.startswith(word, at)), "")
        if known:
            end = at + len(known)
        elif _kind(text[at]) == "N":
            end = at + 1
        else:
            kind, end = _kind(text[at]), at + 1
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        yield text[at:end], places[at:end]
        at = end


def _kind(letter: str) -> str:
    category = unicodedata.category(letter)[0]
    return category if category in "LN" else "other"


def _is_chinese(letter: str) -> bool:
    code = ord(letter)
    return any(first <= code <= last for first, last in _CHINESE)


_CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class Vocabularies:
    """The vocabularies that were read, by their file's path and time."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], Vocabulary] = {}
        self._reading = threading.Lock()

    def of(self, folder: Path = BUNDLED) -> Vocabulary:
        """The vocabulary in a folder. Raises UserError if it cannot be read."""
        path = folder / MERGES
        try:
            require_ordinary(path, LARGEST)
            about = path.stat()
            key = (str(path), about.st_mtime_ns, about.st_size)
            with self._reading:
                if key not in self._known:
                    self._known = dict(list(self._known.items())[-3:])
                    self._known[key] = Vocabulary(_read(path))
                return self._known[key]
        except (OSError, ValueError) as error:
            raise UserError("words.no_vocabulary", "base_model", file=MERGES, error=reason_of(error)) from error

    def of_base(self, base: str | None) -> Vocabulary:
        """That of a base: its own where it is a folder with one, else the bundled one, which all others have."""
        if base:
            try:
                folder = Path(base).expanduser() / "tokenizer"
                if (folder / MERGES).is_file():
                    return self.of(folder)
            except (OSError, ValueError, RuntimeError):
                pass
        return self.of()


def _read(path: Path) -> list[tuple[str, str]]:
    """The pairs of a merges.txt. Raises ValueError if it is none."""
    lines = path.read_text(encoding="utf-8").strip().split("\n")[1 : MOST_MERGES + 1]
    pairs = [tuple(line.split()) for line in lines]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError("this is no list of merges")
    return [(first, second) for first, second in pairs]


VOCABULARIES = Vocabularies()  # what is read is never changed
