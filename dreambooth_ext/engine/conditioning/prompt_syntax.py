r"""The WebUI's prompt syntax: (more), (more:1.3), [less], \( for a literal bracket, BREAK; and how emphasis is applied.

Settings are those of a fresh installation: emphasis "Original", commas up to 20 tokens back. A weight changes the text
encoder's output, not its input. Other WebUI syntax (prompt editing between steps, prompts joined by AND) is left as
plain text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

CHUNK = 75  # tokens between the start and end tokens of one text encoder input
COMMA_NEAR = 20  # a full chunk is split at its last comma if that is within so many tokens of its end
BRACKET = 1.1
DEEPEST = 100  # nested brackets of a kind, already ten thousand times the weight; further ones are plain text
BREAK = ("BREAK", -1.0)  # starts a new chunk; inside brackets its weight changes, and it is an ordinary word

_PIECE = re.compile(
    r"\\(?P<escaped>[()\[\]\\]?)|(?P<opening>[(\[])|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|[)\]]|[^\\()\[\]:]+|:"
)
_BREAK = re.compile(r"(?<!\s)\s*\bBREAK\b\s*")


def parse(prompt: str) -> list[tuple[str, float]]:
    """Split a prompt into (text, weight) parts, merging neighbours of equal weight. Returns at least one part."""
    parts: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # start of each bracket that is still open

    def close(bracket: str, factor: float) -> None:
        begin = opened[bracket].pop()
        parts[begin:] = [(text, weight * factor) for text, weight in parts[begin:]]

    for piece in _PIECE.finditer(prompt):
        text = piece[0]
        if piece["escaped"] is not None:
            parts.append((piece["escaped"], 1.0))
        elif piece["opening"] and len(opened[text]) < DEEPEST:
            opened[text].append(len(parts))
        elif piece["weight"] and opened["("] and _is_number(piece["weight"]):
            close("(", float(piece["weight"]))
        elif text == ")" and opened["("]:
            close("(", BRACKET)
        elif text == "]" and opened["["]:
            close("[", 1 / BRACKET)
        else:
            first, *others = _BREAK.split(text)
            parts.append((first, 1.0))
            for other in others:
                parts += [BREAK, (other, 1.0)]
    for bracket, factor in (("(", BRACKET), ("[", 1 / BRACKET)):  # unclosed brackets end with the prompt
        while opened[bracket]:
            close(bracket, factor)
    return _joined(parts) or [("", 1.0)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:  # "1.2.3"
        return False
    return True


def _joined(parts: list[tuple[str, float]]) -> list[tuple[str, float]]:
    grouped = itertools.groupby(parts, key=lambda part: part[1])
    return [("".join(text for text, _ in group), weight) for weight, group in grouped]


def chunks(
    parts: Iterable[tuple[Sequence[int | range] | None, float]], comma: int | None
) -> list[list[tuple[int, float]]]:
    """Split tokens with their weights into chunks of at most CHUNK. Returns at least one chunk, which may be empty.

    parts: token ids with a weight, None for a BREAK; a range of ids stays in one chunk. comma: the comma's token id.
    (If a comma near a chunk's end moves such a range to the next chunk, the WebUI leaves its vectors behind.)
    """
    full: list[list[tuple[int, float]]] = []
    chunk: list[tuple[int, float]] = []
    after_comma = 0  # position after the chunk's last comma; 0 without one
    for numbers, weight in parts:
        if numbers is None:
            full.append(chunk)
            chunk, after_comma = [], 0
            continue
        for piece in numbers:
            together = piece if isinstance(piece, range) else (piece,)
            if piece == comma:
                after_comma = len(chunk) + 1
            elif len(chunk) == CHUNK and after_comma and CHUNK - (after_comma - 1) <= COMMA_NEAR:
                full.append(chunk[:after_comma])
                chunk, after_comma = chunk[after_comma:], 0
            if len(chunk) + len(together) > CHUNK:
                full.append(chunk)
                chunk, after_comma = [], 0
            chunk += [(number, weight) for number in together]
    return [*full, chunk] if chunk or not full else full


def emphasised(states_nsd: Tensor, weights_ns: Tensor) -> Tensor:
    """Multiply each token's output by its weight, then restore each chunk's mean. Chunks with only weights of 1 are
    unchanged. Computed in float32, since a mean in bf16 has only two or three digits."""
    before_nsd = states_nsd.float()
    scaled_nsd = before_nsd * weights_ns[..., None].to(before_nsd)
    scaled_nsd = scaled_nsd * (before_nsd.mean(dim=(1, 2), keepdim=True) / scaled_nsd.mean(dim=(1, 2), keepdim=True))
    plain_n11 = (weights_ns == 1).all(dim=1)[:, None, None]
    return torch.where(plain_n11.to(states_nsd.device), states_nsd, scaled_nsd.to(states_nsd.dtype))
