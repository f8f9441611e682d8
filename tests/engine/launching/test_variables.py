"""What an earlier launch left in a shell has no effect."""

from __future__ import annotations

import os

import pytest

from dreambooth_ext.engine import worker
from dreambooth_ext.engine.launching import variables
from tests import training
from tests.training import Trainer

WHOLE = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("left", [{"RANK": "0", "WORLD_SIZE": "8"}, {"LOCAL_RANK": "3"}, {"OMPI_COMM_WORLD_SIZE": "4"}])
def test_a_run_does_not_wait_for_processes_of_an_earlier_launch(tmp_path, monkeypatch, left):
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    run = Trainer(tmp_path).create(max_train_steps=1)
    assert training.go_on(run) == worker.DONE, training.log(run)


def test_a_place_among_several_processes_stays(monkeypatch):
    for name, value in {**WHOLE, "PMI_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    variables.drop_leftovers()
    assert os.environ["RANK"] == "1" and "PMI_SIZE" not in os.environ
    monkeypatch.setenv("WORLD_SIZE", "1")
    variables.drop_leftovers()
    assert not [name for name in WHOLE if name in os.environ]
