"""Bad settings and folders: one message each, which names the setting, says what is wrong and what to do."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

import pytest

from dreambooth_ext import checks, files, runs, telling
from dreambooth_ext.commands import following, settings, train
from dreambooth_ext.commands import runs as runs_command
from dreambooth_ext.config import SETTINGS, RunConfig
from dreambooth_ext.errors import Problem, UserError
from dreambooth_ext.host import publish
from dreambooth_ext.parsing import parse
from dreambooth_ext.terminal import Progress


def pictures_in(folder: Path, count: int = 5) -> Path:
    """Empty files do: nothing here decodes a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"sksper ({number}).jpg").write_bytes(b"")
    return folder


def good(folder: Path) -> dict:
    (folder / "base.safetensors").write_bytes(b"")
    return {
        "name": "model",
        "base_model": str(folder / "base.safetensors"),
        "instance_data_dir": str(pictures_in(folder / "mine")),
        "instance_prompt": "a photo of sksper person",
        "max_train_steps": 100,
        "text_encoder_steps": 20,
    }


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    train.add_arguments(parser)
    return parser.parse_args([str(word) for word in argv])


def found_in(folder: Path, values: dict, *argv: str) -> list[Problem]:
    """What the command line says of a config file with these values, and these options."""
    file = folder / "config.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    return settings.complete(arguments("--config", file, *argv))[3]


def assert_one(found: list[Problem], field: str, part: str) -> None:
    """One message for one fault, of the right setting, short, and with a remedy."""
    assert [problem.field for problem in found] == [field], found
    problem = found[0]
    assert part in problem.message, problem
    assert re.search(r"[.?]$|: python -m dreambooth_ext [a-z]+$", problem.remedy), problem
    assert problem.message.endswith(".") and len(str(problem)) < 400 and "\n" not in str(problem), problem


def test_the_settings_that_the_rows_change_are_good(tmp_path):
    assert found_in(tmp_path, good(tmp_path)) == []


