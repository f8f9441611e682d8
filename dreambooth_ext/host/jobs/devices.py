"""Which devices a run trains on, under one name each: "cuda:0", "cuda:1", "mps", "cpu"."""

from __future__ import annotations

import time

from ...core.config import devices
from ...core.errors import UserError
from ...core.runs.run_folder import Run
from ..environment.environment import Environment

CHOSEN = {"CPU only": "cpu", "Apple GPU (MPS)": "mps"}  # what "auto" is, by the environment's word for the device
FRESH = 2.0  # seconds for which a look at the environment holds: it takes some milliseconds


class Devices:
    """The devices of the runs in one folder; a run's settings never change and are read once."""

    def __init__(self, environment: Environment):
        self.environment = environment
        self._wanted: dict[str, tuple[str, int]] = {}  # by run: its settings device and processes
        self._automatic, self._seen = "cuda", float("-inf")

    def of(self, run: Run) -> tuple[str, ...]:
        """The devices of a run, even of one whose settings cannot be read."""
        if run.id not in self._wanted:
            try:
                self._wanted[run.id] = run.config.device, run.config.processes
            except UserError:
                self._wanted[run.id] = "auto", 1
        device, processes = self._wanted[run.id]
        return tuple(devices.of_processes(self._best() if device == "auto" else device, processes))

    def called(self, wanted: str) -> str:
        """The one name of what a setting `device` means; of several cards the first."""
        return devices.listed(self._best() if wanted == "auto" else wanted)[0]

    def _best(self) -> str:
        if time.monotonic() - self._seen > FRESH:
            self._automatic = CHOSEN.get(self.environment.status().device, "cuda")
            self._seen = time.monotonic()
        return self._automatic
