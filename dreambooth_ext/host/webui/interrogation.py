"""The WebUI's own Interrogate, where it has one: CLIP with BLIP, which says a sentence, and DeepBooru, which says tags.

Both load their models by themselves, and the WebUI fetches them the first time, as its own buttons do.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

from modules import call_queue, shared
from PIL import Image

CLIP, DEEPBOORU = "CLIP", "DeepBooru"
KINDS = {CLIP: "sentences", DEEPBOORU: "tags"}


def found() -> dict[str, Callable[[Any], str]]:
    """Name -> what says a text for a picture."""
    known: dict[str, Callable[[Any], str]] = {}
    interrogator: Any = getattr(shared, "interrogator", None)
    if hasattr(interrogator, "interrogate"):
        known[CLIP] = interrogator.interrogate
    model: Any = getattr(sys.modules.get("modules.deepbooru"), "model", None)  # loaded where the WebUI has it
    if hasattr(model, "tag"):
        known[DEEPBOORU] = model.tag
    return known


def interrogate(name: str, content: bytes) -> str:
    """What one of them says of a picture (JPEG). Waits until no picture is being drawn."""
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture, call_queue.queue_lock:
        return " ".join(str(found()[name](picture.convert("RGB"))).split())
