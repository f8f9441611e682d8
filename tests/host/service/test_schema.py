"""The form is the list of settings, and its words are the guide's."""

from __future__ import annotations

import json
import re

import pytest

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config import rates
from dreambooth_ext.core.config.form_sections.model import SUBJECT_TYPES
from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.data import identifiers
from dreambooth_ext.core.facts.methods import METHOD_LABELS
from dreambooth_ext.core.guide import tables
from dreambooth_ext.host.service import schema as form


def test_each_setting_is_there_once():
    schema = json.loads(json.dumps(form.schema(), allow_nan=False))
    names = [setting["name"] for group in schema["groups"] for setting in group["settings"]]
    assert sorted(names) == sorted(SETTINGS) and len({group["name"] for group in schema["groups"]}) == len(
        schema["groups"]
    )
    for group in schema["groups"]:
        for shown in group["settings"]:
            known = SETTINGS[shown["name"]]
            assert group["name"] == known.group and shown["label"] and shown["help"] and shown["option"] == known.option
            assert (shown["minimum"], shown["maximum"], shown["default"]) == (
                known.minimum,
                known.maximum,
                known.default,
            )
            assert set(shown["methods"]) <= set(schema["methods"]) == set(METHOD_LABELS)


def test_the_page_judges_identifiers_as_the_guide_does():
    """The page does with the rules what is done here; `guide` and `captions` say the same of each word."""
    about = form.schema()["identifier"]
    known = set(about["known_words"])
    for word in (
        "sksper",
        "ohwx",
        "",
        "a",
        "my photo",
        "кот",
        "x" * 13,
        "Person",
        "john",
        "red",
        "sks\n",
        "a_b",
        "zkz1",
    ):
        broken = [rule for rule in about["rules"] if not re.fullmatch(rule["pattern"], word)]
        assert bool(broken or word.lower() in known) == bool(identifiers.identifier_warning(word)), word
        if broken:
            assert broken[0]["message"] == identifiers.identifier_problem(word)
    assert identifiers.identifier_problem("my photo") == "contains a space"
    assert about["known_message"] in str(identifiers.identifier_warning("red"))


@pytest.mark.parametrize("kind", SUBJECT_TYPES)
@pytest.mark.parametrize("has_captions", [False, True])
def test_three_answers_are_enough(tmp_path, kind, has_captions):
    """Pictures, word and type: nothing is wrong with what follows, with class pictures or without."""
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(b"")
        if has_captions:
            (tmp_path / f"{number}.txt").write_text("a cat on a roof", encoding="utf-8")
    prompts = form.prompts_for(" sksper ", kind, has_captions)
    assert "sksper" in prompts["instance_prompt"] and "sksper" not in prompts["class_prompt"]
    base = tmp_path / "base.safetensors"
    base.write_bytes(b"")
    config = RunConfig(instance_data_dir=str(tmp_path), base_model=str(base), name="sksper", subject_type=kind)
    for given in (config.replace(instance_prompt=prompts["instance_prompt"]), config.replace(**prompts)):
        given = given.replace(validation_steps=500)
        completed, choices, entries, problems, _ = config_checks.check(given)
        assert not problems
        assert completed.with_prior_preservation == bool(given.class_prompt)
        assert all("sksper" in entry.caption for entry in entries)
        assert completed.validation_prompts == tables.test_prompts(kind, "sksper")
        assert choices["validation_prompts"].reason
    if has_captions and kind == "style":
        assert entries[0].caption == "a cat on a roof in sksper style"


def test_templates_are_what_the_helper_fills():
    for about in form.schema()["subject_types"]:
        for key, has_captions in (("prompts", False), ("prompts_with_captions", True)):
            filled = {name: text.replace("{word}", "zkz") for name, text in about[key].items()}
            assert filled == form.prompts_for("zkz", about["name"], has_captions)
        assert all("{word}" in prompt for prompt in about["test_prompts"])
        assert about["pictures"]["least"] < about["pictures"]["most"]


def test_test_prompts_need_one_word(tmp_path):
    """Several subjects, or none that can be told: then previews ask for prompts."""
    for number in range(3):
        (tmp_path / f"IMG_{number}.png").write_bytes(b"")
    for prompts in ({}, {"instance_prompt": "a photo of a cat"}, {"instance_prompt": "sks zwx cat"}):
        config = RunConfig(instance_data_dir=str(tmp_path), validation_steps=100, **prompts)
        completed, _, _, problems, _ = config_checks.check(config)
        assert completed.validation_prompts == []
        assert "validation_prompts" in [problem.field for problem in problems]


def test_what_goes_with_another_setting_names_its_values():
    """A misspelt one would hide a setting for good; without its value, a setting that is changed is a problem."""
    bound = {name: known.goes_with for name, known in SETTINGS.items() if known.goes_with}
    assert bound.keys() == {"lr_warmup_steps", "lr_num_cycles", "lr_power"}
    for name, (other, *values) in bound.items():
        known = SETTINGS[other]
        assert values and set(values) < set(known.choices)
        for value in known.choices:
            config = RunConfig(max_train_steps=100, learning_rate=1e-6, **{other: value, name: 3})
            blamed = {problem.field for problem in rates.rate_problems(config, 100)}
            assert (name in blamed) == (value not in values), (name, value)
