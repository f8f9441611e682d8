"""The verb `convert`, from and to every form."""

from __future__ import annotations

import argparse

import diffusers
import pytest
import torch

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.verbs.convert_options import add_arguments
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.tensors.tensor_file import open_tensors
from dreambooth_ext.engine.verbs import convert as convert_command
from tests import tiny
from tests.seldom import seldom


def convert(source, target, *extra: str):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return convert_command.run(parser.parse_args([str(source), str(target), *extra]))


def weights(path) -> dict[str, torch.Tensor]:
    base = open_base(path)
    parts = {"unet": base.unet(), "vae": base.vae()}
    parts |= dict(zip(base.family.components[2:], base.text_encoders(), strict=True))
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("family", seldom(["sd1", "sd2", "sdxl"], but=["sd1"]))
def test_round_trips_are_exact(tmp_path, family):
    source = tiny.single_file(tmp_path, family, dtype=torch.float16)
    pickled = convert(source, tmp_path / "a" / "m.ckpt")
    original, there = open_tensors(source), open_tensors(pickled)
    assert set(original) == set(there) and all(torch.equal(original[key], there[key]) for key in original)
    folder = convert(pickled, tmp_path / "папка")
    back = convert(folder, tmp_path / "b" / "m.safetensors")
    assert same(weights(source), weights(folder)) and same(weights(source), weights(back))
    assert open_tensors(back)["model.diffusion_model.out.2.bias"].dtype == torch.float16
    assert (open_base(back).sidecar_yaml is None) is False  # unusual sizes need one


@pytest.mark.parametrize("family, pipeline", [
    ("sd1", diffusers.StableDiffusionPipeline),
    ("sdxl", diffusers.StableDiffusionXLPipeline),
])  # fmt: skip
def test_diffusers_opens_the_folder(tmp_path, family, pipeline):
    folder = convert(tiny.single_file(tmp_path, family), tmp_path / "folder")
    loaded = pipeline.from_pretrained(folder)
    assert torch.equal(loaded.unet.conv_in.weight, open_base(folder).unet().conv_in.weight)
    assert loaded.tokenizer("a cat").input_ids == [49406, 320, 2368, 49407]


def test_precision_changes_weights_and_not_schedules(tmp_path):
    target = convert(tiny.single_file(tmp_path, ema=True), tmp_path / "half.safetensors", "--precision", "bf16")
    found = open_tensors(target)
    assert found["first_stage_model.quant_conv.bias"].dtype == torch.bfloat16
    assert found["alphas_cumprod"].dtype == torch.float32
    assert not any(key.startswith("model_ema.") for key in found)


def test_numbers_that_do_not_fit_are_refused(tmp_path):
    source = tiny.single_file(tmp_path)
    state = dict(open_tensors(source))
    state["model.diffusion_model.out.2.bias"] = state["model.diffusion_model.out.2.bias"].clone().fill_(1e6)
    tiny.save_tensors(state, source)
    for target in ("x.safetensors", "folder"):
        with pytest.raises(UserError, match="bf16 or fp32"):
            convert(source, tmp_path / target, "--precision", "fp16")
        assert not (tmp_path / target).exists()


def test_nothing_is_overwritten_unasked(tmp_path):
    source = tiny.single_file(tmp_path)
    target = tmp_path / "m.safetensors"
    target.with_suffix(".yaml").write_text("old", encoding="utf-8")
    with pytest.raises(UserError, match="--overwrite"):
        convert(source, target)
    convert(source, target, "--overwrite")
    with pytest.raises(UserError, match="--overwrite"):
        convert(source, target)
    convert(target, target, "--overwrite", "--precision", "fp16")  # onto itself
    assert open_tensors(target)["model.diffusion_model.out.2.bias"].dtype == torch.float16


def test_a_folder_that_is_no_model_is_never_replaced(tmp_path):
    source = tiny.single_file(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(UserError, match="something other than a model"):
        convert(source, home, "--overwrite")
    assert (home / "thesis.txt").exists()


def changed(path, changes: dict[str, torch.Tensor]):
    """The file again, with other tensors; they keep its configuration."""
    state = dict(open_tensors(path)) | changes
    tiny.save_tensors({key: tensor.clone() for key, tensor in state.items()}, path)
    return path


def test_fp8_stays_fp8_where_the_file_can_hold_it(tmp_path):
    source = tiny.single_file(tmp_path)
    in_fp8 = {k: t.to(torch.float8_e4m3fn) for k, t in open_tensors(source).items() if k.startswith("model.diff")}
    changed(source, in_fp8)
    found = open_tensors(convert(source, tmp_path / "again.safetensors"))
    for key, tensor in in_fp8.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key].float(), tensor.float())
    with pytest.raises(UserError, match="cannot hold fp8"):
        convert(source, tmp_path / "pickled.ckpt")
    convert(source, tmp_path / "pickled.ckpt", "--precision", "fp16")
    assert same(weights(convert(source, tmp_path / "folder")), weights(source))


def test_what_is_broken_is_made_right_or_refused(tmp_path, capsys):
    key = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    source = changed(tiny.single_file(tmp_path), {key: torch.arange(77)[None] - 0.02})
    found = open_tensors(convert(source, tmp_path / "right.safetensors"))
    assert torch.equal(found[key], torch.arange(77)[None]) and capsys.readouterr().err.count("position_ids") == 1
    changed(source, {"first_stage_model.quant_conv.bias": torch.full((8,), torch.nan)})
    for target in ("x.safetensors", "folder"):
        with pytest.raises(UserError, match=r"its VAE holds invalid numbers .* in quant_conv.bias"):
            convert(source, tmp_path / target)
