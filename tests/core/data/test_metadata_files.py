"""Captions in metadata.jsonl and kohya's metadata, several captions a picture, kohya's folder names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dreambooth_ext.core.checks import without_effect
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def lines(folder: Path, *rows) -> None:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")


def config_of(folder: Path, **settings) -> RunConfig:
    return RunConfig(**{"method": "finetune", "instance_data_dir": str(folder), "use_captions": True, **settings})


def found(config: RunConfig) -> dict[str, tuple[str, ...]]:
    entries, problems = picture_entries.entries(config)
    assert not problems, list(map(str, problems))
    return {entry.path.name: entry.captions for entry in entries}


def test_hugging_faces_folder(tmp_path):
    make(tmp_path, "1.png", "train/2.png", "train/deep/3.png", "train/4.png", "5.png", "6.png", "7.png")
    lines(tmp_path, {"file_name": "1.png", "text": " a red\ncup "}, "", {"file_name": "train/2.png", "text": "кот"},
          {"file_name": "./5.png", "text": "five", "more": 1}, {"file_name": "6.png", "text": None})  # fmt: skip
    lines(tmp_path / "train", {"file_name": "deep/3.png", "text": "three"}, {"file_name": "none.png", "text": "x"})
    (tmp_path / "5.txt").write_text("from the file", encoding="utf-8")
    assert found(config_of(tmp_path)) == {
        "1.png": ("a red cup",),
        "2.png": ("кот",),
        "3.png": ("three",),
        "4.png": ("",),
        "5.png": ("from the file",),  # what lies beside the picture goes before
        "6.png": ("",),
        "7.png": ("",),
    }
    assert found(config_of(tmp_path, use_captions=False))["1.png"] == ("",)


def test_another_column(tmp_path):
    make(tmp_path, "1.png")
    lines(tmp_path, {"file_name": "1.png", "text": "one", "prompt": "other"})
    assert found(config_of(tmp_path, caption_column="prompt")) == {"1.png": ("other",)}
    (problem,) = picture_entries.entries(config_of(tmp_path, caption_column="captoin"))[1]
    assert problem.field == "caption_column" and "file_name, text, prompt" in problem.message


@pytest.mark.parametrize("name", ["meta_cap.json", "meta_lat.json"])
def test_kohyas_metadata(tmp_path, name):
    make(tmp_path, "1.png", "sub/2.png", "3.png")
    about = {"1": {"caption": "a cup", "tags": "red, tall"}, str(tmp_path / "sub" / "2.png"): {"tags": "x, y"}, "3": {}}
    (tmp_path / name).write_text(json.dumps(about), encoding="utf-8")
    assert found(config_of(tmp_path)) == {"1.png": ("a cup, red, tall",), "2.png": ("x, y",), "3.png": ("",)}


def test_bad_lines_are_named_by_their_numbers(tmp_path):
    make(tmp_path, "1.png")
    good = {"file_name": "1.png", "text": "one"}
    lines(tmp_path, good, "{", good, {"text": "x"}, {"file_name": "../1.png", "text": "x"}, [], {**good, "text": 5},
          {"file_name": os.path.abspath(os.sep), "text": ""}, "[" * 100_000)  # fmt: skip
    (problem,) = picture_entries.entries(config_of(tmp_path))[1]
    assert problem.field == "use_captions"
    for said in (
        "line 2 is not valid JSON",
        'line 4 has no "file_name"',
        "line 5: '../1.png' is outside",
        "line 6",
        "line 7",
    ):
        assert said in problem.message
    assert "and 2 more" in problem.message and len(problem.message) < 1000


def test_files_that_are_no_metadata(tmp_path):
    make(tmp_path, "1.png")
    for content in (b"\xff\xfe\x00", b"[1]", b"{"):
        (tmp_path / "meta_cap.json").write_bytes(content)
        (problem,) = picture_entries.entries(config_of(tmp_path))[1]
        assert "meta_cap.json" in problem.message


def test_several_captions(tmp_path):
    make(tmp_path, "1.png", "2.png")
    (tmp_path / "1.txt").write_text("first line\n\n second  line \n", encoding="utf-8")
    lines(tmp_path, {"file_name": "2.png", "text": ["one", "two", ""]})
    assert found(config_of(tmp_path)) == {"1.png": ("first line second line",), "2.png": ("one",)}
    drawn = found(config_of(tmp_path, captions_per_picture="random"))
    assert drawn == {"1.png": ("first line", "second line"), "2.png": ("one", "two")}
    of_subject = config_of(tmp_path, captions_per_picture="random", method="lora", instance_prompt="sksper")
    assert found(of_subject)["2.png"] == ("sksper, one", "sksper, two")


def test_repeats_and_words_from_folders(tmp_path):
    make(
        tmp_path,
        "10_sks person/1.png",
        "2_a dog/deep/2.png",
        "2_a dog/3_cat/3.png",
        "other/4.png",
        "5.png",
        "0_x/6.png",
    )
    entries, problems = picture_entries.entries(config_of(tmp_path, repeats_from_folders=True))
    assert not problems
    assert {e.path.name: (e.repeats, e.caption) for e in entries} == {
        "1.png": (10, "sks person"),
        "2.png": (2, "a dog"),
        "3.png": (3, "cat"),
        "4.png": (1, ""),
        "5.png": (1, ""),
    }
    plain, _ = picture_entries.entries(config_of(tmp_path))
    assert {entry.repeats for entry in plain} == {1} and len(plain) == 6
    prompted, _ = picture_entries.entries(config_of(tmp_path, repeats_from_folders=True, instance_prompt="mine"))
    assert {entry.caption for entry in prompted} == {"mine"}
    itself, _ = picture_entries.entries(config_of(tmp_path / "10_sks person", repeats_from_folders=True))
    assert [(entry.repeats, entry.caption) for entry in itself] == [(10, "sks person")]


def test_a_subject_by_its_folders_name_needs_no_prompt(tmp_path):
    make(tmp_path, "4_ohwx man/0001.png")
    config = config_of(tmp_path, method="dreambooth", use_captions=False, repeats_from_folders=True)
    entries, problems = picture_entries.entries(config)
    assert not problems and [(e.caption, e.repeats) for e in entries] == [("ohwx man", 4)]


def test_nothing_left_by_zeros(tmp_path):
    make(tmp_path, "0_x/1.png")
    (problem,) = picture_entries.entries(config_of(tmp_path, repeats_from_folders=True))[1]
    assert problem.field == "repeats_from_folders"


def test_missing_captions_are_counted(tmp_path):
    make(tmp_path, *[f"{i}.png" for i in range(9)])
    (tmp_path / "3.txt").write_text("three", encoding="utf-8")
    config = config_of(tmp_path)
    (warning,) = picture_entries.warnings(config, picture_entries.entries(config)[0])
    assert warning.code == "captions.missing_file_name" and warning.values["names"].values["more"] == 3
    assert warning.values["count"] == 8 and warning.values["total"] == 9


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"caption_separator": ";"}, "caption_separator"),
        ({"caption_separator": " ", "shuffle_tags": True}, "caption_separator"),
        ({"keep_tokens": 1}, "keep_tokens"),
    ],
)
def test_settings_without_effect(settings, field):
    config = RunConfig(**settings)
    assert [
        problem.field for problem in (*picture_entries.problems(config), *without_effect.problems(config, config))
    ] == [field]
    some = RunConfig(keep_tokens=1, tag_dropout=0.1, caption_separator=";", use_captions=True)
    assert not picture_entries.problems(some) and not without_effect.problems(some, some)
