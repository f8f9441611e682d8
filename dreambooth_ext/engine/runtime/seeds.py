"""Stateless random numbers: every generator is derived from the run's seed and the place where it is used.

A run resumed at step N draws the same numbers as without a break, and needs no random state to be saved.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *parts: int | str) -> int:
    """Return a 63-bit seed for one place: `derive(seed, "noise", step, rank)`."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *parts: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a new generator for one place. On the CPU by default, so that every machine draws the same numbers."""
    return torch.Generator(device).manual_seed(derive(seed, *parts))