# (what is given besides the good settings, the field that is blamed, a part of the message)
SETTING_ROWS = [
    # --- of the wrong kind
    ({"resolution": "big"}, "resolution", "'big' is not a number"),
    ({"resolution": 512.5}, "resolution", "512.5 is not a whole number"),
    ({"resolution": True}, "resolution", "True is not a number"),
    ({"resolution": "1e999"}, "resolution", "not a finite number"),
    ({"seed": "nan"}, "seed", "not a finite number"),
    ({"seed": [1]}, "seed", "[1] is not a number"),
    ({"seed": "9" * 5000}, "seed", "not a finite number"),
    ({"train_batch_size": None}, "train_batch_size", "needs a value"),
    ({"max_train_steps": "many"}, "max_train_steps", "'many' is not a number"),
    ({"learning_rate": "fast"}, "learning_rate", "'fast' is not a number"),
    ({"learning_rate": {}}, "learning_rate", "is not a number"),
    ({"learning_rate": float("nan")}, "learning_rate", "not a finite number"),
    ({"weight_decay": float("inf")}, "weight_decay", "not a finite number"),
    ({"use_ema": "perhaps"}, "use_ema", "'perhaps' is neither true nor false"),
    ({"use_captions": 2}, "use_captions", "2 is neither true nor false"),
    ({"instance_prompt": {"a": 1}}, "instance_prompt", "is not a text"),
    ({"instance_prompt": "half a letter \ud800"}, "instance_prompt", "characters that no file can keep"),
    ({"base_model": ["a", "b"]}, "base_model", "is not a text"),
    ({"base_model": "a\0b"}, "base_model", "characters that no file can keep"),
    ({"validation_prompts": 5}, "validation_prompts", "is not a list of texts"),
    ({"validation_prompts": [1, 2]}, "validation_prompts", "is not a list of texts"),
    ({"optimizer_args": "{betas"}, "optimizer_args", "is not JSON"),
    ({"optimizer_args": [1]}, "optimizer_args", "is not an object"),
    ({"concepts": "[" * 100_000, "instance_data_dir": "", "instance_prompt": ""}, "concepts", "is not JSON"),
    ({"concepts": {"a": 1}, "instance_data_dir": "", "instance_prompt": ""}, "concepts", "is not a list of objects"),
    # --- out of range
    ({"resolution": 0}, "resolution", "0 is out of range"),
    ({"resolution": -64}, "resolution", "-64 is out of range"),
    ({"resolution": 4096}, "resolution", "4096 is out of range"),
    ({"train_batch_size": 0}, "train_batch_size", "out of range"),
    ({"train_batch_size": 10**9}, "train_batch_size", "1000000000 is out of range"),
    ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps", "out of range"),
    ({"max_train_steps": 0}, "max_train_steps", "0 is out of range"),
    ({"num_train_epochs": 0, "max_train_steps": None}, "num_train_epochs", "out of range"),
    ({"text_encoder_steps": -5}, "text_encoder_steps", "-5 is out of range"),
    ({"seed": -1}, "seed", "-1 is out of range"),
    ({"seed": 2**32}, "seed", "4294967296 is out of range"),
    ({"caption_dropout": 1.5}, "caption_dropout", "1.5 is out of range"),
    ({"clip_skip": 0}, "clip_skip", "0 is out of range"),
    ({"snr_gamma": 0}, "snr_gamma", "out of range"),
    ({"offset_noise": 3}, "offset_noise", "out of range"),
    ({"min_timestep": 1000}, "min_timestep", "1000 is out of range"),
    ({"max_grad_norm": -1}, "max_grad_norm", "out of range"),
    ({"checkpoints_total_limit": 0}, "checkpoints_total_limit", "out of range"),
    ({"num_class_images": 0, "class_prompt": "a person"}, "num_class_images", "out of range"),
    ({"prior_loss_weight": -1, "class_prompt": "a person"}, "prior_loss_weight", "out of range"),
    ({"validation_inference_steps": 5000}, "validation_inference_steps", "out of range"),
    # --- unknown names
    ({"lerning_rate": 1e-6}, "lerning_rate", "no setting of this name"),
    ({"learningRate": 1e-6}, "learningRate", "no setting of this name"),
    ({"xyzzy": 1}, "xyzzy", "no setting of this name"),
    ({"method": "hypernet"}, "method", "'hypernet' is not known"),
    ({"subject_type": "dog"}, "subject_type", "'dog' is not known"),
    ({"optimizer": "adam"}, "optimizer", "'adam' is not known"),
    ({"lr_scheduler": "cosin", "lr_warmup_steps": 5}, "lr_scheduler", "'cosin' is not known"),
    ({"loss_type": "mse", "huber_c": 1}, "loss_type", "'mse' is not known"),
    ({"mixed_precision": "fp8"}, "mixed_precision", "'fp8' is not known"),
    ({"save_format": "pt"}, "save_format", "does not write pt"),
    ({"prediction_type": "v"}, "prediction_type", "'v' is not known"),
    ({"validation_sampler": "DPM"}, "validation_sampler", "'DPM' is not known"),
    # --- conflicts, and settings that would do nothing
    ({"num_train_epochs": 3}, "num_train_epochs", "cannot both be given"),
    ({"resolution": 100}, "resolution", "not a multiple of 64"),
    ({"max_token_length": 100}, "max_token_length", "not 75, 150 or 225"),
    ({"checkpointing_steps": 10, "checkpointing_start_step": 100}, "checkpointing_start_step", "ends at step 100"),
    (
        {"checkpointing_steps": 0, "checkpointing_start_step": 50},
        "checkpointing_start_step",
        "checkpointing_steps is 0",
    ),
    ({"zero_terminal_snr": True, "prediction_type": "epsilon"}, "zero_terminal_snr", "cannot learn"),
    ({"min_timestep": 500, "max_timestep": 400}, "min_timestep", "below max_timestep"),
    ({"multires_noise_discount": 0.5}, "multires_noise_discount", "has no effect"),
    ({"offset_noise": 0.1, "multires_noise_iterations": 6}, "multires_noise_iterations", "along with offset_noise"),
    ({"snr_gamma": 5, "debiased_estimation": True}, "debiased_estimation", "along with snr_gamma"),
    ({"huber_c": 1}, "huber_c", "the loss l2 does not use it"),
    ({"ema_decay": 0.5}, "ema_decay", "use_ema is off"),
    ({"ema_decay": 0.5, "use_ema": "maybe"}, "use_ema", "neither true nor false"),
    ({"validation_steps": 10, "instance_prompt": "a photo of a cat"}, "validation_prompts", "nothing to draw"),
    ({"text_encoder_lr": 1e-6, "text_encoder_steps": 0}, "text_encoder_lr", "text_encoder_steps is 0"),
    ({"center_crop": False, "cache_latents": True}, "cache_latents", "always of the same crop"),
    ({"cache_latents": False, "cache_latents_to_disk": True}, "cache_latents_to_disk", "has no effect"),
    ({"keep_tokens": 2}, "keep_tokens", "shuffle_tags and tag_dropout are off"),
    ({"caption_extension": ".jpg"}, "caption_extension", "no ending of a text file"),
    ({"method": "finetune", "class_prompt": "a person"}, "class_prompt", "finetune does not use it"),
    ({"method": "finetune", "with_prior_preservation": True}, "with_prior_preservation", "does not use it"),
    ({"method": "finetune", "text_encoder_lr": 1e-6, "text_encoder_steps": None}, "text_encoder_lr", "has no effect"),
    # --- class pictures
    ({"with_prior_preservation": True}, "class_prompt", "is missing"),
    ({"num_class_images": 50}, "class_prompt", "is missing"),
    ({"prior_loss_weight": 0.5}, "class_prompt", "is missing"),
    ({"class_data_dir": "to-come"}, "class_prompt", "is missing"),
    ({"class_prompt": "a photo of sksper person"}, "class_prompt", "is the instance prompt"),
    # --- rates and their schedules
    ({"learning_rate": "1e-6:abc"}, "learning_rate", "'abc' in '1e-6:abc' is not a whole number of steps"),
    ({"learning_rate": "x:5, 1e-6"}, "learning_rate", "'x' in 'x:5' is not a number"),
    ({"learning_rate": "1e-6, 2e-6"}, "learning_rate", "is never reached"),
    ({"learning_rate": "1e-6:50, 2e-6:40, 1e-6"}, "learning_rate", "above the one before it"),
    ({"learning_rate": "1e-6:50"}, "learning_rate", "ends at step 50"),
    ({"learning_rate": ",,"}, "learning_rate", "no rate in it"),
    ({"learning_rate": -1e-6}, "learning_rate", "must be 0 or more"),
    ({"learning_rate": 0, "text_encoder_lr": 0}, "learning_rate", "nothing is learned"),
    ({"learning_rate": "1e-6:50, 1e-7", "lr_scheduler": "cosine"}, "lr_scheduler", "along with the schedule"),
    ({"lr_scheduler": "polynomial", "learning_rate": 1e-8, "text_encoder_steps": 0}, "learning_rate", "not below"),
    ({"lr_warmup_steps": 5}, "lr_warmup_steps", "does nothing"),
    ({"lr_warmup_steps": 500, "lr_scheduler": "cosine"}, "lr_warmup_steps", "below the run's 100 steps"),
    ({"lr_num_cycles": 3}, "lr_num_cycles", "does nothing"),
    ({"lr_power": 2}, "lr_power", "does nothing"),
    (
        {"optimizer": "prodigy", "learning_rate": 1e-6, "text_encoder_steps": 0},
        "learning_rate",
        "finds the rate itself",
    ),
    # --- names and places
    ({"name": "my model"}, "name", "cannot be a model's file name"),
    ({"name": "портрет"}, "name", "cannot be a model's file name"),
    ({"name": "../up"}, "name", "cannot be a model's file name"),
    ({"name": "mine.safetensors"}, "name", "ends like a file"),
    ({"name": "mine.PT"}, "name", "ends like a file"),
    ({"name": "con"}, "name", "on Windows"),
    ({"name": "a" * 200}, "name", "has 200 letters"),
    ({"base_model": ""}, "base_model", "needs a model"),
    ({"base_model": "  "}, "base_model", "needs a model"),
    ({"base_model": "sd15"}, "base_model", "no file or folder 'sd15'"),
    ({"base_model": "models/none.safetensors"}, "base_model", "no file or folder"),
    ({"base_model": "x" * 50}, "base_model", "no file or folder"),
    ({"base_model": "ftp://host/a.ckpt"}, "base_model", "no file or folder"),
    ({"instance_data_dir": ""}, "instance_data_dir", "needs a folder"),
    ({"instance_data_dir": "no/such/folder"}, "instance_data_dir", "there is no folder"),
    ({"instance_data_dir": "y" * 500}, "instance_data_dir", "cannot be read"),
]


