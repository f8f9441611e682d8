"""The deep check: a config looked at by the engine, in the trainer's environment, with the base and the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import RunConfig
from .environment import Environment

TIME_OUT = 180.0  # seconds


class Inspector:
    """Asks `engine.inspection`, from any thread; the newest question ends older ones, and answers are kept."""

    def __init__(self, environment: Environment, runs_dir: Path):
        self.environment, self.runs_dir = environment, runs_dir

    def inspect(self, config: RunConfig) -> dict[str, Any]:
        """{"plan", "problems": [{"field", "message", "remedy"}], "warnings": [text]} of a completed config.

        What goes wrong is a problem in the answer, never an exception. {"superseded": true} is in the answer where a
        newer question ended this one.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End what is still asked."""
