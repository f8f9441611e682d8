"""A base's family by names in its files, without loading it, and bases that predict the flow."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from dreambooth_ext.core.checks import base_header, config_checks, config_warnings
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.facts.family_marks import BASE_FAMILIES
from dreambooth_ext.engine import plan
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.models.families import FAMILIES
from tests import tiny, training


@pytest.mark.parametrize("family", BASE_FAMILIES)
def test_the_family_is_told_as_the_engine_tells_it(tmp_path, family):
    path = tiny.single_file(tmp_path, family)
    assert base_header.family_of(str(path)) == open_base(path).family.name == family
    state = load_file(path)
    for new in (True, False):
        pickled = tmp_path / f"{family}-{new}.ckpt"
        torch.save({"state_dict": state}, pickled, _use_new_zipfile_serialization=new)
        assert base_header.family_of(str(pickled)) == family
    assert BASE_FAMILIES.keys() == FAMILIES.keys()
    assert base_header.by_title(FAMILIES[family].title) == family


@pytest.mark.parametrize("family", BASE_FAMILIES)
def test_a_folders_family_is_told_by_its_text_encoder(tmp_path, family):
    folder = tiny.diffusers_folder(tmp_path, family)
    if family == "sd2":
        config = folder / "text_encoder" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_size": 1024}))
    assert base_header.family_of(str(folder)) == family


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\xff" * 9, b"PK\x03\x04 no archive", b"\x10" + b"\0" * 7 + b"{}"]
)
def test_what_is_no_model_has_no_family(tmp_path, content):
    for name in ("a.safetensors", "a.ckpt"):
        (tmp_path / name).write_bytes(content)
        assert base_header.family_of(str(tmp_path / name)) == ""
    assert base_header.family_of(str(tmp_path)) == base_header.family_of("https://example.com/a.safetensors") == ""
    assert base_header.family_of("a\0b") == ""


def test_a_file_that_changes_is_looked_at_again(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(tiny.single_file(tmp_path, "sd1").read_bytes())
    assert base_header.family_of(str(path)) == "sd1"
    os.replace(tiny.single_file(tmp_path, "sdxl"), path)
    assert base_header.family_of(str(path)) == "sdxl"


def configured(folder, **settings):
    """A config of a run on three pictures."""
    given = {**training.USUAL, "instance_data_dir": training.pictures(folder / "pictures"), **settings}
    return parse(given)[0]


@pytest.mark.parametrize(("family", "refused"), [("sdxl", True), ("sd1", False)])
def test_a_base_for_rectified_flow_is_refused_by_its_name(tmp_path, family, refused):
    """As Forge Neo knows it: a word in the path, and SDXL."""
    base = tiny.single_file(tmp_path, family, name="my-Rectified-v3")
    config = configured(tmp_path, base_model=str(base))
    expected = ["hosts.rectified_flow"] if refused else []
    found = [problem for problem in config_checks.check(config).problems if problem.field == "base_model"]
    assert [problem.code for problem in found] == expected
    with_base = plan.problems(plan.resolve(config_checks.check(config).config, open_base(base)), open_base(base))
    assert [problem.code for problem in with_base if problem.field == "base_model"] == expected


def test_a_name_for_rectified_flow_is_warned_of(tmp_path):
    sdxl, sd1 = (str(tiny.single_file(tmp_path, family)) for family in ("sdxl", "sd1"))
    for base, name, codes in ((sdxl, "Rectified-cat", ["hosts.flow_name"]), (sdxl, "cat", []), (sd1, "rectified", [])):
        config = configured(tmp_path, base_model=base, name=name)
        found = config_warnings.warnings(config_checks.check(config).config, 12)
        assert [problem.code for problem in found if problem.field == "name"] == codes