@pytest.mark.parametrize(("values", "field", "part"), SETTING_ROWS, ids=lambda value: str(value)[:40])
def test_bad_setting(tmp_path, values, field, part):
    assert_one(found_in(tmp_path, good(tmp_path) | values), field, part)


def test_there_are_rows_enough_and_no_row_twice():
    assert len(SETTING_ROWS) >= 75
    assert len({json.dumps(row) for row in SETTING_ROWS}) == len(SETTING_ROWS)


def test_misspelt_settings_are_recognised():
    for wrong, right in {"lerning_rate": "learning_rate", "max_train_step": "max_train_steps"}.items():
        assert right in parse({wrong: 1})[1][0].remedy


def test_every_problem_comes_at_once(tmp_path):
    values = good(tmp_path) | {"seed": "x", "resolution": 100, "name": "a b", "optimizer": "adam", "base_model": ""}
    found = found_in(tmp_path, values | {"instance_data_dir": "", "clip_skip": 99, "xyzzy": 1})
    expected = {"seed", "resolution", "name", "optimizer", "base_model", "instance_data_dir", "clip_skip", "xyzzy"}
    assert {problem.field for problem in found} == expected and len(found) == len(expected)


def test_no_config_whatever_ends_in_an_exception():
    """Every setting with every kind of nonsense: a problem or a value, never a traceback."""
    nonsense = [
        None,
        True,
        -1,
        0,
        1e308,
        10**400,
        float("nan"),
        "",
        " ",
        "x",
        "\0",
        "[",
        [],
        [None],
        {},
        {"a": []},
        [[]],
    ]
    for name in SETTINGS:
        for value in nonsense:
            config, unreadable = parse({name: value})
            found = checks.check(config)[3]
            assert all(isinstance(problem, Problem) and problem.remedy for problem in [*unreadable, *found]), found


