"""One row for each type of LoRA: nothing else in the package knows a type's name."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dreambooth_ext.core.config.form_sections.lora import NETWORK_TARGETS
from dreambooth_ext.core.config.run_config import SETTINGS
from dreambooth_ext.core.facts.lora_types import CONVOLUTIONS, LORA_TYPES, USUAL, explained, types_with, variant
from dreambooth_ext.engine.models.detection import addition_to_a_model
from dreambooth_ext.engine.networks import layer_adapters

from .names import PACKAGE, outside, places, questions

OWN_NAMES = set(LORA_TYPES) - {"lora"}  # which is also a method, a kind of file and a folder
TABLE = "core/facts/lora_types.py"


def test_no_other_file_knows_a_type_by_its_name():
    assert outside(TABLE, OWN_NAMES, "network_type") == {}


@pytest.mark.parametrize(
    "source",
    [
        'if kind in ("loha", "lokr"): pass',
        'x = {"dora": 8}.get(kind, 0)',
        'if config.network_type == "lora": pass',
        'config.network_type.startswith("lo")',
    ],
)
def test_every_way_to_ask_for_a_name_is_noticed(source):
    assert questions(source, OWN_NAMES, "network_type")


def test_the_choices_are_the_rows():
    assert SETTINGS["network_type"].choices == tuple(LORA_TYPES) and SETTINGS["network_type"].default == USUAL
    assert all(f"{name}:" in explained() or f"{name}, " in explained() for name in LORA_TYPES)
    assert all(set(facts.layers) <= set(NETWORK_TARGETS) for facts in LORA_TYPES.values())


@pytest.mark.parametrize("name", LORA_TYPES)
def test_a_row_says_what_its_formula_does(name):
    facts = LORA_TYPES[name]
    formula = layer_adapters.formula(facts)
    assert bool(formula.FAST) == facts.has_up
    parts = [layer_adapters.DORA] if facts.has_magnitude else list(formula.PARTS)
    assert addition_to_a_model([f"lora_unet_a.{part}" for part in parts]).code == "kind.lora"


def test_variants_have_the_same_formula():
    assert variant("lora", magnitude=False, convolutions=True) == "locon"
    assert variant("locon", magnitude=False, convolutions=False) == "lora"
    assert {variant(name, magnitude=True, convolutions=False) for name in ("lora", "locon")} == {"dora"}
    for name in ("loha", "lokr", "oft"):  # which have none
        assert variant(name, magnitude=True, convolutions=True) == name
    assert types_with("has_up") == ["lora", "locon", "dora"]


def test_the_guide_to_changes_begins_with_the_table_and_is_short():
    found = places("a LoRA type")
    assert found[0] == f"dreambooth_ext/{TABLE}" and len(found) == 4


IMAGINARY = """
import json, math
from pathlib import Path
from dreambooth_ext.core.facts.lora_types import LORA_TYPES, LoRAType

LORA_TYPES["dorha"] = LoRAType(
    "DoRHA", "LoHa's, with size and direction apart", "LoHa", "tools.dorha",
    layers=("attention", "convolutions"), has_magnitude=True, safe_precision="bf16",
    algorithms=("dorha",), form_fields=("spin",),
)

import torch
from dreambooth_ext.core.checks import config_checks, config_warnings, method_checks
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import SETTINGS
from dreambooth_ext.engine.formats import lora_file
from dreambooth_ext.engine.networks import layer_adapters
from dreambooth_ext.host.importers import kohya_names, read

asked, problems = parse({"network_type": "dorha", "method": "lora", "instance_prompt": "zkz"})
checked = config_checks.check(asked)
config, subjects = checked.config, checked.subjects
weight = torch.randn(12, 8, 3, 3)
made = layer_adapters.create(config, weight, 4, torch.Generator().manual_seed(1))
again = layer_adapters.from_parts(made.tensors())
imported = read.read('network_module = "lycoris.kohya"\\nnetwork_args = ["algo=dorha"]\\nnetwork_dim = 8')
print(json.dumps({
    "problems": [problem.message for problem in problems],
    "help": SETTINGS["network_type"].help,
    "layers": config.target_modules,
    "left out": [str(p) for p in method_checks.problems(config.replace(target_modules=["attention"]), subjects)],
    "useless": [
        p.field for p in method_checks.problems(config.replace(lokr_factor=4, loraplus_lr_ratio=16.0), subjects)
    ],
    "warnings": {p: [w.remedy for w in config_warnings.warnings(config.replace(save_precision=p), 12)
                     if w.field == "save_precision"] for p in ("fp16", "bf16")},
    "parts": sorted(made.tensors()),
    "same": all(torch.equal(made.tensors()[name], again.tensors()[name]) for name in made.tensors()),
    "still": made.change(weight).abs().max().item(),
    "numbers": [sum(p.numel() for p in made.parameters()), layer_adapters.count(config, tuple(weight.shape), 4)],
    "module": lora_file.metadata(config)["ss_network_module"],
    "imported": imported.settings,
    "fields": kohya_names.OF_TYPES["spin"],
}))
"""


def test_an_imaginary_type_with_a_known_formula_takes_a_row_and_nothing_else():
    done = subprocess.run(
        [sys.executable, "-c", IMAGINARY], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == [] and "dorha: LoHa's, with size and direction apart." in found["help"]
    assert found["layers"] == ["attention", CONVOLUTIONS]
    assert found["left out"] == [
        "network_type: DoRHA is a LoRA with convolutions, but they are left out. "
        "Add convolutions to target_modules, or set network_type to lora."
    ]
    assert found["useless"] == ["lokr_factor", "loraplus_lr_ratio"]
    assert found["warnings"]["bf16"] == [] and found["warnings"]["fp16"] == ["bf16 is safe, and such files are small."]
    assert {"dora_scale", "alpha", "hada_w1_a"} <= set(found["parts"])
    assert found["same"] and found["still"] < 1e-6
    counted, told = found["numbers"]
    assert counted == told == 2 * 4 * (12 + 8 * 9) + 8
    assert found["module"] == "tools.dorha"
    assert found["imported"]["network_type"] == "dorha" and found["imported"]["rank"] == 8
    assert found["fields"] == ["dorha"]
