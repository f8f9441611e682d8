"""Which device a run trains on, under one name each: "cuda:0", "cuda:1", "mps", "cpu"."""

from __future__ import annotations

import time

from ...core.errors import UserError
from ...core.runs.run_folder import Run
from ..environment.environment import Environment

CHOSEN = {"CPU only": "cpu", "Apple GPU (MPS)": "mps"}  # what "auto" is, by the environment's word for the device
FRESH = 2.0  # seconds for which a look at the environment holds: it takes some milliseconds


class Devices:
    """The devices of the runs in one folder; a run's settings never change and are read once."""

    def __init__(self, environment: Environment):
        self.environment = environment
        self._wanted: dict[str, str] = {}  # by run
        self._automatic, self._seen = "cuda", float("-inf")

    def of(self, run: Run) -> str:
        """The device of a run, even of one whose settings cannot be read."""
        if run.id not in self._wanted:
            try:
                self._wanted[run.id] = run.config.device
            except UserError:
                self._wanted[run.id] = "auto"
        return self.called(self._wanted[run.id])

    def called(self, wanted: str) -> str:
        """The one name of what a setting `device` means."""
        return plain(self._best() if wanted == "auto" else wanted)

    def _best(self) -> str:
        if time.monotonic() - self._seen > FRESH:
            self._automatic = CHOSEN.get(self.environment.status().device, "cuda")
            self._seen = time.monotonic()
        return self._automatic


def plain(name: str) -> str:
    """A device as torch names it, with its number if it is a card."""
    name = name.strip().lower()
    return "cuda:0" if name == "cuda" else name