def test_values_that_nothing_can_name_are_cut(tmp_path):
    found = found_in(tmp_path, good(tmp_path) | {"resolution": "9" * 50_000 + "x", "name": "ж" * 90_000})
    assert len(found) == 2 and all(len(str(problem)) < 400 for problem in found)


# --- folders and captions


def folder_problems(folder: Path, **values) -> list[Problem]:
    return found_in(folder, good(folder) | values)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file.jpg").write_bytes(b"")
    assert_one(
        folder_problems(tmp_path, instance_data_dir=str(tmp_path / "file.jpg")), "instance_data_dir", "is a file"
    )


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "empty" / "folder.jpg").mkdir(parents=True)
    (tmp_path / "empty" / "a.gif").write_bytes(b"")
    found = folder_problems(tmp_path, instance_data_dir=str(tmp_path / "empty"))
    assert_one(found, "instance_data_dir", "there is no picture")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(tmp_path):
    folder = pictures_in(tmp_path / "closed")
    folder.chmod(0)
    try:
        found = folder_problems(tmp_path, instance_data_dir=str(folder))
        assert_one(found, "instance_data_dir", "cannot be read")
    finally:
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(*anything):
        raise PermissionError(13, "Permission denied")

    values = good(tmp_path)
    monkeypatch.setattr(os, "scandir", refuse)
    assert_one(found_in(tmp_path, values), "instance_data_dir", "cannot be read: Permission denied")


