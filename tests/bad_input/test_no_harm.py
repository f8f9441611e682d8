"""The programs of the rows do run in careless readers, and the deep check of a host runs none."""

from __future__ import annotations

import contextlib
import json
import pickle

import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.guide import completion
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.service.deep_check import DeepCheck
from tests.bad_input import sound
from tests.bad_input.rows.programs import VICTIM, Evil, script


def test_a_pickled_command_does_run_where_it_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Evil()))
    assert (tmp_path / VICTIM).exists()


def test_the_program_does_write_where_torch_loads_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(RuntimeError):
        torch.jit.load(script("a.ckpt")(tmp_path))
    assert (tmp_path / VICTIM).exists()


def test_the_deep_check_of_a_host(tmp_path, monkeypatch):
    """What `check --base-model` and `POST check {"deep": true}` ask, in a process of its own."""
    monkeypatch.chdir(tmp_path)
    config = RunConfig(base_model=str(script("a.ckpt")(tmp_path)), instance_data_dir=str(sound.pictures()))
    with contextlib.closing(DeepCheck(Environment(), tmp_path / "runs")) as asked:
        (problem,) = asked.inspect(completion.fill_in(config, 1)[0])["problems"]
    assert problem["field"] == "base_model" and "TorchScript program" in problem["message"], json.dumps(problem)
    assert not (tmp_path / VICTIM).exists()
