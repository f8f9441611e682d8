"""ComfyUI and SD.Next as places to publish to: their folders by their layout, and what they cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.host.hosts import comfyui, host_limits, publishing_targets
from dreambooth_ext.host.hosts.folder_host import FolderHost

EXTRA = r"""
# Rename this to extra_model_paths.yaml
a111:
    base_path: path/to/stable-diffusion-webui/   # not in use
    checkpoints: models/Stable-diffusion
    loras: |
         models/Lora
         models/LyCORIS

comfyui:
    base_path: {base}
    is_default: true
    checkpoints: "models/big ones"
    loras: |
        models/first
        models/last   # each goes before the one above
    vae: models/vae
"""


def program(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.mkdir(parents=True) if name.endswith("/") else (path.parent.mkdir(parents=True, exist_ok=True))
        if not name.endswith("/"):
            path.touch()
    return folder


def comfy(folder: Path) -> Path:
    return program(folder, "folder_paths.py", "comfy/")


def sdnext(folder: Path) -> Path:
    return program(folder, "installer.py", "launch.py", "webui.py", "modules/")


def config(**values):
    made, problems = parse(values)
    assert not problems
    return made


def test_comfyui_s_folders(tmp_path):
    folder = comfy(tmp_path / "мой ComfyUI")
    found = publishing_targets.target("comfyui", folder)
    names = {"checkpoint": "checkpoints", "lora": "loras"}
    names |= {"textual_inversion": "embeddings", "hypernetwork": "hypernetworks"}
    assert found.folders == {kind: folder / "models" / name for kind, name in names.items()}
    portable = comfy(tmp_path / "portable" / "ComfyUI").parent
    assert publishing_targets.target("comfyui", portable).folder == portable / "ComfyUI"
    base = program(tmp_path / "base", "models/checkpoints/", "models/loras/")  # a base directory of the desktop program
    assert publishing_targets.target("comfyui", base).folder == base
    with pytest.raises(UserError, match="does not look like ComfyUI"):
        publishing_targets.target("comfyui", sdnext(tmp_path / "other"))


def test_comfyui_s_further_folders_count_where_they_are_its_default(tmp_path):
    folder = comfy(tmp_path)
    (folder / comfyui.FURTHER).write_text(EXTRA.format(base="../диск"), encoding="utf-8")
    found = publishing_targets.target("comfyui", folder).folders
    assert found["checkpoint"] == tmp_path.parent / "диск" / "models" / "big ones"
    assert found["lora"] == tmp_path.parent / "диск" / "models" / "last"
    assert found["textual_inversion"] == folder / "models" / "embeddings"
    windows = next(comfyui.sections("x:\n  base_path: D:\\models\n  is_default: yes\n"))
    (folder / comfyui.FURTHER).write_text("x:\n  is_default: yes\n  base_path:\n  loras: here\n", encoding="utf-8")
    assert comfyui.folders(folder)["lora"] == folder / "here"
    assert windows == {"base_path": ["D:\\models"], "is_default": ["yes"]}
    for text in ("", "[" * 9000, ":\n: :\n- a\n", "a: b\n c\n  d: |\n", "a:\n  is_default:\n"):
        (folder / comfyui.FURTHER).write_text(text, encoding="utf-8")
        assert comfyui.folders(folder)["lora"] == folder / "models" / "loras"


def test_sdnext_s_folders_are_its_configs(tmp_path):
    folder = sdnext(tmp_path / "sdnext")
    found = publishing_targets.target("sdnext", folder).folders
    assert found["checkpoint"] == folder / "models" / "Stable-diffusion" and found["lora"] == folder / "models" / "Lora"
    assert found["textual_inversion"] == folder / "models" / "embeddings"
    said = {"models_dir": "data/models", "lora_dir": str(tmp_path / "loras"), "ckpt_dir": 5, "embeddings_dir": ""}
    (folder / "config.json").write_text(json.dumps(said), encoding="utf-8")
    found = publishing_targets.target("sdnext", folder).folders
    assert (
        found["checkpoint"] == folder / "data" / "models" / "Stable-diffusion" and found["lora"] == tmp_path / "loras"
    )
    assert found["textual_inversion"] == folder / "data" / "models" / "embeddings"
    with pytest.raises(UserError, match=r"is SD\.Next"):
        publishing_targets.target("webui", folder)
    with pytest.raises(UserError, match=r"does not look like SD\.Next"):
        publishing_targets.target("sdnext", comfy(tmp_path / "comfy"))


@pytest.mark.parametrize(
    ("name", "values", "codes"),
    [
        ("comfyui", {"method": "hypernetwork", "activation": "swish"}, []),
        ("comfyui", {"method": "hypernetwork", "activation": "gelu"}, ["hosts.no_activation"]),
        ("comfyui", {"method": "hypernetwork", "dropout": [0, 0.1, 0]}, ["hosts.draws_with_dropout"]),
        ("comfyui", {"method": "lora", "placeholder_token": "sksper"}, ["hosts.no_words_in_lora"]),
        ("comfyui", {"method": "lora", "placeholder_token": "sksper", "bundle_embedding": False}, []),
        ("comfyui", {"method": "textual_inversion", "save_format": "pt"}, []),
        ("sdnext", {"method": "hypernetwork"}, ["hosts.no_hypernetworks"]),
        ("sdnext", {"method": "textual_inversion", "save_format": "pt"}, ["hosts.no_pt_for_sdxl"]),
        ("sdnext", {"method": "lora", "placeholder_token": "sksper"}, []),
    ],
)
def test_what_they_cannot_use_is_refused(tmp_path, name, values, codes):
    target = publishing_targets.target(name, (comfy if name == "comfyui" else sdnext)(tmp_path))
    found = host_limits.problems(target.lacks, target.refused, config(**values), "Stable Diffusion XL")
    assert [problem.code for problem in found] == codes


def test_the_page_chooses_where_models_go(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    ours, beside = tmp_path / "ours", comfy(tmp_path / "ComfyUI")
    ours.mkdir()
    host = FolderHost(ours)
    known = [{"folder": str(beside), "program": "ComfyUI"}]
    assert host.publishing() == {"folder": "", "program": "", "known": known}
    assert host.folders()["lora"] == ours / "models" / "Lora"
    host.publish_into(f' "{beside}" ')
    assert host.folders()["lora"] == beside / "models" / "loras" and host.publishing()["program"] == "ComfyUI"
    assert host.refused(config(method="hypernetwork", activation="gelu"), "")
    assert FolderHost(ours).folders() == host.folders()  # the next time, too
    with pytest.raises(UserError, match="neither a WebUI nor ComfyUI"):
        host.publish_into(str(ours))
    host.publish_into("")
    assert FolderHost(ours).publishing()["folder"] == ""
    host.publish_into(str(sdnext(tmp_path / "next")))
    assert host.lacks().keys() == {"hypernetwork"}
    (tmp_path / "next").rename(tmp_path / "gone")
    assert FolderHost(ours).publishing()["folder"] == ""
