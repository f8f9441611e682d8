"""Opening models in every form, and refusing what is none."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.system.files import write_json
from dreambooth_ext.engine.models import base_model
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.models.detection import canonical_names
from dreambooth_ext.engine.tensors import tensor_file
from dreambooth_ext.engine.tensors.lazy_tensor import is_finite
from dreambooth_ext.engine.tensors.tensor_file import open_tensors, save_tensors
from tests import tiny


@pytest.mark.parametrize("sidecar", [True, False])
@pytest.mark.parametrize("container", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_single_file_gives_back_the_model_it_was_made_of(tmp_path, family, container, sidecar):
    path = tiny.single_file(tmp_path, family, container=container, sidecar=sidecar)
    base = open_base(path)
    assert (base.family.name, base.prediction_type, base.inpainting) == (family, "epsilon", False)
    made = tiny.models(tiny.architecture(family))
    found = {"unet": base.unet(), "vae": base.vae()}
    found |= dict(zip(base.family.components[2:], base.text_encoders(), strict=True))
    for name, module in made.items():
        state = found[name].state_dict()
        assert state.keys() == module.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in made.items()}
    texts = sum(count for name, count in counts.items() if name.startswith("text"))
    assert base.parameter_counts() == {"unet": counts["unet"], "vae": counts["vae"], "text_encoders": texts}


def test_text_goes_through_tokenizer_and_encoder(tmp_path):
    base = open_base(tiny.single_file(tmp_path))
    (tokenizer,), (encoder,) = base.tokenizers(), base.text_encoders()
    ids = tokenizer("a photo of a cat").input_ids
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert encoder(torch.tensor([ids])).last_hidden_state.shape == (1, 7, 16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_file_becomes_what_is_asked_for(tmp_path, dtype):
    base = open_base(tiny.single_file(tmp_path, dtype=dtype, sidecar=False))
    state = tiny.models(tiny.architecture())["unet"].state_dict()
    for asked in (torch.float32, dtype):
        assert all(torch.equal(v, state[k].to(dtype).to(asked)) for k, v in base.unet(asked).state_dict().items())


def test_loaded_parameters_do_not_share_the_file(tmp_path):
    path = tiny.single_file(tmp_path)
    before = path.read_bytes()
    base = open_base(path)
    for parameter in base.unet().parameters():
        assert parameter.requires_grad and parameter.untyped_storage().nbytes() == parameter.numel() * 4
        parameter.data.zero_()
    assert path.read_bytes() == before
    assert all(parameter.abs().sum() > 0 for name, parameter in base.unet().named_parameters() if "weight" in name)


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_inpainting(tmp_path, family):
    for sidecar in (True, False):
        base = open_base(tiny.single_file(tmp_path, family, inpainting=True, sidecar=sidecar, name=f"a{sidecar}"))
        assert base.inpainting and base.prediction_type == "epsilon"
        assert base.unet().conv_in.weight.shape[1] == 9


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_v_prediction_by_yaml(tmp_path, family):
    base = open_base(tiny.single_file(tmp_path, family, prediction_type="v_prediction"))
    assert base.prediction_type == base.scheduler_config["prediction_type"] == "v_prediction"
    assert "v" in base.export_yaml()


def test_v_prediction_by_marks_metadata_and_choice(tmp_path):
    marked = tiny.single_file(tmp_path, "sdxl", prediction_type="v_prediction", sidecar=False)
    assert open_base(marked).prediction_type == "v_prediction"
    assert "VScaling" in open_base(marked).export_yaml()
    for key, value in {"modelspec.prediction_type": "v", "modelspec.predict_key": "v"}.items():
        said = tiny.single_file(tmp_path, "sd2", sidecar=False, metadata={key: value})
        assert open_base(said).prediction_type == "v_prediction"
        assert open_base(said, prediction_type="epsilon").prediction_type == "epsilon"


def test_zero_terminal_snr_mark(tmp_path):
    path = tiny.single_file(tmp_path, "sdxl", prediction_type="v_prediction", sidecar=False)
    state = dict(open_tensors(path)) | {"ztsnr": torch.tensor([])}
    save_tensors(state, tmp_path / "b.safetensors")
    config = open_base(tmp_path / "b.safetensors").scheduler_config
    assert config["rescale_betas_zero_snr"] and config["timestep_spacing"] == "trailing"


def test_sd2_without_a_word_is_tried(tmp_path):
    """As the WebUI: the output at the last timestep, less the input, is far below zero where v is predicted."""
    path = tiny.single_file(tmp_path, "sd2", sidecar=False)
    assert open_base(path).prediction_type == "epsilon"
    state = {key: value.clone() for key, value in open_tensors(path).items()}
    state["model.diffusion_model.out.2.bias"] -= 3
    save_tensors(state, tmp_path / "v.safetensors")
    base = open_base(tmp_path / "v.safetensors")
    assert base.prediction_type == "v_prediction" and base.resolution == 768
    assert base.unet().config.upcast_attention


def test_averaged_copies_are_not_what_is_trained_nor_carried_over(tmp_path):
    plain = open_base(tiny.single_file(tmp_path, name="plain"))
    averaged = open_base(tiny.single_file(tmp_path, name="ema", ema=True, container=".ckpt"))
    assert not any(key.startswith("model_ema") for key in averaged.extras())
    assert averaged.extras().keys() == plain.extras().keys()
    for one, other in zip(plain.unet().parameters(), averaged.unet().parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_components_and_extras_make_the_whole_file_again(tmp_path, family):
    path = tiny.single_file(tmp_path, family, dtype=torch.float16)
    base = open_base(path)
    parts = {}
    for component in base.family.components:
        parts |= base.ldm_tensors(component)
    save_tensors(parts | base.extras(), tmp_path / "again.safetensors", base.metadata)
    one, other = open_tensors(path), open_tensors(tmp_path / "again.safetensors")
    assert one.entries == other.entries and all(torch.equal(one[key], other[key]) for key in one)


def test_text_encoder_in_the_old_layout(tmp_path):
    path = tiny.single_file(tmp_path, sidecar=False)
    state = {key.replace(".text_model.", "."): value for key, value in open_tensors(path).items()}
    save_tensors(state, tmp_path / "old.ckpt")
    torch.save(state, tmp_path / "bare.ckpt", _use_new_zipfile_serialization=False)
    expected = open_base(path).text_encoders()[0].state_dict()
    for name in ("old.ckpt", "bare.ckpt"):
        found = open_base(tmp_path / name).text_encoders()[0].state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_sd2_turbo_layout(tmp_path):
    state = tiny.ldm_state("sd2")
    wide = {key: value for key, value in state.items() if key.startswith("cond_stage_model.")}
    shapes = {key: tuple(value.shape) for key, value in state.items() if key not in wide}
    shapes |= {key.replace("cond_stage_model.", "conditioner.embedders.0."): (1024,) for key in wide}
    assert set(canonical_names(shapes)) == set(state)


@pytest.mark.parametrize("variant", ["", "fp16"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_diffusers_folder(tmp_path, family, variant):
    base = open_base(tiny.diffusers_folder(tmp_path, family, variant=variant))
    assert base.family.name == family and base.extras() == {}
    single = open_base(tiny.single_file(tmp_path, family))
    assert base.parameter_counts() == single.parameter_counts()
    for component in base.family.components:
        one, other = base.ldm_tensors(component), single.ldm_tensors(component)
        assert {k: (t.shape, t.dtype) for k, t in one.items()} == {k: (t.shape, t.dtype) for k, t in other.items()}
        assert all(torch.equal(one[key].load(), other[key].load()) for key in one)
    assert torch.equal(base.unet().conv_in.weight, single.unet().conv_in.weight)
    assert len(base.text_encoders()) == len(base.tokenizers()) == len(base.family.text.slots)


def test_diffusers_folder_with_shards_and_old_attention_names(tmp_path):
    folder = tiny.diffusers_folder(tmp_path)
    expected = open_base(folder).unet().state_dict(), open_base(folder).vae().state_dict()
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = dict(open_tensors(file).items())
    halves = {f"part-{i}.safetensors": dict(list(state.items())[i::2]) for i in range(2)}
    for name, half in halves.items():
        save_tensors({key: value.clone() for key, value in half.items()}, file.with_name(name))
    weight_map = {key: name for name, half in halves.items() for key in half}
    write_json(file.with_name(file.name + ".index.json"), {"weight_map": weight_map})
    file.unlink()
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state = {}
    for key, value in open_tensors(vae).items():
        for old, new in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        state[key] = value.clone()
    torch.save(state, vae.with_suffix(".bin"))
    vae.unlink()
    base = open_base(folder)
    for found, wanted in zip((base.unet().state_dict(), base.vae().state_dict()), expected, strict=True):
        assert all(torch.equal(found[key], value) for key, value in wanted.items())


# What is refused, each with its reason


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        open_base(path)
    problem = caught.value.problem
    assert problem.field == "base_model" and problem.message and problem.remedy
    return str(problem)


def put(path, content):
    if isinstance(content, dict):
        save_tensors(content, path)
    else:
        path.write_bytes(content)
    return path


T = torch.ones(2, 2)
VAE_KEYS = {"encoder.conv_in.weight": T, "decoder.conv_in.weight": T, "quant_conv.weight": T}
OTHERS = {
    "LoRA": {"lora_unet_down_blocks_0.lora_down.weight": T, "lora_unet_down_blocks_0.lora_up.weight": T},
    "a LoRA": {"unet.down_blocks.0.attn1.to_q.lora_A.weight": T},
    "a VAE on its own": VAE_KEYS,
    "is a VAE on": {f"first_stage_model.{key}": value for key, value in VAE_KEYS.items()},
    "textual inversion embedding": {"emb_params": T},
    "embedding": {"clip_l": T, "clip_g": T},
    "ControlNet": {"control_model.input_hint_block.0.weight": T},
    "Flux": {"double_blocks.0.img_attn.qkv.weight": T},
    "Stable Diffusion 3": {"model.diffusion_model.joint_blocks.0.x_block.weight": T},
    "part of a diffusers folder": {"down_blocks.0.resnets.0.conv1.weight": T},
    "text encoder on its own": {"text_model.embeddings.token_embedding.weight": T},
    "another kind of model": {"body.0.rdb1.conv1.weight": T},
    "SDXL refiner": {"conditioner.embedders.0.model.ln_final.weight": T},
    "unknown kind": {"model.diffusion_model.patch.weight": T},
    "quantised GGUF": b"GGUF" + bytes(range(200)),
    "is empty": b"",
    "web page": b"<!DOCTYPE html><html><body>Log in</body></html>",
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    "text file": "Это не модель\n".encode() + b"plain words, many of them",
    "neither a .safetensors nor": b"\x01\x02\x03\x00" * 100,
}


@pytest.mark.parametrize("reason", OTHERS)
def test_refuses_what_is_no_checkpoint(tmp_path, reason):
    assert reason in refusal(put(tmp_path / "model.safetensors", OTHERS[reason]))


@pytest.mark.parametrize(
    ("reason", "content"),
    [
        ("embedding", {"string_to_param": {"*": T}, "name": "x"}),
        ("hypernetwork", {768: ({"linear.0.weight": T}, {}), "layer_structure": [1, 2, 1]}),
        ("instead of named tensors", [T]),
        ("holds no tensors", {"a": 1}),
    ],
)
def test_refuses_pickles_that_are_no_checkpoint(tmp_path, reason, content):
    torch.save(content, tmp_path / "model.pt")
    assert reason in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize("container", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("keep", [0.00001, 0.5, 0.999])
def test_refuses_a_file_that_is_cut_short(tmp_path, container, keep):
    path = tiny.single_file(tmp_path, container=container)
    path.write_bytes(path.read_bytes()[: max(20, int(path.stat().st_size * keep))])
    assert "cut short" in refusal(path)


def test_refuses_a_damaged_header(tmp_path):
    path = tiny.single_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[8:200] = b"{" + b"x" * 191
    path.write_bytes(content)
    assert "table of contents" in refusal(path)


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("first_stage_model.", "no VAE"),
        ("cond_stage_model.", "no text encoder"),
        ("model.diffusion_model.output_blocks.1", "lacks"),
        ("model.diffusion_model.middle_block.1.", "pruned"),
        ("first_stage_model.quant_conv.bias", "lacks 1 of"),
    ],
)
def test_refuses_an_incomplete_checkpoint(tmp_path, prefix, reason):
    state = {key: value for key, value in tiny.ldm_state().items() if not key.startswith(prefix)}
    save_tensors(state, tmp_path / "a.safetensors")
    assert reason in refusal(tmp_path / "a.safetensors")


def test_refuses_channels_of_other_tasks(tmp_path):
    state = tiny.ldm_state()
    state["model.diffusion_model.input_blocks.0.0.weight"] = torch.ones(32, 8, 3, 3)
    save_tensors(state, tmp_path / "a.safetensors")
    assert "Pix2Pix" in refusal(tmp_path / "a.safetensors")


def test_refuses_missing_paths_and_odd_folders(tmp_path):
    assert "does not exist" in refusal(tmp_path / "no.safetensors")
    assert "no model is chosen" in refusal(" ")
    assert "model_index.json" in refusal(tmp_path)
    path = tiny.single_file(tmp_path)
    assert path.name in refusal(tmp_path)
    folder = tiny.diffusers_folder(tmp_path)
    (folder / "vae" / "config.json").rename(folder / "vae" / "x.json")
    assert "vae/config.json" in refusal(folder)
    (folder / "vae" / "x.json").rename(folder / "vae" / "config.json")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert "no weights" in refusal(folder)
    (folder / "vae").rename(folder / "other")
    assert "lacks these folders: vae" in refusal(folder)
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}', encoding="utf-8")
    assert "FluxPipeline" in refusal(folder)
    (folder / "model_index.json").write_text("{", encoding="utf-8")
    assert "damaged" in refusal(folder)


def test_an_unusual_sd1_without_yaml_needs_a_clip_folder(tmp_path):
    assert open_base(tiny.diffusers_folder(tmp_path)).needs_clip_folder
    assert 'version: "some/clip"' in open_base(tiny.diffusers_folder(tmp_path)).export_yaml(clip="some/clip")
    named = open_base(tiny.single_file(tmp_path))  # by its yaml
    assert named.needs_clip_folder and 'version: "some/clip"' in named.export_yaml(clip="some/clip")
    assert not open_base(tiny.single_file(tmp_path, "sdxl", sidecar=False)).needs_clip_folder


@pytest.mark.parametrize("container", [".safetensors", ".ckpt"])
def test_a_mapping_is_let_go_before_it_grows(tmp_path, monkeypatch, container):
    monkeypatch.setattr(tensor_file, "MAPPED_AT_MOST", 100_000)
    expected = tiny.models(tiny.architecture())["unet"].state_dict()
    found = open_base(tiny.single_file(tmp_path, container=container)).unet().state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


# --- bases that are scaled, or broken


def scaled(state: dict[str, torch.Tensor], name: str, one_each: bool = False) -> tuple[dict, dict]:
    """A file's tensors with all matrices in scaled fp8, and what they mean; by ComfyUI's formula, in float64."""
    stored, meant = {}, {}
    for key, tensor in state.items():
        stored[key] = meant[key] = tensor
        if key.startswith("model.diffusion_model.") and key.endswith(".weight") and tensor.dim() == 2:
            size = tensor.abs().amax(dim=1, keepdim=True) if one_each else tensor.abs().max()
            scale = (size / 448 + 1e-12).float()
            stored[key] = (tensor / scale).to(torch.float8_e4m3fn)
            stored[key.removesuffix("weight") + name] = scale
            stored[key.removesuffix("weight") + "scale_input"] = torch.tensor(0.5)
            meant[key] = (stored[key].double() * scale.double()).float()
    stored["model.diffusion_model.scaled_fp8"] = torch.empty(2, dtype=torch.float8_e4m3fn)
    return stored, meant


@pytest.mark.parametrize("one_each", [False, True])
@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_scaled_fp8_is_multiplied(tmp_path, name, one_each):
    stored, meant = scaled(tiny.ldm_state(), name, one_each)
    save_tensors(stored, tmp_path / "scaled.safetensors", {"_quantization_metadata": "{}"})
    save_tensors(meant, tmp_path / "whole.safetensors")
    found, wanted = (open_base(tmp_path / f"{which}.safetensors") for which in ("scaled", "whole"))
    assert not any("scale" in key for key in found.extras()) and not found.metadata
    for component in found.family.components:
        assert all(
            torch.equal(t.load(), wanted.ldm_tensors(component)[k].load())
            for k, t in found.ldm_tensors(component).items()
        )
    read = found.unet().state_dict()
    for key, tensor in wanted.unet().state_dict().items():
        torch.testing.assert_close(read[key], tensor)


def test_scaled_fp8_in_a_diffusers_folder_is_multiplied(tmp_path):
    folder = tiny.diffusers_folder(tmp_path)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = {f"model.diffusion_model.{key}": tensor.clone() for key, tensor in open_tensors(file).items()}
    stored, meant = (
        {key.removeprefix("model.diffusion_model."): t for key, t in part.items()}
        for part in scaled(state, "weight_scale")
    )
    save_tensors(stored, file)
    found = open_base(folder).unet().state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in meant.items() if key in found)


@pytest.mark.parametrize("kind", ["blocks", "two scales", "whole numbers"])
@pytest.mark.parametrize("form", ["file", "folder"])
def test_other_ways_to_quantise_are_refused(tmp_path, kind, form):
    if form == "file":
        file, key = tmp_path / "a.safetensors", "model.diffusion_model.middle_block.1.proj_in.weight"
        state = tiny.ldm_state()
    else:
        file = tiny.diffusers_folder(tmp_path) / "unet" / "diffusion_pytorch_model.safetensors"
        state, key = {k: t.clone() for k, t in open_tensors(file).items()}, "mid_block.attentions.0.proj_in.weight"
    state |= {
        "blocks": {f"{key}_scale": torch.ones(64, 4)},
        "two scales": {f"{key}_scale": torch.ones(()), f"{key}_scale_2": torch.ones(())},
        "whole numbers": {key: state[key].to(torch.int8)},
    }[kind]
    save_tensors(state, file)
    said = refusal(file if form == "file" else file.parents[1])
    assert "quantised" in said and "fp16, bf16 or fp32" in said


@pytest.mark.parametrize("broken", [torch.arange(77).sub(0.02)[None].half(), torch.arange(77).clamp(min=1)[None] - 1])
def test_broken_position_ids_are_written_right(tmp_path, broken):
    state, key = tiny.ldm_state(), "cond_stage_model.transformer.text_model.embeddings.position_ids"
    save_tensors(state | {key: broken}, tmp_path / "a.safetensors")
    base = open_base(tmp_path / "a.safetensors")
    found = base.extras()[key].load()
    assert found.dtype == torch.int64 and torch.equal(found, torch.arange(77)[None])
    assert len(base.warnings) == 1 and base.warnings[0].code == "base.wrong_position_ids"
    save_tensors(state, tmp_path / "b.safetensors")
    assert open_base(tmp_path / "b.safetensors").warnings == []


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e5m2])
def test_a_broken_number_is_named_with_its_tensor(tmp_path, number, dtype):
    state = tiny.ldm_state()
    key = "model.diffusion_model.middle_block.1.proj_in.weight"
    broken = state[key].clone()
    broken[5, 3] = number
    save_tensors(state | {key: broken.to(dtype)}, tmp_path / "a.safetensors")
    base = open_base(tmp_path / "a.safetensors")
    base.vae()
    with pytest.raises(UserError, match=r"its file holds invalid numbers .* in alphas_cumprod"):
        save_tensors(state | {"alphas_cumprod": broken}, tmp_path / "b.safetensors")
        open_base(tmp_path / "b.safetensors").require_sound()
    for look in (base.unet, base.require_sound):
        with pytest.raises(UserError) as caught:
            look()
        said = str(caught.value)
        assert "base_model" in said and "mid_block.attentions.0.proj_in.weight" in said and "NaN" in said


@pytest.mark.parametrize("old", [False, True])
def test_numbers_of_all_types_are_told_from_what_is_none(monkeypatch, old):
    original = torch.Tensor.aminmax

    def of_old(tensor: torch.Tensor):
        if tensor.dtype.itemsize < 4:
            raise RuntimeError("not implemented")
        return original(tensor)

    if old:
        monkeypatch.setattr(torch.Tensor, "aminmax", of_old)
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn)
    for dtype in types:
        assert is_finite(torch.tensor([[1.0, -3.0]]).to(dtype)) and is_finite(torch.ones(0, dtype=dtype))
        assert not is_finite(torch.tensor([1.0, torch.nan]).to(dtype))
        assert dtype == torch.float8_e4m3fn or not is_finite(torch.tensor([-torch.inf, 2]).to(dtype))
    assert is_finite(torch.ones(3, dtype=torch.int64)) and is_finite(torch.tensor([True]))


def test_what_was_freed_between_weights_goes_back_while_a_model_is_read(tmp_path, monkeypatch):
    """What packing takes lies between what stays, and would stay with it: 1.9 GB for SDXL in int8."""
    base, trimmed = open_base(tiny.single_file(tmp_path)), []
    size = sum(tensor.nbytes for _, tensor in base.source.read("unet"))
    monkeypatch.setattr(base_model.memory, "trim", lambda: trimmed.append(1))
    monkeypatch.setattr(base_model, "TIDIED", size // 5)
    base.unet()
    assert 4 <= len(trimmed) <= 6
