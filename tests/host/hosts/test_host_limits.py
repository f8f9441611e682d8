"""What a WebUI cannot use is refused before it is trained, with the reason: by check, API and command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest

from dreambooth_ext.commands.support import delivery
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.models.families import SD2
from dreambooth_ext.host.errors import Problems
from dreambooth_ext.host.hosts import publishing_targets
from dreambooth_ext.host.hosts.folder_host import FolderHost
from dreambooth_ext.host.publishing.publisher import Publisher
from dreambooth_ext.host.service.service import Service
from tests import tiny, training

OPTION = 'parser.add_argument("--embeddings-dir", type=path, help="it", default=os.path.join({place}, "embeddings"))\n'
NEO = {  # what of such a WebUI's files tells what it is
    "webui.py": "",
    "backend/memory_management.py": "",
    "modules/cmd_args.py": OPTION.format(place="models_path"),
    "modules_forge/packages/huggingface_guess/model_list.py": "class SD15(BASE): ...\nclass SDXL(BASE): ...\n",
}
FORGE = {
    "webui.py": "",
    "backend/memory_management.py": "",
    "modules/cmd_args.py": OPTION.format(place="data_path"),
    "repositories/huggingface_guess/huggingface_guess/model_list.py": "class SD15: ...\nclass SD20(BASE): ...\n",
}
A1111 = {"webui.py": "", "modules/cmd_args.py": OPTION.format(place="data_path")}


def webui(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("files", "lacks", "embeddings"),
    [
        (NEO, {"hypernetwork", "sd2"}, "models/embeddings"),
        (FORGE, {"hypernetwork"}, "embeddings"),
        (A1111, set(), "embeddings"),
    ],
)
def test_a_webui_that_is_not_running_tells_by_its_files(tmp_path, files, lacks, embeddings):
    folder = webui(tmp_path / "ours", files)
    host = FolderHost(tmp_path / "host", publishing_targets.target("webui", folder))
    assert host.lacks().keys() == publishing_targets.lacks(folder).keys() == lacks
    assert all("ours" in why for why in host.lacks().values())
    assert host.folders()["textual_inversion"] == folder / embeddings
    assert publishing_targets.webui_folder(folder, "textual_inversion") == folder / embeddings


def test_without_its_options_the_embeddings_folder_is_the_one_that_is_there(tmp_path):
    (tmp_path / "webui.py").touch()
    (tmp_path / "models" / "embeddings").mkdir(parents=True)
    assert publishing_targets.webui_folder(tmp_path, "textual_inversion") == tmp_path / "models" / "embeddings"
    (tmp_path / "embeddings").mkdir()
    assert publishing_targets.webui_folder(tmp_path, "textual_inversion") == tmp_path / "embeddings"


CASES = [
    ("sd1", "dreambooth", {}),
    ("sdxl", "lora", {}),
    ("sd1", "hypernetwork", {"method": "hosts.no_hypernetworks"}),
    *(("sd2", method, {"base_model": "hosts.no_sd2"}) for method in ("dreambooth", "lora", "textual_inversion")),
]


def values(folder: Path, family: str, method: str) -> dict:
    base = str(tiny.single_file(folder, family))
    pictures = training.pictures(folder / "pictures")
    word = {"placeholder_token": "zkz", "initializer_token": "cat"} if method == "textual_inversion" else {}
    kept = {"name": "taught", "max_train_steps": 4, "resolution": 64, "instance_prompt": "a photo of zkz person"}
    if method == "textual_inversion":
        del kept["instance_prompt"]
    return {**kept, **word, "method": method, "base_model": base, "instance_data_dir": pictures}


@pytest.mark.parametrize(("family", "method", "codes"), CASES)
def test_it_is_refused_by_check_and_api_where_it_would_be_published(tmp_path, monkeypatch, family, method, codes):
    host = FolderHost(tmp_path / "host", publishing_targets.target("webui", webui(tmp_path / "neo", NEO)))
    service = Service(host)
    monkeypatch.setattr(service.maintenance, "check_ready", lambda: None)
    asked = values(tmp_path, family, method)
    answer = service.new_runs.check(asked)
    assert {it["field"]: it["code"] for it in answer["problems"]} == codes
    if not codes:
        return
    with pytest.raises(Problems) as refused:
        service.new_runs.create(asked)
    assert {problem.field: problem.code for problem in refused.value.problems} == codes
    service.new_runs.create(asked, publish=False)  # for another program
    host.options.set("publish", False)
    assert service.new_runs.check(asked)["problems"] == []
    assert service.about_host()["lacks"]["sd2"]["reason_code"] == "hosts.no_sd2"


def test_bases_that_the_host_cannot_load_are_told_in_its_list(tmp_path):
    neo = webui(tmp_path / "neo", NEO)
    for family in ("sd1", "sd2", "sdxl"):
        tiny.single_file(neo / "models" / "Stable-diffusion", family)
    host = FolderHost(tmp_path / "host", publishing_targets.target("webui", neo))
    told = {Path(base["path"]).name: base["lacks"] for base in Service(host).about_host()["bases"]}
    assert told == {"tiny-sd1.safetensors": "", "tiny-sd2.safetensors": "sd2", "tiny-sdxl.safetensors": ""}


def test_a_base_that_only_the_engine_can_open_is_refused_by_its_plan(tmp_path, monkeypatch):
    service = Service(FolderHost(tmp_path / "host", publishing_targets.target("webui", webui(tmp_path / "neo", NEO))))
    answered = {"plan": {"family": SD2.title}, "problems": [], "warnings": []}
    monkeypatch.setattr(service.maintenance, "check_ready", lambda: None)
    monkeypatch.setattr(service.deep_check, "inspect", lambda config: answered)
    asked = {**values(tmp_path, "sd1", "lora"), "base_model": "https://example.com/base.safetensors"}
    answer = service.new_runs.check(asked, deep=True)
    assert [it["code"] for it in answer["problems"]] == ["hosts.no_sd2"]


@pytest.mark.parametrize(("family", "method", "codes"), CASES)
def test_it_is_refused_on_the_command_line_with_webui(tmp_path, family, method, codes):
    config, problems = parse(values(tmp_path, family, method))
    assert not problems
    neo = webui(tmp_path / "neo", NEO)
    arguments = argparse.Namespace(webui=neo, comfyui=None, sdnext=None, output_dir=None, publish_intermediate=None)
    found: list = []
    folders = delivery.checked_folders(arguments, config, found)
    assert {problem.field: problem.code for problem in found} == codes
    assert (folders is None) == bool(codes)
    if codes:  # of a run that is resumed
        with pytest.raises(UserError, match="neo"):
            delivery.named_folders(arguments, config)
        elsewhere = argparse.Namespace(
            webui=None, comfyui=None, sdnext=None, output_dir=tmp_path / "out", publish_intermediate=None
        )
        assert delivery.named_folders(elsewhere, config)


def test_what_turned_out_to_be_of_such_a_family_is_not_published(tmp_path):
    host = FolderHost(tmp_path / "host", publishing_targets.target("webui", webui(tmp_path / "neo", NEO)))
    run = SimpleNamespace(artifacts=tmp_path, state=lambda: {"plan": {"family": SD2.title}})
    with pytest.raises(UserError) as refused:
        Publisher(host).publish(run, {"kind": "lora"}, select=False)
    assert refused.value.problem.values["reason"].code == "hosts.no_sd2"
