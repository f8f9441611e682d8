"""The yaml beside a checkpoint: read, written, and refused where it does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import yaml

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.models.architecture import shipped, size_of_unet, size_of_vae, write_clip_folder
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.models.detection import recognise
from dreambooth_ext.engine.models.key_maps import to_ldm
from dreambooth_ext.engine.models.ldm_config import from_yaml
from dreambooth_ext.engine.models.ldm_config_writer import to_yaml
from dreambooth_ext.engine.tensors.tensor_file import save_tensors
from tests import tiny


def shapes_of(parts):
    states = {name: dict(module.state_dict()) for name, module in tiny.models(parts).items()}
    state = to_ldm(states, parts) | tiny.extras(parts, "epsilon")
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("inpainting", [False, True])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_written_and_read_again(tmp_path, family, prediction_type, inpainting):
    parts = tiny.architecture(family, inpainting=inpainting, prediction_type=prediction_type)
    said = from_yaml(to_yaml(parts, prediction_type), tmp_path, shapes_of(parts), name="a.yaml")
    assert said.prediction_type == prediction_type
    assert size_of_unet(said.architecture.unet) == size_of_unet(parts.unet)
    assert size_of_vae(said.architecture.vae) == size_of_vae(parts.vae)
    assert said.architecture.scheduler == parts.scheduler
    assert said.architecture.inpainting == inpainting
    if family != "sdxl":
        assert said.architecture.unet["sample_size"] == 8


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_sizes_are_recognised(family):
    parts = tiny.architecture(family)
    seen = recognise(shapes_of(parts))
    assert size_of_unet(seen.unet) == size_of_unet(parts.unet) and size_of_vae(seen.vae) == size_of_vae(parts.vae)
    assert seen.text_encoders == parts.text_encoders
    assert seen.unet.get("addition_time_embed_dim") == parts.unet.get("addition_time_embed_dim")


UNUSUAL = {
    "three levels, deep transformers": {
        "block_out_channels": [32, 64, 96],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3,
        "up_block_types": ["CrossAttnUpBlock2D"] * 3,
        "transformer_layers_per_block": [1, 2, 3],
        "attention_head_dim": 4,
        "layers_per_block": 2,
    },
    "channels a head, linear projections": {
        "attention_head_dim": [2, 4],
        "use_linear_projection": True,
        "block_out_channels": [32, 64],
    },
    "attention in the last level only": {
        "block_out_channels": [64, 64],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    },
    "another text width": {"cross_attention_dim": 24},
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_architectures(tmp_path, case):
    usual = tiny.architecture()
    vae = {**usual.vae, "block_out_channels": [32, 64, 64, 64], "layers_per_block": 2, "scaling_factor": 0.9}
    unet = {**usual.unet, **UNUSUAL[case]}
    width = unet["cross_attention_dim"]
    text = {**usual.text_encoders[0], "hidden_size": width, "num_attention_heads": 2, "hidden_act": "gelu"}
    parts = replace(usual, unet=unet, vae=vae, text_encoders=(text,))
    modules = tiny.models(parts)
    state = to_ldm({name: dict(module.state_dict()) for name, module in modules.items()}, parts)
    path = tmp_path / "odd model.safetensors"
    save_tensors(state, path)
    write_clip_folder(text, tmp_path / "clip")
    path.with_suffix(".yaml").write_text(to_yaml(parts, "epsilon", clip="clip"), encoding="utf-8")
    base = open_base(path)
    assert not base.architecture.standard
    sample, context = torch.randn(1, 4, 8, 8), torch.randn(1, 7, width)
    with torch.no_grad():
        expected = modules["unet"].eval()(sample, 10, encoder_hidden_states=context).sample
        assert torch.equal(base.unet()(sample, 10, encoder_hidden_states=context).sample, expected)
        ids = torch.tensor([base.tokenizers()[0]("a cat").input_ids])
        torch.testing.assert_close(base.text_encoders()[0](ids)[0], modules["text_encoder"].eval()(ids)[0])
    assert base.architecture.vae["scaling_factor"] == 0.9
    assert yaml.safe_load(base.export_yaml())["model"]["params"]["cond_stage_config"]["params"]["version"] == str(
        (tmp_path / "clip").resolve()
    )


def test_clip_folder_relative_to_the_working_directory(tmp_path, monkeypatch):
    path = tiny.single_file(tmp_path / "models", name="a")
    (tmp_path / "models" / "a-clip").rename(tmp_path / "a-clip")
    monkeypatch.chdir(tmp_path)
    assert open_base(path).architecture.text_encoders == tiny.architecture().text_encoders


def test_yaml_with_a_name_of_the_hub_needs_no_network(tmp_path):
    path = tiny.single_file(tmp_path)
    yaml_path = path.with_suffix(".yaml")
    text = yaml_path.read_text(encoding="utf-8").replace(f"{path.stem}-clip", "openai/clip-vit-large-patch14")
    yaml_path.write_text(text, encoding="utf-8")
    assert open_base(path).architecture.text_encoders == tiny.architecture().text_encoders


def test_only_sd2_v_prediction_and_unusual_sizes_need_a_yaml(tmp_path):
    assert shipped("sd1").standard and shipped("sd2").standard and shipped("sdxl").standard
    assert not tiny.architecture().standard
    assert "parameterization: v" in to_yaml(shipped("sd2"), "v_prediction")
    assert "VScaling" in to_yaml(shipped("sdxl"), "v_prediction")
    assert "EpsScaling" in to_yaml(shipped("sdxl"), "epsilon")


BROKEN = {
    "not valid YAML": "model: [",
    "no model.params": "just: words",
    "lacks what": "model:\n  params:\n    cond_stage_config: {target: ldm.FrozenCLIPEmbedder}\n",
    "embed_dim": ("embed_dim: 4", "embed_dim: 3"),
    "attn_resolutions": ("attn_resolutions: []", "attn_resolutions: [16]"),
    "noise schedule": ("linear_start:", "beta_schedule: cosine\n    linear_start:"),
    "block_out_channels": ("model_channels: 32", "model_channels: 64"),
    "cross_attention_dim": ("context_dim: 16", "context_dim: 32"),
    "use_linear_projection": ("context_dim: 16", "context_dim: 16\n        use_linear_in_transformer: true"),
    "layers_per_block": ("num_res_blocks: 1", "num_res_blocks: 2"),
    "describes Stable Diffusion 2": ("FrozenCLIPEmbedder", "FrozenOpenCLIPEmbedder"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_refused(tmp_path, reason):
    path = tiny.single_file(tmp_path)
    sidecar = path.with_suffix(".yaml")
    text = BROKEN[reason]
    if isinstance(text, tuple):
        before = sidecar.read_text(encoding="utf-8")
        assert text[0] in before
        text = before.replace(*text)
    sidecar.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=reason.replace(".", r"\.")) as caught:
        open_base(path)
    assert caught.value.problem.field == "base_model" and caught.value.problem.remedy