def test_a_blank_name_is_not_one_that_was_left_out(tmp_path):
    for blank in (" ", "\t\n"):
        assert_one(found_in(tmp_path, {**good(tmp_path), "name": blank}), "name", "is blank")


def test_names_without_a_word(tmp_path):
    for number in range(3):
        (tmp_path / "camera").mkdir(exist_ok=True)
        (tmp_path / "camera" / f"IMG_{number}.jpg").write_bytes(b"")
    found = folder_problems(tmp_path, instance_data_dir=str(tmp_path / "camera"), instance_prompt="  ")
    assert_one(found, "instance_prompt", "IMG_0.jpg")


def test_captions_in_other_encodings(tmp_path):
    for text in ("кот в шляпе".encode("cp1251"), "кот".encode("utf-16") + b"\0"):  # the second is cut short
        folder = pictures_in(tmp_path / str(len(text)), 1)
        (folder / "sksper (0).txt").write_bytes(text)
        found = folder_problems(tmp_path, instance_data_dir=str(folder), use_captions=True)
        assert_one(found, "caption_extension", "not UTF-8 text: sksper (0).txt")


def test_a_caption_that_is_a_folder(tmp_path):
    folder = pictures_in(tmp_path / "odd", 1)
    (folder / "sksper (0).txt").mkdir()
    found = folder_problems(tmp_path, instance_data_dir=str(folder), use_captions=True)
    assert_one(found, "caption_extension", "cannot be read: sksper (0).txt")


