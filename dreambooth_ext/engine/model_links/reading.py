"""Reads the small answers of sites: JSON and pages."""

from __future__ import annotations

from email.message import Message as Headers
from typing import Any

from ...core.config import links
from ...core.errors import UserError
from ...core.system import files
from ..downloads.connections import Address, ask
from ..downloads.refusals import explained, patiently

LARGEST = 2**23  # bytes of an answer; Civitai's about a model with hundreds of versions has some 2 MB


def read(address: Address, field: str) -> tuple[bytes, Headers]:
    """The content of a page and its headers. Raises UserError."""

    def once() -> tuple[bytes, Headers]:
        with explained(address, field), ask(address) as answer:
            content = answer.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise UserError("download.odd_answer", field, link=links.bare(address.link))
            return content, answer.headers

    return patiently(once)


def read_json(address: Address, field: str) -> dict[str, Any]:
    """The JSON object that a site answers. Raises UserError, also for anything else."""
    content, _ = read(address, field)
    try:
        answer = files.parse_json(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise UserError("download.odd_answer", field, link=links.bare(address.link))
    return answer
