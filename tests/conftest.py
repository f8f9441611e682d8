"""What holds for all tests."""

from __future__ import annotations

import gc

gc.disable()  # until all tests are found: nothing of theirs goes away


def pytest_collection_finish() -> None:
    """What was made so far stays, and is looked through no more: with all tests found, each of a worker's own
    collections, two in a run, would take three times as long as a tiny training."""
    gc.freeze()
    gc.enable()
