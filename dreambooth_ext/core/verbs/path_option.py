"""The type of the command line's options that name a file or folder."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..config.parsing import to_path


def path(text: str) -> Path:
    """Without quotation marks, and with ~ expanded, which some shells do not do. Raises argparse.ArgumentTypeError."""
    cleaned = to_path(text)
    if not cleaned:
        raise argparse.ArgumentTypeError("needs a path")
    return Path(os.path.expanduser(cleaned))
