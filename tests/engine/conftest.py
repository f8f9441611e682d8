"""What tests of whole runs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreambooth_ext.engine import worker
from tests.training import Trainer


@pytest.fixture
def trainer(request, tmp_path) -> Trainer:
    """Runs on a tiny SD 1 base, with the usual settings of the tests and those of the module.

    A module may name its own in TRAINER: a dict, or a function that makes one for a folder.
    """
    return made(request, tmp_path)


@pytest.fixture(scope="module")
def shared_trainer(request, tmp_path_factory) -> Trainer:
    """The same for all tests of a module, where none changes its base and pictures."""
    return made(request, tmp_path_factory.mktemp("trainer"))


def made(request, folder: Path) -> Trainer:
    settings = getattr(request.module, "TRAINER", {})
    return Trainer(folder, **(settings(folder) if callable(settings) else settings))


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
