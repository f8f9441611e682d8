"""The graphics devices to choose from, as far as this process knows them: it never imports PyTorch for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from . import probe


def devices(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """[{"name": "cuda:0", "title": "NVIDIA ...", "memory": bytes or None}], the CPU not among them.

    A WebUI's own PyTorch tells them, if it uses a card already; else what the environment's torch said when it was
    made or verified last, `found`: see probe.torch_facts.
    """
    return of_loaded(sys.modules.get("torch")) or of_record(found)


def of_loaded(torch: ModuleType | None) -> list[dict[str, Any]]:
    """Nothing where it has not begun to use the cards: to ask it would take memory on each."""
    try:
        return probe.devices(torch) if torch is not None and torch.cuda.is_initialized() else []
    except Exception:  # a driver may raise anything, and the list is only for choosing
        return []


def of_record(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    known = found.get("devices")
    if isinstance(known, list):
        return [device for device in known if isinstance(device, dict) and isinstance(device.get("name"), str)]
    text = str(found.get("device") or "")  # of an environment that an earlier version made
    if "," not in text:
        return [{"name": "mps", "title": "Apple GPU", "memory": None}] if "MPS" in text else []
    return [{"name": "cuda:0", "title": text, "memory": None}]
