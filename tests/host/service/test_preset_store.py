"""Presets: the built-in ones can be trained, one's own are kept under safe names, damaged ones are named."""

from __future__ import annotations

import argparse
import json

import pytest

from dreambooth_ext.commands.support import config_options
from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.host.service import preset_store, schema
from dreambooth_ext.host.service.preset_store import Presets


@pytest.fixture
def own(tmp_path):
    return Presets(tmp_path / "мои настройки")


@pytest.mark.parametrize("preset", preset_store.built_in(), ids=lambda preset: preset.name)
def test_built_in_presets_can_be_trained(preset, tmp_path):
    for number in range(20):
        (tmp_path / f"sksper ({number}).png").write_bytes(b"")
    base = tmp_path / "base.safetensors"
    base.write_bytes(b"")
    own = {"instance_data_dir": str(tmp_path), "base_model": str(base), "name": "sksper"}
    kind = preset.settings.get("subject_type", "person")
    own["instance_prompt"] = schema.prompts_for("sksper", kind)["instance_prompt"]
    if preset.settings.get("method") == "unconditional":
        own = {"train_data_dir": str(tmp_path), "name": "sksper"}
    config, unreadable = parse({**own, **preset.settings})
    completed, _, _, problems, _ = config_checks.check(config)
    assert not unreadable and not problems
    assert preset.title and preset.description and preset.built_in and not preset.problem
    blank = RunConfig().as_dict()
    done = {name for name, value in preset.settings.items() if getattr(completed, name) != value}
    assert not done, done  # nothing is converted to something else
    assert set(preset.settings) <= set(blank)


def test_the_guides_numbers():
    known = Presets()
    assert known.get("quick_test").settings == {
        "max_train_steps": 500,
        "text_encoder_steps": 100,
        "resolution": 512,
        "checkpointing_steps": 0,
    }
    best = known.get("Best quality").settings
    assert (best["max_train_steps"], best["text_encoder_steps"], best["resolution"]) == (2000, 400, 768)
    assert [preset.name for preset in known.list()][:3] == ["standard", "quick_test", "best_quality"]


def test_own_presets_live_beside_the_built_in_ones(own):
    assert [preset.name for preset in own.list()] == [preset.name for preset in preset_store.built_in()]
    saved = own.save("  Мои лица ", {"max_train_steps": "700", "optimizer_args": {"eps": 1e-6}}, " из отпуска ")
    assert saved.as_dict() == {
        "name": "Мои лица",
        "title": "Мои лица",
        "description": "из отпуска",
        "built_in": False,
        "settings": {"max_train_steps": 700, "optimizer_args": {"eps": 1e-6}},
        "problem": "",
    }
    assert Presets(own.folder).get("мои ЛИЦА") == saved
    own.save("мои лица", {"seed": 1})  # the same name for Windows and macOS, and so here
    assert [preset.settings for preset in own.list() if not preset.built_in] == [{"seed": 1}]
    own.delete("МОИ ЛИЦА")
    assert all(preset.built_in for preset in own.list())


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "C:x",
        ".hidden",
        "con",
        "NUL",
        "a\0b",
        "a\nb",
        "x" * 61,
        "Standard",
        "quick_test",
        "a.json",
        "a*",
        "-x",
    ],
)
def test_unsafe_and_taken_names(own, name):
    with pytest.raises(UserError) as caught:
        own.save(name, {"seed": 1})
    assert caught.value.problem.field == "preset" and caught.value.problem.remedy
    assert not own.folder.exists() or not list(own.folder.iterdir())


@pytest.mark.parametrize(("settings", "field"), [({"seed": "x"}, "seed"), ({"colour": 1}, "colour")])
def test_wrong_settings_are_not_kept(own, settings, field):
    with pytest.raises(UserError) as caught:
        own.save("mine", settings)
    assert caught.value.problem.field == field
    assert not own.folder.exists()


def test_a_link_in_an_old_file_is_shown_without_its_secrets(own):
    own.folder.mkdir()
    link = "https://user:pw@models.example/a.safetensors?token=SECRET"
    (own.folder / "old.json").write_text(json.dumps({"settings": {"base_model": link}}), encoding="utf-8")
    assert own.get("old").settings == {"base_model": "https://models.example/a.safetensors"}


def test_deleting_what_is_not_there(own):
    for name, code in (("standard", "preset_built_in"), ("nothing", "preset_gone"), ("../../x", "preset_gone")):
        with pytest.raises(UserError) as refused:
            own.delete(name)
        assert refused.value.problem.code == f"service.{code}"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"settings": 1}',
        '{"settings": {"seed": "x"}}',
        '{"settings": {"old": 1}}',
        "[" * 99999,
        "x" * 300000,
    ],
    ids=range(9),
)
def test_a_damaged_file_is_named_and_stops_nothing(own, content):
    own.save("good", {"seed": 1})
    (own.folder / "bad.json").write_text(content, encoding="utf-8")
    (own.folder / ".tmp-1-x.json").write_text("half", encoding="utf-8")
    mine = {preset.name: preset for preset in own.list() if not preset.built_in}
    assert set(mine) == {"good", "bad"} and mine["bad"].problem and not mine["bad"].settings
    with pytest.raises(UserError, match="bad"):
        own.get("bad")
    json.dumps(mine["bad"].as_dict())
    own.save("bad", {"seed": 2})
    assert own.get("bad").settings == {"seed": 2}


def test_the_command_line_takes_presets(own, tmp_path):
    parser = argparse.ArgumentParser()
    config_options.add_arguments(parser)

    def read(*argv):
        config, problems = config_options.read(parser.parse_args([str(word) for word in argv]))
        assert not problems
        return config

    assert read("--preset", "quick_test").max_train_steps == 500
    (tmp_path / "c.json").write_text('{"max_train_steps": 600, "seed": 7}', encoding="utf-8")
    config = read("--preset", "Quick test", "--config", tmp_path / "c.json", "--seed", 8)
    assert (config.max_train_steps, config.text_encoder_steps, config.seed) == (600, 100, 8)
    own.save("mine", {"seed": 9})
    assert read("--preset", own.folder / "mine.json").seed == 9
    for wrong in ("nothing", tmp_path / "none.json", tmp_path / "c.json"):
        with pytest.raises(UserError) as caught:
            read("--preset", wrong)
        assert caught.value.problem.field == "preset"


def test_an_unknown_name_lists_the_known(own):
    with pytest.raises(UserError, match="quick_test"):
        own.get("nothing")


def test_the_command_line_knows_what_the_tab_has_saved(tmp_path, monkeypatch):
    """The tab alone, the tab of the WebUI that this is an extension of, and the WebUI that --webui names."""
    repository = tmp_path / "webui" / "extensions" / "ours"
    monkeypatch.setattr(preset_store, "REPOSITORY", repository)
    parser = argparse.ArgumentParser()
    parser.add_argument("--webui", type=config_options.path)
    config_options.add_arguments(parser)
    places = {
        "alone": repository,
        "inside": tmp_path / "webui" / "dreambooth",
        "named": tmp_path / "other" / "dreambooth",
    }
    for seed, (name, folder) in enumerate(places.items(), 1):
        Presets(folder / "presets").save(name, {"seed": seed})
    for seed, name in enumerate(places, 1):
        asked = parser.parse_args(["--preset", name.upper(), "--webui", str(tmp_path / "other")])
        assert config_options.read(asked)[0].seed == seed
    with pytest.raises(UserError, match="no preset 'named'"):
        config_options.read(parser.parse_args(["--preset", "named"]))
    assert Presets(repository / "presets").get("alone").settings == {"seed": 1}
