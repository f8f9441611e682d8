"""What tests of whole runs share."""

from __future__ import annotations

from typing import Any

import pytest

from dreambooth_ext.engine import worker
from tests.training import Trainer


@pytest.fixture
def trainer(tmp_path) -> Trainer:
    """Runs on a tiny SD 1 base, with the usual settings of the tests."""
    return Trainer(tmp_path)


@pytest.fixture
def methods(monkeypatch) -> list[Any]:
    """The methods of the runs that a test makes."""
    found = []
    original = worker.make_method

    def made(*arguments):
        found.append(original(*arguments))
        return found[-1]

    monkeypatch.setattr(worker, "make_method", made)
    return found
