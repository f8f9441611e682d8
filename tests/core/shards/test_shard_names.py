"""Patterns of shards, and what a run on them refuses before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.shards import shard_names
from dreambooth_ext.core.shards.shard_names import FIELD


@pytest.mark.parametrize(
    ("pattern", "first", "last", "count"),
    [
        ("a.tar", "a.tar", "a.tar", 1),
        ("x-{0000..0099}.tar", "x-0000.tar", "x-0099.tar", 100),
        ("x-{8..11}.tar", "x-8.tar", "x-11.tar", 4),
        ("x-{08..11}.tar", "x-08.tar", "x-11.tar", 4),
        ("{a,b}-{0..2}.tar", "a-0.tar", "b-2.tar", 6),
        ("https://h/x{000..001}.tar?token={a,b}", "https://h/x000.tar?token=a", "https://h/x001.tar?token=b", 4),
    ],
)
def test_braces_are_expanded_as_in_shells(pattern, first, last, count):
    found = shard_names.names(pattern)
    assert (found[0], found[-1], len(found)) == (first, last, count)


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("x-{0..", "shards.bad_braces"),
        ("x-}.tar", "shards.bad_braces"),
        ("{{a,b},c}.tar", "shards.bad_braces"),
        ("x-{5}.tar", "shards.bad_braces"),
        ("x-{a..c}.tar", "shards.bad_braces"),
        ("x-{5..2}.tar", "shards.bad_range"),
        ("x-{0..999999999}.tar", "shards.bad_range"),
        ("{0..9999}{0..9999}{0..9999}.tar", "shards.too_many"),
    ],
)
def test_what_cannot_be_expanded_is_named(pattern, code):
    with pytest.raises(UserError) as told:
        shard_names.names(pattern)
    assert told.value.problem.code == code and told.value.problem.field == FIELD


def test_local_shards_are_found_in_natural_order(tmp_path):
    for name in ("s10.tar", "s9.tar", "s1.TAR", "other.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in shard_names.local(str(tmp_path))] == ["s1.TAR", "s9.tar", "s10.tar"]
    assert [path.name for path in shard_names.local(f"{tmp_path}/s{{9..10}}.tar")] == ["s9.tar", "s10.tar"]
    assert [path.name for path in shard_names.local(f"{tmp_path}/s*0.tar")] == ["s10.tar"]


USUAL = {"method": "finetune", "name": "taught", "max_train_steps": 10}


def codes(tmp_path: Path, **settings) -> dict[str, str]:
    (tmp_path / "a.tar").touch()
    config = RunConfig(**{**USUAL, "base_model": str(tmp_path / "a.tar"), FIELD: str(tmp_path), **settings})
    return {problem.field: problem.code for problem in config_checks.check(config).problems
            if problem.field != "base_model"}  # fmt: skip


def test_a_folder_of_shards_is_enough(tmp_path):
    assert codes(tmp_path) == {}
    assert codes(tmp_path, method="lora", subject_type="person") == {}, "captions are read, whatever the subject"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"instance_data_dir": "pictures"}, {"instance_data_dir": "shards.excludes"}),
        ({"concepts": [{"instance_data_dir": "x"}]}, None),
        ({"cache_latents": True}, {"cache_latents": "shards.excludes"}),
        ({"cache_latents_to_disk": True}, {"cache_latents_to_disk": "shards.excludes"}),
        ({"masked_loss": True}, {"masked_loss": "shards.excludes"}),
        ({"alpha_as_loss_weight": True}, {"alpha_as_loss_weight": "shards.excludes"}),
        ({"balance_folders": True}, {"balance_folders": "shards.excludes"}),
        ({"validation_split": 0.1}, {"validation_split": "shards.excludes"}),
        ({"stop_when_good": True}, {"stop_when_good": "shards.excludes"}),
        ({"method": "lora", "class_prompt": "a person"}, {"class_prompt": "shards.excludes"}),
        ({"method": "lora", "placeholder_token": "sks"}, {"placeholder_token": "shards.excludes"}),
        ({"max_train_steps": None}, {"max_train_steps": "shards.needs_steps"}),
        ({"max_train_steps": None, "num_train_epochs": 2}, {"num_train_epochs": "shards.no_epochs"}),
        ({"use_captions": False}, {"use_captions": "shards.needs_prompt"}),
        ({"use_captions": False, "instance_prompt": "a photo"}, {}),
        ({"method": "dreambooth", "instance_prompt": "sksper"}, {FIELD: "settings.not_of_method"}),
        ({"method": "textual_inversion"}, {FIELD: "settings.not_of_method"}),
        ({"method": "unconditional"}, {FIELD: "settings.not_of_method"}),
        ({FIELD: "", "shuffle_buffer": 5, "instance_data_dir": "."}, {"shuffle_buffer": "effect.no_shards"}),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_by_name(tmp_path, settings, expected):
    found = codes(tmp_path, **settings)
    if expected is None:
        assert "shards.excludes" in found.values() or "settings.not_of_method" in found.values()
    else:
        assert {name: code for name, code in found.items() if name in {**settings, FIELD: 1}} == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nowhere", "shards.missing"),
        ("{folder}/none-{{0..3}}.tar", "shards.missing"),
        ("{folder}/empty", "shards.none_in_folder"),
        ("{folder}/*.tar.xz", "shards.none_match"),
        ("{folder}/x.tar.gz", "shards.packed"),
        ("https://host/x.tar.gz", "shards.packed"),
        ("https://host/*.tar", "shards.no_list"),
        ("https://host/x.parquet", "shards.parquet_link"),
        ("hf://datasets/owner/name/*.parquet", None),
        ("https://host/{{0..}}.tar", "shards.bad_braces"),
        ("https://host/train-{{0000..0099}}.tar", None),
        ("hf://datasets/owner/name/*.tar", None),
        ("s3://bucket/train-{{0000..0099}}.tar", None),
    ],
)
def test_names_are_checked_without_reading(tmp_path, text, code):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.tar.gz").touch()
    assert codes(tmp_path, **{FIELD: text.format(folder=tmp_path)}).get(FIELD) == code
