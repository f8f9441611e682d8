"""Reads what a safetensors file says of itself, from its header at the very beginning, before the rest is fetched."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import re
import struct
from typing import Any

from ...core.errors import UserError
from ...core.facts.family_marks import BASE_FAMILIES
from ...core.facts.lora_types import LORA_TYPES
from ...core.system.files import parse_json
from ..downloads.connections import Address, ask
from ..downloads.refusals import NETWORK, explained
from .found import Found

LARGEST = 2**22  # bytes; an SDXL checkpoint's header has 0.4 MB
LORA = re.compile("|".join([*(facts.mark for facts in LORA_TYPES.values() if facts.mark), r"lora_(A|B)\b|_lora\."]))
EMBEDDING = {"emb_params", "clip_l", "clip_g"}
OTHERS = {  # parts of tensor names of families that cannot be trained here
    "double_blocks.": "Flux",
    "joint_blocks.": "Stable Diffusion 3",
    "joint_transformer_blocks.": "Stable Diffusion 3",
}


def with_header(found: Found, field: str) -> Found:
    """The found file with kind and family as its header shows them, where the site tells none. Raises UserError for a
    model that cannot be trained here; a file whose header cannot be read stays as it was told."""
    if (found.kind and found.family) or not found.name.lower().endswith(".safetensors"):
        return found
    with contextlib.suppress(UserError, *NETWORK):
        names, metadata = header_of(found.address, field)
        kind, family = told_by(names, metadata)
        found = dataclasses.replace(found, kind=found.kind or kind, family=found.family or family)
    if found.family in OTHERS.values() and found.kind in ("", "checkpoint"):
        raise UserError("download.other_family", field, name=found.name, family=found.family)
    return found


def header_of(address: Address, field: str) -> tuple[list[str], dict[str, Any]]:
    """The names of a file's tensors, and its metadata. Raises UserError, and what NETWORK names."""
    with explained(address, field), ask(address, most=8 + LARGEST) as answer:
        length = struct.unpack("<Q", exactly(answer, 8))[0]
        if not 2 <= length <= LARGEST:
            raise ValueError("not a header")
        header = parse_json(exactly(answer, length))
    if not isinstance(header, dict):
        raise ValueError("not a header")
    metadata = header.pop("__metadata__", None)
    return list(header), metadata if isinstance(metadata, dict) else {}


def exactly(answer: http.client.HTTPResponse, size: int) -> bytes:
    content = answer.read(size)
    if len(content) < size:
        raise ValueError("cut short")
    return content


def told_by(names: list[str], metadata: dict[str, Any]) -> tuple[str, str]:
    """(kind, family), each "" if it does not show."""
    text = "\n".join(names)
    if set(names) <= EMBEDDING and names:
        return "textual_inversion", "Stable Diffusion XL" if "clip_g" in names else ""
    if LORA.search(text):
        return "lora", str(metadata.get("modelspec.architecture") or metadata.get("ss_base_model_version") or "")[:60]
    if other := next((family for mark, family in OTHERS.items() if mark in text), ""):
        return "", other
    families = (facts for facts in BASE_FAMILIES.values() if any(mark.decode() in text for mark in facts.marks))
    family = next((facts.title for facts in families), "")
    return "checkpoint" if family else "", family
