"""One row for each optimizer: nothing else in the package knows an optimizer's name."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.facts.optimizer_facts import (
    EVERYWHERE,
    OPTIMIZERS,
    SMALL,
    optimizer_facts,
    small_forms,
    state_bytes,
)
from dreambooth_ext.engine.optimization.optimizer_creation import class_of, make_optimizer
from dreambooth_ext.host.environment.lock_file import LOCK, Recipe, read_all

from .names import PACKAGE, outside, places, questions

TABLE = "core/facts/optimizer_facts.py"


def test_no_other_file_knows_an_optimizer_by_its_name():
    assert outside(TABLE, OPTIMIZERS, "optimizer") == {}


@pytest.mark.parametrize(
    "source",
    [
        'if name == "prodigy": pass',
        'OWN = ("prodigy",)',
        'x = {"lion": 4}.get(name)',
        'if "8bit" in config.optimizer: pass',
        'config.optimizer.startswith("paged")',
        'match name:\n    case "sgd": pass',
    ],
)
def test_every_way_to_ask_for_a_name_is_noticed(source):
    assert questions(source, OPTIMIZERS, "optimizer")


def test_the_choices_are_the_rows():
    assert SETTINGS["optimizer"].choices == ("auto", *OPTIMIZERS)
    assert EVERYWHERE in OPTIMIZERS and OPTIMIZERS[SMALL].state_bytes < OPTIMIZERS[EVERYWHERE].state_bytes
    assert optimizer_facts("auto") == OPTIMIZERS[EVERYWHERE]


def test_a_name_of_another_trainer_means_one_row():
    names = [name for facts in OPTIMIZERS.values() for name in facts.elsewhere.names + facts.elsewhere.same_steps]
    assert len(names) == len(set(names)) and all(name.isalnum() and name.islower() for name in names)


def test_every_package_is_in_the_lock_and_has_to_import_unless_it_is_optional():
    locked = {row.name for row in read_all(LOCK)}
    recipe = Recipe()
    for facts in OPTIMIZERS.values():
        assert facts.package in locked | {"torch"}
        assert (facts.module in recipe.imports) != facts.is_optional
        assert (facts.package in recipe.optional) == facts.is_optional


@pytest.mark.parametrize("name", [name for name, facts in OPTIMIZERS.items() if not facts.is_optional])
def test_the_bytes_of_a_row_are_those_that_the_optimizer_keeps(name):
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(320, 320, 3, 3))
    optimizer = make_optimizer(RunConfig(optimizer=name), [{"name": "unet", "params": [weight], "rate": 1.0}])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    kept = sum(value.nbytes for value in optimizer.state[weight].values() if torch.is_tensor(value))
    assert isinstance(optimizer, class_of(OPTIMIZERS[name]))
    assert kept / weight.numel() == pytest.approx(state_bytes(name, {}), abs=0.7)  # Adafactor's depend on the shape


def test_copies_of_the_weights_have_their_precision():
    assert state_bytes("prodigy_schedulefree", {}) == pytest.approx(4.4)
    assert state_bytes("prodigy_schedulefree", {}, weight=2) == pytest.approx(2.4)
    assert state_bytes("adamw", {}, weight=2) == 8


def test_a_momentum_takes_memory_only_where_a_row_says_so():
    assert state_bytes("sgd", {"momentum": 0.9}) == 4 and state_bytes("sgd", {}) == 0
    assert state_bytes("lion", {"momentum": 0.9}) == state_bytes("lion", {})


def test_only_the_same_steps_with_a_smaller_state_are_a_small_form():
    assert {name: small_forms(name) for name in ("auto", *OPTIMIZERS) if small_forms(name)} == {
        name: ["adamw8bit", "paged_adamw8bit"] for name in ("auto", "adamw")
    }
    for name in small_forms("adamw"):
        assert OPTIMIZERS[name].state_bytes < OPTIMIZERS["adamw"].state_bytes


def test_the_guide_to_changes_begins_with_the_table_and_is_short():
    found = places("an optimizer")
    assert found[0] == f"dreambooth_ext/{TABLE}" and len(found) == 3


IMAGINARY = """
import json
from dreambooth_ext.core.facts.optimizer_facts import OPTIMIZERS, Elsewhere, OptimizerFacts

OPTIMIZERS["newest"] = OptimizerFacts(
    "torch", "torch.optim", "NAdam", state_bytes=9, finds_rate=True, steps_alone=False,
    elsewhere=Elsewhere(("nadam",), arguments=("betas",)),
)

import torch
from dreambooth_ext.core.checks import config_checks, config_warnings
from dreambooth_ext.core.facts.optimizer_facts import state_bytes
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.rates import rate_problems
from dreambooth_ext.core.checks import kept_gradients
from dreambooth_ext.engine.optimization import optimizer_creation
from dreambooth_ext.host.importers import read

asked, problems = parse({"optimizer": "newest", "method": "lora", "instance_prompt": "zkz", "max_grad_norm": 0})
config = config_checks.check(asked)[0].replace(device="cpu", mixed_precision="no")
usual = parse({"optimizer": "lion"})[0]
high = config_checks.check(config.replace(learning_rate=1.0, text_encoder_lr=1.0))[0]
parameter = torch.nn.Parameter(torch.ones(8))
groups = [{"name": "unet", "params": [parameter], "rate": 1.0}]
imported = read.read('optimizer_type = "NAdam"\\noptimizer_args = ["betas=0.9,0.99", "d0=1"]\\nlearning_rate = 1e-4')
print(json.dumps({
    "problems": [problem.message for problem in problems],
    "guide": config.learning_rate,
    "far from 1": [problem.field for problem in rate_problems(config.replace(learning_rate=1e-4))],
    "strange": [warning.field for warning in config_warnings.warnings(high, 12) if warning.is_grave],
    "named": [w.remedy for w in config_warnings.warnings(high.replace(optimizer="lion"), 12) if w.is_grave][0],
    "fused": [kept_gradients.are_freed(x.replace(max_grad_norm=0, mixed_precision="no")) for x in (config, usual)],
    "bytes": state_bytes(config.optimizer, {}),
    "made": type(optimizer_creation.make_optimizer(config, groups)).__name__,
    "imported": imported.settings,
    "ignored": [item["reason"] for item in imported.ignored],
}))
"""


def test_an_imaginary_optimizer_takes_a_row_and_nothing_else():
    done = subprocess.run(
        [sys.executable, "-c", IMAGINARY], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == [] and found["guide"] == 1.0
    assert found["far from 1"] == ["learning_rate", "text_encoder_lr"] and found["strange"] == []
    assert "find the learning rate themselves (prodigy, prodigy_schedulefree, newest)" in found["named"]
    assert found["fused"] == [False, True] and found["bytes"] == 9 and found["made"] == "NAdam"
    assert found["imported"]["optimizer"] == "newest" and found["imported"]["learning_rate"] == 1.0
    assert found["imported"]["optimizer_args"] == {"betas": [0.9, 0.99]}
    assert "newest has no such argument." in found["ignored"]
    assert "became 1: newest has one learning rate for everything." in found["ignored"]
