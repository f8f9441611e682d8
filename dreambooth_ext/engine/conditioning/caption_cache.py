"""Conditioning for captions during training: encoded live while the text encoders train, cached once they are
frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch

from ..runtime import memory
from .prompt_syntax import CHUNK
from .text_encoding import Conditioning, TextStack

CACHED_AT_MOST = 2000  # captions; one takes 0.2 MB (SD 1.5) to 0.6 MB (SDXL)
AT_ONCE = 16  # captions; their hidden states of all layers take 50 MB in SD 1.5, 260 MB in SDXL
Progress = Callable[[int, int], None]


class Prompts:
    """Conditioning for captions and preview prompts. `freeze` releases the text encoders."""

    def __init__(self, text: TextStack, device: torch.device):
        self.text: TextStack | None = text.to(device)
        self.device = device
        self.training = False
        self.further: list[str] = []  # captions besides those of batches, for `freeze`
        self._cache: dict[tuple[str, bool], Conditioning] = {}  # by text, and whether it has emphasis
        self._of_base: dict[str, Conditioning] = {}  # captions as the base's text encoders have them

    def __call__(self, captions: Sequence[str]) -> Conditioning:
        """Return the conditioning for training captions."""
        return self._encoded(captions, emphasis=False)

    def drawn(self, prompts: Sequence[str]) -> Conditioning:
        """Return the conditioning for prompts to draw, with the WebUI's emphasis."""
        return self._encoded(prompts, emphasis=True)

    def _encoded(self, texts: Sequence[str], emphasis: bool) -> Conditioning:
        missing = [text for text in texts if (text, emphasis) not in self._cache]
        if missing:
            assert self.text is not None, f"not encoded before the text encoders left memory: {missing}"
            with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
                return self.text.encode(texts, emphasis=emphasis)
        return self._stack([self._cache[text, emphasis] for text in texts], self._cache["", False])

    def negative(self, prompts: Sequence[str]) -> Conditioning:
        """Return the negative side of classifier-free guidance, as `TextStack.encode_negative` does."""
        conditioning = self.drawn(prompts)
        if conditioning.pooled_bp is None or any(prompts):
            return conditioning
        return Conditioning(torch.zeros_like(conditioning.hidden_bsd), torch.zeros_like(conditioning.pooled_bp))

    @torch.no_grad()
    def keep_base(self, captions: Iterable[str], progress: Progress | None = None) -> None:
        """Encode all captions before the text encoders or their words learn, for `of_base`."""
        wanted = [(text, False) for text in dict.fromkeys(["", *captions])]
        self._of_base |= {text: made for (text, _), made in self._encoded_ahead(wanted, progress)}

    def of_base(self, captions: Sequence[str]) -> Conditioning | None:
        """Return the base's conditioning for training captions; None if the text encoders are the base's."""
        return self._stack([self._of_base[text] for text in captions], self._of_base[""]) if self._of_base else None

    @property
    def stack(self) -> TextStack:
        """The text encoders. They must still be in memory."""
        assert self.text is not None, "the text encoders have left memory"
        return self.text

    def train(self) -> None:
        """Enable gradients for the text encoders, but for what has no part in the loss, and clear the cache, since its
        entries would become outdated."""
        self.training = True
        self._cache.clear()
        for index, encoder in enumerate(self.stack.encoders):
            encoder.requires_grad_(True).train()
            for part in self.stack.unread(index):
                part.requires_grad_(False)

    @torch.no_grad()
    def freeze(
        self,
        captions: Iterable[str] | None,
        dtype: torch.dtype,
        drawn: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> None:
        """Stop training the text encoders. If the set of captions is known, encode them and release the encoders.

        If captions cannot be listed in advance (None: shuffled tags) or are too many, the frozen encoders stay, in
        `dtype`. drawn: preview prompts.
        """
        self.training = False
        for encoder in self.stack.encoders:
            encoder.requires_grad_(False).eval()
        captions = None if captions is None else list(dict.fromkeys(["", *captions]))
        if captions is None or len(captions) > CACHED_AT_MOST:
            self.stack.compute_in(dtype)
            return
        known = dict.fromkeys([*captions, *self.further])
        wanted = [*((caption, False) for caption in known), *((prompt, True) for prompt in dict.fromkeys(drawn))]
        self._cache |= dict(self._encoded_ahead(wanted, progress))
        self.text = None

    def _encoded_ahead(
        self, wanted: Sequence[tuple[str, bool]], progress: Progress | None
    ) -> Iterator[tuple[tuple[str, bool], Conditioning]]:
        """Yield each text, and whether it has emphasis, with its conditioning on the CPU.

        They are encoded in batches of texts of one length in chunks, so that none is padded to the length of another.
        """
        groups: dict[tuple[bool, int], list[tuple[str, bool]]] = {}
        for text, emphasis in wanted:
            groups.setdefault((emphasis, self.stack.chunks(text, emphasis)), []).append((text, emphasis))
        done = 0
        for (emphasis, _), group in groups.items():
            texts = [text for text, _ in group]
            encoded = memory.in_batches(partial(self.stack.encode, emphasis=emphasis), texts, AT_ONCE)
            rows = (batch.rows([index]).to("cpu") for batch in encoded for index in range(len(batch)))
            for key, row in zip(group, rows, strict=True):
                yield key, row
                done += 1
                if progress:
                    progress(done, len(wanted))

    def _stack(self, rows: list[Conditioning], nothing: Conditioning) -> Conditioning:
        """Combine cached rows into a batch. Shorter captions are padded with empty chunks, as in `TextStack.encode`.
        nothing: the conditioning of "", such a chunk."""
        length = max(row.hidden_bsd.shape[1] for row in rows)
        empty = nothing.hidden_bsd
        assert empty.shape[1] == CHUNK + 2
        filled = [
            torch.cat([row.hidden_bsd, *[empty] * ((length - row.hidden_bsd.shape[1]) // empty.shape[1])], dim=1)
            for row in rows
        ]
        pooled = None if rows[0].pooled_bp is None else torch.cat([row.pooled_bp for row in rows])
        return Conditioning(torch.cat(filled), pooled).to(self.device)
