"""Imports kohya's Textual Inversion: train_textual_inversion.py's options, and kohya_ss' form for it.

https://github.com/kohya-ss/sd-scripts/blob/main/docs/train_textual_inversion.md.
"""

from __future__ import annotations

from typing import Any

from ...core.messages.message import Message
from .common import Imported, is_nothing, number, text_of

TEMPLATES = {"use_object_template": "subject", "use_style_template": "style"}
OF_FORM = {"object template": "subject", "style template": "style"}


def read(flat: dict[str, Any], found: Imported) -> None:
    """Import the word and how it is trained."""
    found.take("token_string", "method", "textual_inversion")
    if word := text_of(flat.get("token_string")):
        found.take("token_string", "placeholder_token", word)
    if weights := text_of(flat.get("weights")):
        found.take("weights", "embedding_weights", weights)
        for name in ("init_word", "num_vectors_per_token"):
            if not is_nothing(flat.get(name)):
                found.ignore(name, Message("import.continued_embedding"))
    else:
        if words := text_of(flat.get("init_word")):
            found.take("init_word", "initializer_token", words)
        count = max(1, int(number(flat.get("num_vectors_per_token"), 1)))
        found.take("num_vectors_per_token", "num_vectors", count)  # its default is 1, the guide's is not
    _template(flat, found)


def _template(flat: dict[str, Any], found: Imported) -> None:
    """Import a built-in prompt template without captions, or else captions alone."""
    chosen = next((ours for name, ours in TEMPLATES.items() if flat.get(name) is True), "")
    chosen = chosen or OF_FORM.get(text_of(flat.get("template")), "")
    if chosen:
        found.take("template", "prompt_template", chosen)
        found.take("template", "use_captions", False)
        return
    found.take("template", "instance_prompt", "[filewords]")
    found.take("template", "use_captions", True)
    found.ignore("template", Message("import.captions_are_prompts"))
    if is_nothing(flat.get("caption_extension")):
        found.take("caption_extension", "caption_extension", ".caption")  # kohya's default
