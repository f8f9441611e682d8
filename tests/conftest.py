"""What holds for all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests import forks

gc.disable()  # until all tests are found: nothing of theirs goes away
forks.install()


def pytest_collection_finish() -> None:
    """What was made so far stays, and is looked through no more: with all tests found, each of a worker's own
    collections, two in a run, would take three times as long as a tiny training."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def real_starts() -> Iterator[None]:
    """Programs are started as users start them: for tests of what happens meanwhile."""
    with forks.real_starts():
        yield
