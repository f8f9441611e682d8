"""The setting `offload`: how much of the UNet's blocks lives in the computer's memory while it trains."""

from __future__ import annotations

from ..errors import Problem
from .parsing import shown

AUTO, OFF = "auto", "off"


def offload_share(value: str) -> float:
    """The share of the blocks' weights that lives outside the card, from 0 to 1; as long as it is open, 0. Raises
    ValueError."""
    if value in (AUTO, OFF):
        return 0.0
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(value)
    return share


def offload_problems(value: str) -> list[Problem]:
    """The problem of a value that is neither a share nor a word that is known."""
    try:
        offload_share(value)
    except ValueError:
        return [Problem("settings.offload_share", "offload", value=shown(value))]
    return []
