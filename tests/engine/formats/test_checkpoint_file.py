"""Exported checkpoints hold what was trained, are never their base, and are whole or not there."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.system.files import read_json
from dreambooth_ext.engine.formats import checkpoint_file
from dreambooth_ext.engine.formats.checkpoint_file import export_checkpoint
from dreambooth_ext.engine.formats.metadata import SETTINGS_KEY, modelspec, training_metadata
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.models.key_maps import to_ldm
from dreambooth_ext.engine.tensors.tensor_file import open_tensors
from dreambooth_ext.host.publishing.model_files import publish
from tests import tiny

FAMILIES = ["sd1", "sd2", "sdxl"]
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def trained_unet(base, change: float = 0.01):
    state = base.unet().state_dict()
    return {key: value + change for key, value in state.items()}


def about(base, **settings) -> dict[str, str]:
    config = RunConfig(name="cat", base_model=str(base.path), instance_data_dir="/home/me/кот", **settings)
    return {
        **modelspec(base, title="cat", resolution=64, trigger_phrase="skscat"),
        **training_metadata(config, base, steps=7, started_at=1.5, num_train_images=12),
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("suffix, precision", [(".safetensors", "fp16"), (".ckpt", "bf16"), (".safetensors", "fp32")])
def test_what_was_trained_is_in_the_file_and_the_rest_is_the_bases(tmp_path, family, suffix, precision):
    base = open_base(tiny.single_file(tmp_path, family))
    dtype = DTYPES[precision]
    encoder = {key: value * 1.5 for key, value in base.text_encoders()[-1].state_dict().items()}
    trained = {"unet": trained_unet(base), base.family.components[-1]: encoder}
    done = export_checkpoint(base, trained, tmp_path / f"cat{suffix}", precision=precision, metadata=about(base))
    expected = dict(open_tensors(base.path)) | to_ldm(trained, base.architecture)
    found = open_tensors(done.path)
    assert set(found) == set(expected)
    for key, tensor in expected.items():
        is_weight = tensor.is_floating_point() and key not in ("betas", "alphas_cumprod")
        wanted = tensor.to(dtype) if is_weight else tensor
        assert found[key].dtype == wanted.dtype and torch.equal(found[key], wanted), key
    again = open_base(done.path)  # and it is a base like any other
    assert torch.equal(again.unet().conv_in.weight, trained["unet"]["conv_in.weight"].to(dtype).float())
    assert done.sha256 == hashlib.sha256(done.path.read_bytes()).hexdigest()
    assert not list(tmp_path.glob(".tmp-*"))


def test_metadata(tmp_path):
    base = open_base(tiny.single_file(tmp_path, "sd2", prediction_type="v_prediction"))
    path = tmp_path / "cat.safetensors"
    export_checkpoint(base, {"unet": trained_unet(base)}, path, precision="fp16", metadata=about(base, seed=3))
    with safe_open(str(path), "pt") as file:
        found = file.metadata()
    assert found["modelspec.sai_model_spec"] == "1.0.0"
    assert found["modelspec.architecture"] == "stable-diffusion-v2-768-v"
    assert found["modelspec.prediction_type"] == "v" and found["modelspec.resolution"] == "64x64"
    assert found["modelspec.trigger_phrase"] == "skscat"
    assert (found["ss_v2"], found["ss_steps"], found["ss_num_train_images"], found["ss_seed"]) == (
        "True",
        "7",
        "12",
        "3",
    )
    settings = json.loads(found[SETTINGS_KEY])
    assert settings["seed"] == 3 and settings["instance_data_dir"] == "кот"
    assert "/home/me" not in json.dumps(found)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert found["modelspec.hash_sha256"] == "0x" + hashlib.sha256(content[start:]).hexdigest()


def test_sidecars(tmp_path):
    base = open_base(tiny.single_file(tmp_path))
    path = tmp_path / "out" / "кот.safetensors"
    picture = Image.new("RGBA", (1024, 512))
    done = export_checkpoint(base, {"unet": trained_unet(base)}, path, precision="fp16", metadata={},
                             activation_text="skscat", preview=picture)  # fmt: skip
    assert {p.name for p in done.sidecars} == {"кот.yaml", "кот.json", "кот.preview.png"}
    facts = read_json(path.with_suffix(".json"))
    assert "skscat" in facts["notes"] and facts["activation text"] == "skscat"
    assert Image.open(path.with_name("кот.preview.png")).size == (512, 256)
    text = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf-8"))
    clip = text["model"]["params"]["cond_stage_config"]["params"]["version"]
    assert clip == str(path.resolve().with_name("кот-clip"))


def test_a_published_model_of_odd_sizes_needs_neither_its_run_nor_its_base(tmp_path):
    folder = tmp_path / "my base's моя"
    folder.mkdir()
    base = open_base(tiny.single_file(folder))
    done = export_checkpoint(base, {"unet": trained_unet(base)}, tmp_path / "run" / "кот.safetensors",
                             precision="fp32", metadata={})  # fmt: skip
    sizes, vocabulary = base.architecture.text_encoders, base.tokenizers()[0].get_vocab()
    (tmp_path / "run").rename(tmp_path / "moved run")  # so that the yaml's path is stale
    path = publish(tmp_path / "moved run" / done.path.name, tmp_path / "web ui's", run="r", name="кот")
    base.close()
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "moved run")
    again = open_base(path)
    assert again.architecture.text_encoders == sizes and again.tokenizers()[0].get_vocab() == vocabulary
    assert again.source.clip_folder == path.with_name("кот-clip").resolve()


def test_an_old_yaml_goes_where_none_is_needed(tmp_path, monkeypatch):
    base = open_base(tiny.single_file(tmp_path))
    path = tmp_path / "cat.safetensors"
    path.with_suffix(".yaml").write_text("model: old", encoding="utf-8")
    monkeypatch.setattr(checkpoint_file, "configuration", lambda base, path: None)
    export_checkpoint(base, {"unet": trained_unet(base)}, path, precision="fp16", metadata={})
    assert not path.with_suffix(".yaml").exists()


def test_v_prediction_sdxl_is_marked(tmp_path):
    base = open_base(tiny.diffusers_folder(tmp_path, "sdxl", prediction_type="v_prediction"))
    done = export_checkpoint(base, {"unet": trained_unet(base)}, tmp_path / "v.safetensors", precision="fp32",
                             metadata={}, zero_terminal_snr=True)  # fmt: skip
    assert {"v_pred", "ztsnr"} <= set(open_tensors(done.path))
    again = open_base(done.path)
    assert again.prediction_type == "v_prediction" and again.scheduler_config["rescale_betas_zero_snr"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_unusual_sizes_becomes_a_file_that_opens(tmp_path, family):
    base = open_base(tiny.diffusers_folder(tmp_path, family))
    done = export_checkpoint(base, {"unet": trained_unet(base)}, tmp_path / "m.safetensors", precision="fp32",
                             metadata={})  # fmt: skip
    again = open_base(done.path)
    assert again.sidecar_yaml
    for mine, theirs in zip(again.text_encoders(), base.text_encoders(), strict=True):
        assert torch.equal(mine.text_model.final_layer_norm.weight, theirs.text_model.final_layer_norm.weight)


@pytest.mark.parametrize("change", [0.0, 1e-9])
def test_the_base_again_is_refused(tmp_path, change):
    base = open_base(tiny.single_file(tmp_path, dtype=torch.float16))
    path = tmp_path / "cat.safetensors"
    with pytest.raises(UserError, match=r"equals its base model in fp16.*higher learning rate.*fp32"):
        export_checkpoint(base, {"unet": trained_unet(base, change)}, path, precision="fp16", metadata={})
    assert not path.exists() and not list(tmp_path.glob(".tmp-*"))


def test_one_changed_number_is_enough(tmp_path):
    base = open_base(tiny.single_file(tmp_path))
    state = base.unet().state_dict()
    state["conv_out.bias"][0] += 1
    export_checkpoint(base, {"unet": state}, tmp_path / "cat.safetensors", precision="fp16", metadata={})


@pytest.mark.parametrize("value, precision, message", [
    (float("nan"), "fp32", "learning_rate: .*NaN"),
    (1e6, "fp16", "save_precision: .*fp16.*bf16 or fp32"),
])  # fmt: skip
def test_broken_numbers_are_not_written(tmp_path, value, precision, message):
    base = open_base(tiny.single_file(tmp_path))
    state = trained_unet(base)
    state["conv_out.bias"][0] = value
    path = tmp_path / "cat.safetensors"
    with pytest.raises(UserError, match=message):
        export_checkpoint(base, {"unet": state}, path, precision=precision, metadata={})
    assert not path.exists() and not list(tmp_path.glob(".tmp-*"))
