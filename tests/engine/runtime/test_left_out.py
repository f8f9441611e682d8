"""What libraries import for features of their own stays out of a run, and can be imported afterwards."""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dreambooth_ext.engine.runtime import left_out
from tests.seldom import seldom

REPOSITORY = Path(__file__).parents[3]
TRAINS = """
import json, sys
from dreambooth_ext.engine.runtime.left_out import Standin
from tests import training
training.Trainer(__import__("pathlib").Path(sys.argv[1])).train(method=sys.argv[2])
wanted = [name for name in json.loads(sys.argv[3]) if name in sys.modules]
standins = [name for name, module in sys.modules.items() if isinstance(module, Standin)]
import torch._dynamo, torch.distributed.tensor
real = torch.compile(lambda x: x + 1, backend="eager")(torch.ones(()))
print(json.dumps([wanted, standins, float(real), isinstance(real, torch.distributed.tensor.DTensor)]))
"""


@pytest.mark.parametrize("method", seldom(["dreambooth", "lora"], but=["lora"]))
def test_a_run_imports_neither_compiler_nor_what_it_does_not_use(tmp_path, method):
    names = [*left_out.UNUSED, "sympy", "peft", "bitsandbytes"]
    done = subprocess.run(
        [sys.executable, "-c", TRAINS, str(tmp_path), method, json.dumps(names)],
        cwd=REPOSITORY, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[], [], 2.0, False]


def test_standins_are_there_while_importing_only(monkeypatch):
    """Under names that no other test needs."""
    monkeypatch.setattr(left_out, "COMPILER", "torch.nn.compiler")
    monkeypatch.setattr(left_out, "UNUSED", ("torch.nn.compiler", "torch.sharded"))
    with left_out.left_out():
        disable = importlib.import_module("torch.nn.compiler").disable
        assert disable(len) is len and disable(recursive=False)(len) is len
        sharded = importlib.import_module("torch.sharded.any.thing").Tensor
        assert not isinstance(torch.ones(1), sharded) and sharded(5) and nn.compiler.Frame is not sharded
        assert not gc.isenabled()
    assert gc.isenabled() and not hasattr(nn, "compiler") and "sharded" not in vars(torch)
    for name in ("torch.nn.compiler", "torch.sharded.any.thing"):
        with pytest.raises(ImportError):
            importlib.import_module(name)


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_a_step_without_the_compiler_is_the_same(name):
    def trained(optimizer_class: type[torch.optim.Optimizer]) -> torch.Tensor:
        weight = nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = optimizer_class([weight], lr=0.1)
        for _ in range(3):
            loss = optimizer.step(lambda: (weight**2).sum().backward() or 5)
        assert loss == 5 and torch.is_grad_enabled() and weight.requires_grad
        return weight.detach()

    real = getattr(torch.optim, name)
    ours = type(name, (real,), {"step": real.step})
    assert torch.equal(trained(left_out.uncompiled_step(ours)), trained(real))
