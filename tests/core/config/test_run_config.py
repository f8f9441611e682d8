"""Which settings are paths: the one list that guards strangers, makes paths absolute and cleans what is shared."""

from __future__ import annotations

import dataclasses
import json
import os
from types import SimpleNamespace

import pytest

from dreambooth_ext.core.config import paths
from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.data import kohya_dataset, prompt_templates
from dreambooth_ext.core.data.concepts import CONCEPT_KEYS
from dreambooth_ext.host.errors import Refusal
from dreambooth_ext.host.hosts import path_policy
from dreambooth_ext.host.service import config_completion

PATHS = [name for name, known in SETTINGS.items() if known.kind == "path"]
IN_CONCEPTS = [name for name in PATHS if name in ("instance_data_dir", "class_data_dir")]


def host(folder) -> SimpleNamespace:
    """One that strangers may reach."""
    return SimpleNamespace(
        restricted=lambda: "It is shared.",
        bases=lambda: [],
        folders=lambda: {},
        data_folder=lambda: folder / "data",
        runs_folder=lambda: folder / "runs",
    )


def with_path(name: str, path: str) -> RunConfig:
    return RunConfig(**{name: path})


def in_concept(name: str, path: str) -> RunConfig:
    return RunConfig(concepts=[{"instance_prompt": "a zkz", name: path}])


WAYS = [(with_path, name, name) for name in PATHS] + [(in_concept, name, f"concepts[0].{name}") for name in IN_CONCEPTS]


def test_every_kind_of_path_is_there():
    """What settings name files today: a new one belongs here, and needs nothing else."""
    assert set(PATHS) == {
        *("base_model", "instance_data_dir", "class_data_dir", "train_data_dir", "dataset_config", "model_config"),
        *("prompt_template", "network_weights", "embedding_weights", "hypernetwork_weights", "mask_dir"),
        "train_shards_path_or_url",
    }
    assert set(CONCEPT_KEYS) - set(SETTINGS) == {"repeats"}  # the others are of the settings' kinds
    assert SETTINGS["prompt_template"].words == tuple(prompt_templates.BUILT_IN)


@pytest.mark.parametrize(("make", "name", "field"), WAYS)
def test_a_path_is_known_to_all_who_ask(tmp_path, monkeypatch, make, name, field):
    holds_for_all(tmp_path, monkeypatch, make, name, field)


def test_a_new_path_is_known_without_a_word_elsewhere(tmp_path, monkeypatch):
    name = "validation_negative_prompt"
    monkeypatch.setitem(SETTINGS, name, dataclasses.replace(SETTINGS[name], kind="path"))
    holds_for_all(tmp_path, monkeypatch, with_path, name, name)


def holds_for_all(folder, monkeypatch, make, name, field) -> None:
    from dreambooth_ext.engine.formats import hub_upload, metadata

    home = folder / "somebody"
    home.mkdir(parents=True)
    (home / "x.txt").write_text("a zkz", encoding="utf-8")
    config = make(name, str(home / "x.txt"))
    assert (field, str(home / "x.txt")) in config.paths()
    with pytest.raises(Refusal) as refused:
        path_policy.check_paths(config, host(folder))
    assert refused.value.status == 403 and refused.value.problem.field == field

    monkeypatch.chdir(home)
    assert paths.absolute(make(name, "x.txt")).paths() == [(field, str(home / "x.txt"))]
    (method, *_) = SETTINGS[field.partition("[")[0]].methods
    for said in (metadata.shareable(config), hub_upload.said(config.replace(method=method))):
        assert "somebody" not in json.dumps(said)


def test_names_of_hugging_face_and_links_stay_as_they_are():
    for name in ("owner/model", "https://h/x.safetensors"):
        assert paths.absolute(RunConfig(base_model=name, model_config=name)).base_model == name
    assert paths.absolute(RunConfig(network_weights="https://h/x")).network_weights == "https://h/x"
    assert paths.absolute(RunConfig(class_data_dir="to/come")).class_data_dir == os.path.abspath("to/come")


def test_a_template_that_is_built_in_is_no_path(tmp_path):
    from dreambooth_ext.engine.formats import hub_upload

    config = RunConfig(method="textual_inversion", prompt_template="style")
    assert config.paths() == [] and paths.absolute(config) == config
    assert hub_upload.said(config)["prompt_template"] == "style"
    path_policy.check_paths(config, host(tmp_path))


def test_each_of_several_embeddings_is_a_path(tmp_path, monkeypatch):
    """And not only what the first one begins with: the second might be any file of the server."""
    allowed = tmp_path / "data" / "pictures"
    monkeypatch.chdir(tmp_path)
    config = RunConfig(embedding_weights=f"{allowed}/a.pt, secret.pt", placeholder_token="a, b")
    assert prompt_templates.continued(config) == [f"{allowed}/a.pt", "secret.pt"]
    assert paths.absolute(config).embedding_weights == f"{allowed}/a.pt, {tmp_path / 'secret.pt'}"
    with pytest.raises(Refusal):
        path_policy.check_paths(config, host(tmp_path))
    alone = config.replace(placeholder_token="a")  # whose file's name may hold a comma
    assert [path for _, path in alone.paths()] == [config.embedding_weights]


def test_what_a_data_sets_file_names_is_looked_at(tmp_path):
    allowed = tmp_path / "data" / "pictures"
    allowed.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    file = allowed / "set.json"
    subset = {"image_dir": str(allowed / "x"), "metadata_file": str(tmp_path / "elsewhere" / "meta.json")}
    file.write_text(json.dumps({"datasets": [{"subsets": [subset]}]}), encoding="utf-8")
    with pytest.raises(Refusal) as refused:
        path_policy.check_paths(RunConfig(dataset_config=str(file)), host(tmp_path))
    assert refused.value.problem.field == "dataset_config"


def test_the_data_set_that_was_looked_at_is_the_one_that_is_checked(tmp_path, monkeypatch):
    allowed, elsewhere = tmp_path / "data" / "pictures", tmp_path / "elsewhere"
    for folder in (allowed / "x", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(b"")
    file = allowed / "set.json"
    texts = [
        json.dumps({"datasets": [{"subsets": [{"image_dir": str(folder), "class_tokens": "zkz"}]}]})
        for folder in (elsewhere, allowed / "x")
    ]
    file.write_text("{}", encoding="utf-8")
    monkeypatch.setattr(kohya_dataset, "read_text", lambda path, *limits: texts.pop())
    asked = SimpleNamespace(**vars(host(tmp_path)), current_base=lambda: "", option=lambda name: "", name="host")
    checked = config_completion.complete_form({"dataset_config": str(file)}, asked, tmp_path)
    assert [entry.path for entry in checked.entries] == [allowed / "x" / "a.png"]
    assert len(texts) == 1  # the other one was never read