def test_class_folders(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    word = {"class_prompt": "a photo of a person"}
    assert_one(folder_problems(tmp_path, class_data_dir=str(tmp_path / "file"), **word), "class_data_dir", "is a file")
    mine = good(tmp_path)["instance_data_dir"]
    assert_one(folder_problems(tmp_path, class_data_dir=mine, **word), "class_data_dir", "your own pictures")


CONCEPT_ROWS = [
    ({"instance_dir": "x"}, "concepts[0].instance_dir", "no setting of this name"),
    ({"repeats": 0}, "concepts[0].repeats", "not a whole number above 0"),
    ({"repeats": True}, "concepts[0].repeats", "not a whole number above 0"),
    ({"num_class_images": "many"}, "concepts[0].num_class_images", "not a whole number above 0"),
    ({"instance_prompt": 5}, "concepts[0].instance_prompt", "is not a text"),
    ({"instance_data_dir": "none/here"}, "concepts[0].instance_data_dir", "there is no folder"),
    ({"instance_data_dir": ""}, "concepts[0].instance_data_dir", "needs a folder"),
    ({"class_prompt": "sksper"}, "concepts[0].class_prompt", "is the instance prompt"),
    ({"class_data_dir": "class"}, "concepts[0].class_prompt", "is missing"),
]


@pytest.mark.parametrize(("values", "field", "part"), CONCEPT_ROWS, ids=lambda value: str(value)[:40])
def test_bad_concept(tmp_path, values, field, part):
    base = good(tmp_path)
    concept = {"instance_data_dir": base.pop("instance_data_dir"), "instance_prompt": "sksper"} | values
    del base["instance_prompt"]
    assert_one(found_in(tmp_path, base | {"concepts": [concept]}), field, part)


def test_concepts_beside_the_single_settings(tmp_path):
    values = good(tmp_path)
    values["concepts"] = [{"instance_data_dir": values["instance_data_dir"], "instance_prompt": "sksper"}]
    found = found_in(tmp_path, values)
    assert [problem.field for problem in found] == ["instance_data_dir", "instance_prompt"]
    assert all("no effect" in problem.message for problem in found)


# --- paths as people write them


@pytest.mark.parametrize("form", ['"{}"', "'{}'", "{} ", " {}", '" {} "', "{}/"])
def test_paths_with_quotation_marks_and_blanks(tmp_path, form):
    """Windows' "Copy as path" puts quotation marks around a path."""
    values = good(tmp_path)
    mine, base = form.format(values["instance_data_dir"]), form.rstrip("/").format(values["base_model"])
    assert found_in(tmp_path, values | {"instance_data_dir": mine, "base_model": base}) == []
    concepts = [{"instance_data_dir": mine, "instance_prompt": "sksper"}]
    values |= {"concepts": concepts, "instance_data_dir": None, "instance_prompt": None}
    assert found_in(tmp_path, values) == []


def test_odd_letters_and_blanks_in_all_paths(tmp_path):
    folder = tmp_path / "Мои фото 写真 (1) & 'x'"
    folder.mkdir()
    values = good(folder)
    assert found_in(folder, values) == []
    text = f"{folder}/неживой/runs"
    assert checks.folder_problems("runs_dir", Path(text)) == []
    assert arguments("--runs-dir", f'"{text}"').runs_dir == Path(text)


def test_home_folder(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    values = good(tmp_path) | {"instance_data_dir": "~/mine", "base_model": "~/base.safetensors"}
    assert found_in(tmp_path, values) == []
    assert arguments("--output-dir", "~/models").output_dir == tmp_path / "models"
    config = runs.absolute(parse(values)[0])
    assert config.instance_data_dir == str(tmp_path / "mine") and config.base_model == str(
        tmp_path / "base.safetensors"
    )
    assert_one(found_in(tmp_path, values | {"base_model": "~nobody-here/x.ckpt"}), "base_model", "no file or folder")


# --- config files


CONFIG_ROWS = [
    ("", "is no JSON file"),
    ("hello", "is no JSON file"),
    ('{"name": "a",}', "is no JSON file"),
    ('{"instance_data_dir": "C:\\pics"}', "is no JSON file"),
    ("[1]", "does not hold an object"),
    ("null", "does not hold an object"),
    ("[" * 100_000, "is no JSON file"),
    ('{"seed": ' + "9" * 5000 + "}", "is no JSON file" if hasattr(os.sys, "set_int_max_str_digits") else None),
    ("{}".encode("utf-16"), "is not UTF-8 text"),
    (bytes(range(256)), "is not UTF-8 text"),
]


@pytest.mark.parametrize(("content", "part"), CONFIG_ROWS, ids=lambda value: str(value)[:20])
def test_bad_config_file(tmp_path, content, part):
    if part is None:
        pytest.skip("an old Python reads numbers of any length")
    (tmp_path / "c.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        settings.complete(arguments("--config", tmp_path / "c.json"))
    assert_one([caught.value.problem], "config", part)


def test_config_files_that_are_none(tmp_path):
    for path, part in ((tmp_path / "none.json", "there is no file"), (tmp_path, "cannot be read")):
        with pytest.raises(UserError) as caught:
            settings.complete(arguments("--config", path))
        assert_one([caught.value.problem], "config", part)


def test_windows_paths_in_json_are_explained(tmp_path):
    (tmp_path / "c.json").write_text('{"instance_data_dir": "C:\\pics"}', encoding="utf-8")
    with pytest.raises(UserError, match=re.escape("with / or with \\\\")):
        settings.complete(arguments("--config", tmp_path / "c.json"))


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(good(tmp_path)), encoding="utf-8-sig")
    assert settings.complete(arguments("--config", tmp_path / "c.json"))[3] == []


# --- where runs and models go; nothing is made for what is refused


class NoTraining:
    """Stands in for the worker and its environment."""

    refused = False  # whether the worker has said what is wrong

    def __init__(self, *anything):
        pass

    def ensure(self):
        pass

    def train(self, *anything):
        return 0


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    """Call `train` with the good settings and these options: (exit status, what it wrote to stderr)."""
    monkeypatch.setattr(train, "Environment", NoTraining)
    monkeypatch.setattr(train, "Follower", NoTraining)
    (tmp_path / "c.json").write_text(json.dumps(good(tmp_path)), encoding="utf-8")

    def call(*argv) -> tuple[int, str]:
        return train.run(arguments("--config", tmp_path / "c.json", "--runs-dir", tmp_path / "runs", *argv)), (
            capsys.readouterr().err
        )

    return call


def test_a_good_run_is_made(start, tmp_path):
    assert start()[0] == 0
    assert len(runs.list_runs(tmp_path / "runs")) == 1


def place_rows(folder: Path) -> list[tuple[list, str]]:
    (folder / "file").write_bytes(b"")
    (folder / "empty").mkdir()
    (folder / "else").mkdir()
    (folder / "else" / "notes.txt").write_bytes(b"")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "model.safetensors").write_bytes(b"somebody's")
    (folder / "described").mkdir()
    (folder / "described" / "model.json").write_text('{"description": "mine"}', encoding="utf-8")
    return [
        (["--output-dir", folder / "file"], "error: output_dir: "),
        (["--output-dir", folder / "file" / "below"], "is a file. Give a folder."),
        (["--webui", folder / "else"], "does not look like a WebUI"),
        (["--webui", folder / "none"], "does not look like a WebUI"),
        (["--webui", folder, "--output-dir", folder], "error: output_dir: --webui names a folder"),
        (["--output-dir", folder / "foreign"], "was not made by this tool. Choose another `name`"),
        (["--output-dir", folder / "described"], "was not made by this tool. Choose another `name`"),
        (["--runs-dir", folder / "file"], "error: runs_dir: "),
        (["--runs-dir", folder / "file" / "below"], "error: runs_dir: "),
        (["--resolution", "100"], "error: resolution: "),
    ]


def test_nothing_is_made_where_input_is_refused(start, tmp_path):
    rows = place_rows(tmp_path)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for argv, part in rows:
        status, said = start(*argv)
        assert status == 1 and part in said and said.count("error:") == 1, (argv, said)
        assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "foreign" / "model.safetensors").read_bytes() == b"somebody's"


