"""Embeddings in prompts: words with learned vectors (textual inversion, Gal et al. 2022, arXiv 2208.01618), as in the
WebUI.

A word is matched by its tokens, so it is case-insensitive, and "cat" also matches at the end of "tom-cat". Each of its
vectors takes the place of one token. The text encoder's token embedding table is neither changed nor enlarged: the
vectors are inserted after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.captions.token_limit import SLOTS, Piece, with_learned

MOST_VECTORS = 75  # vectors that fit into one chunk of the text encoder


@dataclass
class Embedding:
    """A word's vectors: (n, width) for each text encoder of its model."""

    word: str
    vectors: list[Tensor]

    def __len__(self) -> int:
        return len(self.vectors[0])


class Embeddings:
    """The words of one model. tokenizers: those of its text encoders, in order."""

    def __init__(self, tokenizers: Sequence, words: Sequence[Embedding] = ()):
        self.words = list(words)
        starts = [SLOTS + sum(map(len, self.words[:i])) for i in range(len(self.words))]
        self._slots = [range(start, start + len(word)) for start, word in zip(starts, self.words, strict=True)]
        self._known = [self._sought(tokenizer) for tokenizer in tokenizers]

    def _sought(self, tokenizer) -> list[tuple[list[int], range]]:
        """Return each word's tokens with its slots, the longest first."""
        found = [
            (tokenizer(embedding.word, add_special_tokens=False).input_ids, slots)
            for embedding, slots in zip(self.words, self._slots, strict=True)
        ]
        return sorted(found, key=lambda pair: len(pair[0]), reverse=True)

    def pieces(self, tokens: Sequence[int], index: int) -> list[Piece]:
        """Return the tokens of a text for encoder number `index`, with slots in place of learned words."""
        return with_learned(tokens, self._known[index])

    def within(self, pieces: Sequence[Piece]) -> list[Embedding]:
        """Return the words that occur in these pieces."""
        return [word for word, slots in zip(self.words, self._slots, strict=True) if slots in pieces]

    def _may_have(self, is_slot_bs: Tensor) -> bool:
        """Whether there may be slots among these tokens. A card is not asked, since it would be waited for."""
        return bool(self.words) and (is_slot_bs.device.type != "cpu" or bool(is_slot_bs.any()))

    @contextlib.contextmanager
    def put_into(self, encoder: nn.Module, numbers_bs: Tensor, index: int) -> Iterator[Tensor]:
        """Make `encoder`, the model's text encoder number `index`, use the learned vectors for slots inside the `with`
        block, and yield its tokens. Gradients reach the vectors. numbers_bs: tokens and slots, (b, 77)."""
        is_slot_bs = numbers_bs >= SLOTS
        if not self._may_have(is_slot_bs):
            yield numbers_bs
            return
        rows = torch.cat([word.vectors[index].to(numbers_bs.device) for word in self.words])
        places_bs = (numbers_bs - SLOTS).clamp(min=0)

        def with_vectors(table: nn.Module, inputs: tuple, states_bsd: Tensor) -> Tensor:
            return torch.where(is_slot_bs[..., None], rows.to(states_bsd.dtype)[places_bs], states_bsd)

        hook = table_of(encoder).register_forward_hook(with_vectors)
        try:
            yield torch.where(is_slot_bs, 0, numbers_bs)  # any token: its vector is replaced
        finally:
            hook.remove()


def table_of(encoder: nn.Module) -> nn.Embedding:
    """Return a text encoder's token embedding table, one row per token."""
    return getattr(encoder, "module", encoder).get_input_embeddings()  # `module` if accelerate wraps it


def initial_vectors(tokenizer, encoder: nn.Module, text: str, count: int) -> Tensor:
    """Return (count, width) rows of the vocabulary for the tokens of `text`, evenly repeated or skipped as in the
    WebUI."""
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    chosen = [tokens[i * len(tokens) // count] for i in range(count)]
    return table_of(encoder).weight.detach()[chosen].to("cpu", torch.float32, copy=True)


def usual_norm(encoder: nn.Module) -> float:
    """Return the mean norm of the vocabulary's vectors."""
    return table_of(encoder).weight.detach().float().norm(dim=-1).mean().item()


@torch.no_grad()
def limit_norms(vectors: Tensor, longest: float) -> None:
    """Shorten vectors (n, width) that are longer than `longest`, in place."""
    norms_n1 = vectors.norm(dim=-1, keepdim=True)
    vectors.mul_((longest / norms_n1).clamp(max=1))  # a vector of norm 0 gives infinity, which is clamped to 1
