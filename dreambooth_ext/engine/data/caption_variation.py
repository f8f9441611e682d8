"""Random changes to captions during training: choice among several, caption dropout, tag shuffling and tag dropout."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...core.data.concepts import Variation
from ...core.data.prompt_templates import filled
from .picture import Picture


def vary(captions: tuple[str, ...], variation: Variation, drop_at: float, draw: torch.Generator) -> str:
    """Return one of a picture's captions, with caption dropout, tag shuffling and tag dropout applied.

    drop_at: random number in [0, 1) that decides about caption dropout. Tag dropout comes after shuffling, as in
    sd-scripts.
    """
    caption = captions[0]
    if len(captions) > 1:
        caption = captions[int(torch.randint(len(captions), (), generator=draw))]
    if drop_at < variation.caption_dropout:
        return ""
    if not _varies(caption, variation):  # unchanged: with frozen text encoders only this text is cached
        return caption
    tags = _tags(caption, variation.caption_separator)
    kept, rest = tags[: variation.keep_tokens], tags[variation.keep_tokens :]
    if variation.shuffle_tags:
        rest = [rest[i] for i in torch.randperm(len(rest), generator=draw).tolist()]
    if variation.tag_dropout:
        stays = torch.rand(len(rest), generator=draw) >= variation.tag_dropout
        rest = [tag for tag, stay in zip(rest, stays.tolist(), strict=True) if stay]
    return ", ".join(kept + rest)


def every_caption(
    pictures: Sequence[Picture], held: Sequence[Picture], variations: Sequence[Variation]
) -> list[str] | None:
    """Return every caption that a batch can contain, once each; None if tags vary, since there are too many to list.

    variations: by concept.
    """
    instances = [p for p in pictures if not p.entry.is_class]
    of_class = [p for p in pictures if p.entry.is_class]
    if any(_varies(caption, variations[p.entry.concept]) for p in instances for caption in p.entry.captions):
        return None
    dropped = [""] if any(variations[p.entry.concept].caption_dropout for p in instances) else []
    if any(p.entry.lines for p in instances):
        entries = [p.entry for p in (*instances, *held)]
        lines = [(line, e.word, text) for e in entries for line in e.lines for text in (*e.captions, *dropped)]
        made = [filled(line, text, word) for line, word, text in lines]
        return list(dict.fromkeys([*made, *(p.entry.caption for p in of_class)]))
    return list(dict.fromkeys([*(c for p in (*instances, *of_class, *held) for c in p.entry.captions), *dropped]))


def _varies(caption: str, variation: Variation) -> bool:
    """Whether this caption can result in several texts."""
    if not variation.varies_tags:
        return False
    loose = len(_tags(caption, variation.caption_separator)) - variation.keep_tokens
    return loose > (0 if variation.tag_dropout else 1)


def _tags(caption: str, separator: str) -> list[str]:
    return [tag.strip() for tag in caption.split(separator) if tag.strip()]