def test_a_run_that_its_worker_refuses_leaves_no_folder(start, tmp_path, monkeypatch):
    monkeypatch.setattr(NoTraining, "train", lambda *anything: 1)
    monkeypatch.setattr(NoTraining, "refused", True)
    assert start()[0] == 1
    assert runs.list_runs(tmp_path / "runs") == []


def test_a_run_whose_worker_ended_without_a_word_stays_with_its_log(start, tmp_path, monkeypatch):
    monkeypatch.setattr(NoTraining, "train", lambda *anything: 1)
    assert start()[0] == 1
    assert len(runs.list_runs(tmp_path / "runs")) == 1


def test_a_run_that_was_refused_after_training_stays(start, tmp_path, monkeypatch):
    def refuse(follower):
        runs.list_runs(tmp_path / "runs")[0].write_state(status="failed", step=3)
        return 1

    monkeypatch.setattr(NoTraining, "train", refuse)
    assert start()[0] == 1
    assert len(runs.list_runs(tmp_path / "runs")) == 1


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(checks.os, "access", lambda *anything: False)
    assert_one(checks.folder_problems("output_dir", tmp_path / "new"), "output_dir", "cannot be written to")


def test_foreign_models_of_every_kind_are_left_alone(tmp_path):
    for name in ("model.safetensors", "model.ckpt", "model.yaml", "model.preview.png"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError) as caught:
            publish.check_ours(tmp_path / "model.safetensors")
        assert_one([caught.value.problem], "name", "not made by this tool")
        (tmp_path / name).unlink()


# --- runs


def made_run(folder: Path) -> runs.Run:
    return runs.create(folder, RunConfig(name="mine", max_train_steps=10))


