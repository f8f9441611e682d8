"""Where a host says that things are: the plain folder, and the WebUI's ways to start."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.host.hosts import model_lists
from dreambooth_ext.host.hosts.folder_host import FolderHost
from dreambooth_ext.host.hosts.publishing_targets import target
from tests.host.standin import asking, running
from tests.host.standin.asking import Client


def test_a_plain_folder_lists_and_selects_checkpoints(tmp_path):
    host = FolderHost(tmp_path)
    assert host.bases() == [] and host.current_base() == ""
    folder = host.folders()["checkpoint"]
    (folder / "mine").mkdir(parents=True)
    for name in ("b.safetensors", "mine/A.CKPT", "b.yaml", "b.vae.safetensors"):
        (folder / name).touch()
    assert [base["title"] for base in host.bases()] == ["b.safetensors", "mine/A.CKPT"]
    with host.handed_over("refuse", "cpu"):
        assert host.select(folder / "b.safetensors") == "b.safetensors"
    assert host.current_base() == str(folder / "b.safetensors")
    (folder / "b.safetensors").unlink()
    assert host.current_base() == ""


def test_what_pages_ask_every_second_tells_that_the_lists_have_changed(tmp_path):
    """Yet folders are looked through every few seconds only, and more seldom where that takes long."""
    host, now, looks = FolderHost(tmp_path), [0.0], []

    def look():
        looks.append(now[0])
        return host.bases()

    mark = model_lists.Mark(look, clock=lambda: now[0])
    first = mark()
    folder = host.folders()["checkpoint"]
    folder.mkdir(parents=True)
    (folder / "new.safetensors").touch()
    now[0] = model_lists.REST / 2
    assert mark() == first and looks == [0.0]
    now[0] = model_lists.REST + 1
    assert mark() != first

    def slow():
        now[0] += 3.0
        looks.append(now[0])

    mark, now[0] = model_lists.Mark(slow, clock=lambda: now[0]), 100.0
    mark()
    count, now[0] = len(looks), 103.0 + 3.0 * model_lists.SHARE - 1
    mark()
    assert len(looks) == count


def test_files_to_go_on_from_are_those_of_their_kind(tmp_path):
    host = FolderHost(tmp_path)
    assert model_lists.files(host.folders()) == {"lora": [], "textual_inversion": [], "hypernetwork": []}
    made = {
        "lora": ("b/Новый.safetensors", "a.PT", "a.txt"),
        "textual_inversion": ("x.png", "x.preview.png"),
        "hypernetwork": ("h.pt", "h.safetensors", ".h.pt"),
    }
    for kind, names in made.items():
        for name in names:
            path = host.folders()[kind] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found = model_lists.files(host.folders())
    assert {kind: [one["title"] for one in listed] for kind, listed in found.items()} == {
        "lora": ["a.PT", "b/Новый.safetensors"],
        "textual_inversion": ["x.png"],
        "hypernetwork": ["h.pt"],
    }
    assert found["lora"][0]["path"] == str(host.folders()["lora"] / "a.PT")


def test_a_plain_folder_beside_a_webui(tmp_path):
    (tmp_path / "webui" / "models" / "Stable-diffusion").mkdir(parents=True)
    host = FolderHost(tmp_path / "ours", target("webui", tmp_path / "webui"))
    assert host.folders()["lora"] == tmp_path / "webui" / "models" / "Lora"
    assert host.runs_folder() == tmp_path / "ours" / "runs"
    host.options.set("runs_folder", str(tmp_path / "elsewhere"))
    assert host.runs_folder() == tmp_path / "elsewhere"
    host.options.set("runs_folder", f' "{tmp_path}" ')  # Windows' "Copy as path"
    assert host.runs_folder() == tmp_path
    host.options.set("runs_folder", "~nobody-of-this-name/runs")
    assert host.runs_folder() == Path("~nobody-of-this-name/runs").absolute()
    (tmp_path / "webui" / "models").rename(tmp_path / "webui" / "no models")
    with pytest.raises(UserError, match="does not look like a WebUI"):
        FolderHost(tmp_path / "ours", target("webui", tmp_path / "webui"))


def test_the_webuis_folders_and_rights_follow_its_options(tmp_path):
    data, other = tmp_path / "data", tmp_path / "other place"
    asking.prepare(data)
    options = ["--api", "--nowebui", "--listen", "--api-auth", "me:secret,you:other", "--gradio-auth", "a:b"]
    options.append("--hide-ui-dir-config")
    for name in ("ckpt", "lora", "embeddings", "hypernetwork"):
        options += [f"--{name}-dir", str(other / name)]
    with running.running(data, options=options) as standin:
        client = Client(standin.address, data)
        folders = client.run("{kind: str(path) for kind, path in host.folders().items()}")
        assert folders["checkpoint"] == str(other / "ckpt") and folders["lora"] == str(other / "lora")
        assert folders["textual_inversion"] == str(other / "embeddings")
        assert folders["hypernetwork"] == str(other / "hypernetwork")
        assert client.run("host.api_auth()") == {"me": "secret", "you": "other"} and client.run("host.has_login()")
        assert "--enable-insecure-extension-access" in client.run("host.restricted()")
        client.run("__import__('dreambooth_ext.host.webui.extension').host.webui.extension.add_options()")
        known = "__import__('modules.shared').shared.opts.data_labels['dreambooth_ext_runs_folder'].component_args"
        assert client.run(known) == {"visible": False}  # by which the WebUI knows that nobody may set it
        assert client.run("str(host.runs_folder())") == str(data / "dreambooth" / "runs")
        request = urllib.request.Request(f"{standin.address}/dreambooth/v1/version")
        request.add_header("Authorization", "Basic bWU6c2VjcmV0")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.loads(answer.read())["host"].startswith("AUTOMATIC1111")


@pytest.mark.parametrize(
    "like, gradio, name",
    [("forge", 4, "Forge"), ("neo", 4, "Forge"), ("classic", 3, "Forge-classic"), ("reforge", 3, "reForge")],
)
def test_what_a_host_lacks_is_said(tmp_path, like, gradio, name):
    asking.prepare(tmp_path)
    with running.running(tmp_path, gradio=gradio, options=["--api", "--nowebui", "--like", like]) as standin:
        client = Client(standin.address, tmp_path)
        assert client.run("host.name").startswith(name)
        lacks = client.run("host.lacks()")
        assert name in lacks["hypernetwork"]
        assert client.run("str(host.folders()['hypernetwork'])").endswith("hypernetworks")
        is_neo = like == "neo"
        assert ("sd2" in lacks) == is_neo and name in lacks.get("sd2", name)
        assert client.run("host.versions()") == ({"SD1": "sd", "SDXL": "xl"} if is_neo else {})
        embeddings = tmp_path / "models" / "embeddings" if is_neo else tmp_path / "embeddings"
        assert client.run("str(host.folders()['textual_inversion'])") == str(embeddings)
