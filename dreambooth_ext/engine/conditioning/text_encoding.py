"""Encode prompts to the UNet's conditioning as the WebUI does: tokens, chunks of 75, text encoders, clip skip.

Training captions are plain text, truncated at `max_token_length`, and gradients flow. Prompts to draw have the WebUI's
emphasis and no length limit.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.captions.token_limit import cut, length
from ...core.config.parsing import shown
from ...core.errors import Problem
from ..models.families import TextConditioning
from ..quantisation.frozen_layers import unpack_to
from ..runtime.transfer import sent
from .learned_tokens import Embedding, Embeddings, Piece
from .prompt_syntax import BREAK, CHUNK, chunks, emphasised, parse

_ENDLESS = re.compile(r"(\S{200})(?=\S)")


@dataclass
class Conditioning:
    """The UNet's conditioning: hidden (b, 77 * chunks, width), in SDXL both encoders concatenated; pooled (b,
    projection), SDXL only."""

    hidden_bsd: Tensor
    pooled_bp: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden_bsd)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        pooled = None if self.pooled_bp is None else sent(self.pooled_bp, device, dtype)
        return Conditioning(sent(self.hidden_bsd, device, dtype), pooled)

    def repeat(self, count: int) -> Conditioning:
        """Repeat each row `count` times, keeping copies next to each other."""
        pooled = None if self.pooled_bp is None else self.pooled_bp.repeat_interleave(count, dim=0)
        return Conditioning(self.hidden_bsd.repeat_interleave(count, dim=0), pooled)

    def rows(self, indexes: Sequence[int]) -> Conditioning:
        """Return the rows of these indexes, in their order; an index may come several times."""
        pooled = None if self.pooled_bp is None else self.pooled_bp[list(indexes)]
        return Conditioning(self.hidden_bsd[list(indexes)], pooled)


class TextStack:
    """The tokenizers and text encoders of one model: one pair for SD1 and SD2, two for SDXL.

    form: `Family.text` of the model's family.
    clip_skip: which hidden layer to use, counted from the end, 1 being the last; None for the family's own. With two
    encoders it only affects the first, as the WebUI's "SDXL CLIP-L skip" does.
    max_tokens: where captions are truncated; None for no limit.
    dtype: what layers compute in; norms compute in float32.
    """

    def __init__(
        self,
        tokenizers: Sequence,
        encoders: Sequence[nn.Module],
        form: TextConditioning,
        *,
        clip_skip: int | None = None,
        max_tokens: int | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        assert len(tokenizers) == len(encoders) == len(form.slots)
        self.tokenizers = list(tokenizers)
        self.encoders = list(encoders)
        self.form = form
        self.clip_skip = clip_skip
        self.max_tokens = max_tokens
        self.dtype = dtype
        self.embeddings = Embeddings(self.tokenizers)

    def learn(self, words: Sequence[Embedding]) -> None:
        """Register these words and their vectors, in place of any earlier ones."""
        self.embeddings = Embeddings(self.tokenizers, words)

    def learned_in(self, prompt: str) -> list[Embedding]:
        """Return the learned words that a prompt to draw contains."""
        return self.embeddings.within([piece for text, _ in parse(prompt) for piece in self._pieces(text, 0)])

    def unread(self, index: int) -> list[nn.Module]:
        """Return the parts of encoder number `index` whose output nothing reads: what lies behind the chosen hidden
        layer. Their weights never get a gradient."""
        if self.form.slots[index].projected:
            return []
        text_model = getattr(self.encoders[index], "module", self.encoders[index]).text_model
        layers = list(text_model.encoder.layers)
        behind = layers[len(layers) - self._skip(index) + 1 :]
        return behind if self.form.final_norm else [*behind, text_model.final_layer_norm]

    def _skip(self, index: int) -> int:
        """Return which hidden layer of an encoder is chosen, counted from the end."""
        return (self.clip_skip if index == 0 else None) or self.form.clip_skip

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TextStack:
        for encoder in self.encoders:
            encoder.to(device=device, dtype=dtype)
        return self

    def compute_in(self, dtype: torch.dtype) -> None:
        """Hold and compute all in this dtype from here on."""
        self.dtype = dtype
        for encoder in self.encoders:
            unpack_to(encoder, dtype)

    def encode(self, prompts: Sequence[str], *, emphasis: bool = False) -> Conditioning:
        """Encode a batch of prompts. Gradients flow if enabled. Shorter prompts are padded with empty chunks.

        emphasis: parse the WebUI's syntax (`prompt_syntax.py`); else brackets are plain text.
        """
        hidden, pooled = [], None
        for index, encoder in enumerate(self.encoders):
            if emphasis:
                tokens_bcs, weights_bcs = self.weighted_tokens(prompts, index)
            else:
                tokens_bcs, weights_bcs = self.tokens(prompts, index), None
            states, pooled = self._states(encoder, sent(tokens_bcs.flatten(0, 1), _device(encoder)), index)
            if weights_bcs is not None:
                states = emphasised(states, weights_bcs.flatten(0, 1))
            hidden.append(states.reshape(len(prompts), -1, states.shape[-1]))
            if pooled is not None:  # of a long prompt, the first chunk's is used
                pooled = pooled.reshape(len(prompts), -1, pooled.shape[-1])[:, 0]
        return Conditioning(torch.cat(hidden, dim=-1), pooled)

    def encode_negative(self, prompts: Sequence[str], *, emphasis: bool = False) -> Conditioning:
        """Encode the negative side of classifier-free guidance. For an empty prompt SDXL uses zeros, as it was
        trained."""
        conditioning = self.encode(prompts, emphasis=emphasis)
        if self.form.zeros_for_nothing and not any(prompts):
            pooled = None if conditioning.pooled_bp is None else torch.zeros_like(conditioning.pooled_bp)
            return Conditioning(torch.zeros_like(conditioning.hidden_bsd), pooled)
        return conditioning

    def tokens(self, prompts: Sequence[str], index: int = 0) -> Tensor:
        """Return token ids (b, chunks, 77) for encoder number `index`, each chunk with start, end and padding. Ids from
        `token_limit.SLOTS` on are learned vectors."""
        rows = [chunks([(cut(self._pieces(prompt, index), self.max_tokens), 1.0)], None) for prompt in prompts]
        most = None if self.max_tokens is None else -(-self.max_tokens // CHUNK)  # moving a word can add a chunk
        return self._filled([row[:most] for row in rows], index)

    def weighted_tokens(self, prompts: Sequence[str], index: int = 0) -> tuple[Tensor, Tensor]:
        """Return `tokens` of prompts in the WebUI's syntax, and each token's weight, both (b, chunks, 77)."""
        comma = self.tokenizers[index].convert_tokens_to_ids(",</w>")
        rows = []
        for prompt in prompts:
            parts = [(None if part == BREAK else self._pieces(part[0], index), part[1]) for part in parse(prompt)]
            rows.append(chunks(parts, comma))
        count = max(map(len, rows))
        weights = [[_weights([w for _, w in chunk]) for chunk in [*row, *[[]] * (count - len(row))]] for row in rows]
        return self._filled(rows, index), torch.tensor(weights)

    def _filled(self, rows: list[list[list[tuple[int, float]]]], index: int) -> Tensor:
        """Add start, end and padding to each chunk, and pad all prompts to the same number of chunks."""
        count = max(map(len, rows))
        filled = [row + [[]] * (count - len(row)) for row in rows]
        tokenizer = self.tokenizers[index]
        return torch.tensor([[_chunk(tokenizer, [number for number, _ in chunk]) for chunk in row] for row in filled])

    def chunks(self, prompt: str, emphasis: bool) -> int:
        """Return how many chunks of tokens a prompt takes."""
        tokens_1cs = self.weighted_tokens([prompt])[0] if emphasis else self.tokens([prompt])
        return tokens_1cs.shape[1]

    def count(self, prompt: str) -> int:
        """Return a prompt's length in tokens and learned vectors, without start and end."""
        return sum(map(length, self._pieces(prompt, 0)))

    def cuts(self, prompts: Sequence[str]) -> list[Problem]:
        """Return a warning for each different prompt that is longer than `max_tokens`."""
        if self.max_tokens is None:
            return []
        counts = {prompt: self.count(prompt) for prompt in prompts}
        return [
            Problem(
                "training.caption_cut", "max_token_length", caption=shown(prompt), count=count, most=self.max_tokens
            )
            for prompt, count in counts.items()
            if count > self.max_tokens
        ]

    def _pieces(self, prompt: str, index: int) -> list[Piece]:
        tokenizer = self.tokenizers[index]
        tokens = tokenizer(_in_words(prompt), add_special_tokens=False, truncation=False, verbose=False).input_ids
        return self.embeddings.pieces(tokens, index)

    def _states(self, encoder: nn.Module, tokens_bs: Tensor, index: int) -> tuple[Tensor, Tensor | None]:
        """Return the hidden states that condition the UNet (b, 77, width), and SDXL's pooled projection (b, p) or
        None."""
        halved = self.dtype != torch.float32
        mixed = torch.autocast(tokens_bs.device.type, self.dtype) if halved else contextlib.nullcontext()
        with self.embeddings.put_into(encoder, tokens_bs, index) as known_bs, mixed:
            output = encoder(known_bs, output_hidden_states=True)
        pooled = output.text_embeds.float() if self.form.slots[index].projected else None
        skip = self._skip(index)
        if not self.form.final_norm:
            return output.hidden_states[-skip].float(), pooled
        if skip == 1:
            return output.last_hidden_state.float(), pooled
        text_model = getattr(encoder, "module", encoder).text_model  # `module` where accelerate wraps it
        return text_model.final_layer_norm(output.hidden_states[-skip]), pooled


def _in_words(prompt: str) -> str:
    """Split words of hundreds of letters, since the tokenizer's time grows with their square."""
    return _ENDLESS.sub(r"\1 ", prompt)


def _chunk(tokenizer, ids: list[int]) -> list[int]:
    filling = [tokenizer.pad_token_id] * (CHUNK - len(ids))  # SD1 pads with the end token, OpenCLIP with 0
    return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *filling]


def _weights(weights: list[float]) -> list[float]:
    """Return a chunk's weights, including start, end and padding, which have weight 1."""
    return [1.0, *weights, *[1.0] * (CHUNK - len(weights) + 1)]


def _device(encoder: nn.Module) -> torch.device:
    return next(encoder.parameters()).device
