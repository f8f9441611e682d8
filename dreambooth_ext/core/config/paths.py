"""The paths among the settings, made absolute: a run may be resumed from another folder."""

from __future__ import annotations

import os

from ..system import files
from . import links
from .run_config import SETTINGS, Config


def absolute(config: Config) -> Config:
    """The config with absolute paths.

    Links stay as they are, and so do names that may be on the Hub and do not exist here.
    """

    def fixed(field: str, path: str) -> str:
        known = SETTINGS[field.rpartition(".")[2]]
        if links.is_link(path) or (known.is_remote and not files.expanded(path).exists()):
            return path
        return os.path.abspath(os.path.expanduser(path))

    return config.with_paths(fixed)
