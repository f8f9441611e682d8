"""Warnings before a run: rates with which nothing is learned are told as loudly as errors."""

from __future__ import annotations

import argparse

import pytest

from dreambooth_ext.commands.support import config_options
from dreambooth_ext.core.checks import config_checks, config_warnings
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import AS_SAID, Problem
from dreambooth_ext.core.facts.methods import METHOD_LABELS
from dreambooth_ext.core.facts.optimizer_facts import OPTIMIZERS
from dreambooth_ext.core.guide import demo_recipe


def grave(**values) -> dict[str, Problem]:
    config = config_checks.check(RunConfig(**{"instance_prompt": "zkz", **values}))[0]
    return {warning.field: warning for warning in config_warnings.warnings(config, 12) if warning.is_grave}


@pytest.mark.parametrize("method", METHOD_LABELS)
@pytest.mark.parametrize("optimizer", ["auto", *OPTIMIZERS])
def test_a_rate_of_1_is_only_for_what_finds_its_own(method, optimizer):
    found = grave(method=method, optimizer=optimizer, learning_rate=1.0)
    if optimizer in ("prodigy", "prodigy_schedulefree", "sgd"):  # SGD's are far higher
        assert found == {}
    else:
        assert found["learning_rate"].code == "advice.rate_strange" and "prodigy" in found["learning_rate"].remedy


@pytest.mark.parametrize("method", METHOD_LABELS)
@pytest.mark.parametrize("optimizer", ["auto", *OPTIMIZERS])
def test_the_guides_own_rates_are_not_strange(method, optimizer):
    assert grave(method=method, optimizer=optimizer) == {}


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"method": "lora", "learning_rate": 1e-2}, {"learning_rate"}),
        ({"method": "lora", "learning_rate": 9e-3}, set()),
        ({"method": "lora", "learning_rate": 4e-3, "optimizer": "lion"}, {"learning_rate"}),
        ({"method": "lora", "learning_rate": 1.0, "text_encoder_lr": 1.0}, {"learning_rate", "text_encoder_lr"}),
        (
            {"method": "lora", "text_encoder_lr": 1.0, "text_encoder_2_lr": 1.0},
            {"text_encoder_lr", "text_encoder_2_lr"},
        ),
        ({"method": "lora", "placeholder_token": "zkz", "embedding_lr": 0.5}, {"embedding_lr"}),
        ({"method": "dreambooth", "learning_rate": 5e-3}, {"learning_rate"}),  # an embedding's
        ({"method": "textual_inversion", "learning_rate": 5e-3}, set()),
        ({"method": "finetune", "learning_rate": "1e-5:10, 1e-2:20, 1e-5"}, {"learning_rate"}),
        ({"method": "dreambooth", "learning_rate": 100.0, "optimizer": "sgd"}, {"learning_rate"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "-".join(sorted(value)) or "none",
)
def test_a_hundred_times_the_usual_rate(values, fields):
    assert set(grave(**values)) == fields


def test_one_warning_for_one_rate():
    config = config_checks.check(RunConfig(instance_prompt="zkz", learning_rate=1.0))[0]
    assert [w.field for w in config_warnings.warnings(config, 12)].count("learning_rate") == 1


def test_grave_warnings_come_last_and_loud(capsys):
    grave, other = Problem(AS_SAID, "a", message="b.", is_grave=True), Problem(AS_SAID, "c", message="d.")
    config_options.print_warnings([grave, Problem(AS_SAID, message="plain."), other])
    assert capsys.readouterr().err == "warning: plain.\nwarning: c: d.\nWARNING: a: b.\n"
    assert "is_grave" not in other.as_dict() and grave.as_dict()["is_grave"] is True


def test_check_tells_a_rate_typed_by_hand(tmp_path, capsys):
    from dreambooth_ext.commands import check

    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    given = ["--method", "lora", "--learning-rate", "1.0", "--optimizer", "adamw", "--runs-dir", str(tmp_path)]
    check.run(parser.parse_args(given))
    assert "WARNING: learning_rate: 1 is 10000 times the usual learning rate" in capsys.readouterr().err


def test_the_demo_is_filled_in_without_a_warning():
    """Its base is small and learns at rates of its own; the same rates on another base are warned about."""
    config = config_checks.check(RunConfig(**demo_recipe.settings())).config
    assert config_warnings.warnings(config, 12) == [] and config.validation_prompts == list(demo_recipe.PROMPTS)
    assert any(problem.is_grave for problem in config_warnings.warnings(config.replace(base_model="sd15.ckpt"), 12))
