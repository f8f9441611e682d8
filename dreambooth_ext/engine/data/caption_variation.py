"""The random choices of captions during training, and the list of captions that can result."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...core.captions.variation import varies
from ...core.data.concepts import Variation
from ...core.data.prompt_templates import filled
from .picture import Picture


class TorchDraw:
    """`core.captions.variation.Draw` by one of torch's generators."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def below(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def order(self, count: int) -> list[int]:
        return torch.randperm(count, generator=self.generator).tolist()

    def stay(self, count: int, dropout: float) -> list[bool]:
        return (torch.rand(count, generator=self.generator) >= dropout).tolist()


def every_caption(
    pictures: Sequence[Picture], held: Sequence[Picture], variations: Sequence[Variation]
) -> list[str] | None:
    """Return every caption that a batch can contain, once each; None if tags vary, since there are too many to list.

    variations: by concept.
    """
    instances = [p for p in pictures if not p.entry.is_class]
    of_class = [p for p in pictures if p.entry.is_class]
    if any(varies(caption, variations[p.entry.concept]) for p in instances for caption in p.entry.captions):
        return None
    dropped = [""] if any(variations[p.entry.concept].caption_dropout for p in instances) else []
    if any(p.entry.lines for p in instances):
        entries = [p.entry for p in (*instances, *held)]
        lines = [(line, e.word, text) for e in entries for line in e.lines for text in (*e.captions, *dropped)]
        made = [filled(line, text, word) for line, word, text in lines]
        return list(dict.fromkeys([*made, *(p.entry.caption for p in of_class)]))
    return list(dict.fromkeys([*(c for p in (*instances, *of_class, *held) for c in p.entry.captions), *dropped]))