DAMAGE = [("state.json", text) for text in ("", "hi", "[]", "{}", "\0\1")]
DAMAGE += [("config.json", text) for text in ("", "[]", '{"name": "mi', '{"xyzzy": 1}', None)]


@pytest.mark.parametrize(("file", "content"), DAMAGE, ids=lambda value: repr(value)[:20])
def test_a_damaged_run_is_listed_as_such_and_hides_no_other(tmp_path, capsys, file, content):
    damaged, sound = made_run(tmp_path), made_run(tmp_path)
    if content is None:
        (damaged.path / file).unlink()
    else:
        (damaged.path / file).write_text(content, encoding="utf-8")
    parser = argparse.ArgumentParser()
    runs_command.add_arguments(parser)
    for argv in (["list"], ["show", str(damaged.path)]):
        assert runs_command.run(parser.parse_args([*argv, "--runs-dir", str(tmp_path)])) == 0
        assert "damaged" in capsys.readouterr().out
    assert runs_command.run(parser.parse_args(["list", "--json", "--runs-dir", str(tmp_path)])) == 0
    listed = {item["id"]: item for item in json.loads(capsys.readouterr().out)}
    assert listed[damaged.id]["status"] == "damaged" and listed[damaged.id]["problem"]["remedy"]
    assert listed[sound.id]["status"] == "queued"


def test_unknown_runs(tmp_path):
    first, _ = made_run(tmp_path), made_run(tmp_path)
    for name, part in {"nobody": "there is no run", "20": "fits 2 runs", "..": "there is no run"}.items():
        with pytest.raises(UserError) as caught:
            runs.find(tmp_path, name)
        assert caught.value.problem.field == "run" and part in caught.value.problem.message
    assert runs.find(tmp_path, str(first.path)) == first


def test_a_living_run_cannot_be_deleted(tmp_path):
    run = made_run(tmp_path)
    with run.take(), pytest.raises(UserError) as caught:
        run.delete()
    assert_one([caught.value.problem], "run", "still training")
    assert run.path.exists()


def test_a_run_is_deleted_whole_or_not_at_all(tmp_path, monkeypatch):
    run, other = made_run(tmp_path), made_run(tmp_path)
    with monkeypatch.context() as patched:  # the machine goes down in the middle of it
        patched.setattr("shutil.rmtree", lambda path, **_: None)
        run.delete()
    assert [it.id for it in runs.list_runs(tmp_path)] == [other.id]
    assert len(list(tmp_path.glob(f"{files.TEMPORARY}*"))) == 1
    other.delete()
    assert not list(tmp_path.glob(f"{files.TEMPORARY}*")) and not runs.list_runs(tmp_path)


def test_deleting_needs_a_name(tmp_path):
    parser = argparse.ArgumentParser()
    runs_command.add_arguments(parser)
    made_run(tmp_path)
    with pytest.raises(UserError) as caught:
        runs_command.run(parser.parse_args(["delete", "--runs-dir", str(tmp_path)]))
    assert_one([caught.value.problem], "run", "none is named")
    assert len(runs.list_runs(tmp_path)) == 1


def test_the_follower_shows_what_is_wrong(tmp_path, capsys):
    follower = following.Follower(made_run(tmp_path), None, None)
    follower.show({"type": "error", "field": "device", "what": "'cuda' is not here.", "remedy": "Use cpu."})
    assert capsys.readouterr().err == "error: device: 'cuda' is not here. Use cpu.\n"


def test_the_follower_tells_one_time_that_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Progress, "LEAST", 0.0)
    follower = following.Follower(made_run(tmp_path), None, None)
    step = {"type": "step", "step": 4, "total": 9, "loss": 0.5, "lr": {"unet": 1e-6}, "memory": {"peak": 0}}
    follower.show({**step, "eta_s": 55.0})
    line = capsys.readouterr().err
    assert line.count(" left") == 1 and "to go" not in line and "loss 0.5000" in line
    assert telling.told({**step, "eta_s": 55.0}).endswith(", 0:55 to go")  # the log's, which has no bar
