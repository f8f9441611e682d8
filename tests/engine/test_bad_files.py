"""Bad pictures, checkpoints and machines: named, with the reason and a remedy; nothing that is in a file ever runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from dreambooth_ext import files
from dreambooth_ext.config import RunConfig
from dreambooth_ext.engine import inspection, memory, optim
from dreambooth_ext.engine.base import open_base
from dreambooth_ext.engine.dataset import Dataset
from dreambooth_ext.engine.images import open_picture
from dreambooth_ext.engine.tensorfile import save_tensors
from dreambooth_ext.errors import Problem, UserError
from dreambooth_ext.pictures import entries
from tests import tiny


def assert_good(problem: Problem, field: str, part: str) -> None:
    assert problem.field == field and part in str(problem), problem
    assert problem.remedy.strip() and len(str(problem)) < 700, problem


# --- pictures


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, kind)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 3600 million pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 10**6)) + chunk(b"IEND", b"")


PICTURES = {
    "nothing": b"",
    "one byte": b"\xff",
    "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
    "text": b"this is no picture",
    "a JPG cut early": encoded("JPEG")[:300],
    "a JPG cut late": encoded("JPEG")[:-300],
    "a PNG cut short": encoded("PNG")[:200],
    "a PNG with a wrong sum": encoded("PNG")[:60] + b"....." + encoded("PNG")[65:],
    "a WebP without data": b"RIFF\x20\0\0\0WEBPVP8 " + b"\0" * 20,
    "a BMP of zeros": b"BM" + b"\0" * 60,
    "a decompression bomb": bomb(),
    "a GIF": encoded("GIF"),
    "a TIFF": encoded("TIFF"),
    "PostScript, which Pillow would run": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n",
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a PDF": b"%PDF-1.7\n",
    "a zip": b"PK\x03\x04" + b"\0" * 40,
}


def picture_config(folder: Path) -> RunConfig:
    return RunConfig(
        instance_data_dir=str(folder), instance_prompt="sksper", resolution=64, cache_latents=False, max_train_steps=1
    )


@pytest.mark.parametrize("what", PICTURES)
def test_a_broken_picture_is_named_and_left_out(tmp_path, what):
    (tmp_path / "плохая (1).jpg").write_bytes(PICTURES[what])
    with pytest.raises(UserError) as caught:
        open_picture(tmp_path / "плохая (1).jpg")
    assert_good(caught.value.problem, "instance_data_dir", "плохая (1).jpg")
    config, warnings = picture_config(tmp_path), []
    with pytest.raises(UserError) as caught:
        Dataset(config, entries(config)[0], 1.0).encode(None, warn=warnings.append)
    assert_good(caught.value.problem, "instance_data_dir", "none of these pictures can be read")
    assert len(warnings) == 1 and "плохая (1).jpg" in warnings[0]
    (tmp_path / "good.jpg").write_bytes(encoded("JPEG"))
    dataset = Dataset(config, entries(config)[0], 1.0)
    dataset.encode(None)
    assert [picture.entry.path.name for picture in dataset.pictures] == ["good.jpg"]


def test_pictures_that_are_odd_but_sound(tmp_path):
    """One pixel, a line, an animation, a wrong ending: all of them train."""
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("RGB", (1, 5000)).save(tmp_path / "line.png")
    Image.new("RGB", (64, 64)).save(
        tmp_path / "a.webp", save_all=True, append_images=[Image.new("RGB", (64, 64), "red")]
    )
    (tmp_path / "png.jpg").write_bytes(encoded("PNG"))
    config = picture_config(tmp_path)
    dataset = Dataset(config, entries(config)[0], 1.0)
    dataset.encode(None)
    assert len(dataset.pictures) == 4
    assert dataset.batches(0)[0].pixels_bchw.shape == (1, 3, 64, 64)


# --- checkpoints


def refused(path: Path, part: str, load: bool = False) -> None:
    with pytest.raises(UserError) as caught:
        base = open_base(path)
        if load:
            base.tokenizers(), base.text_encoders(), base.vae(), base.unet()
    assert_good(caught.value.problem, "base_model", part)


def header(content: object, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


class Evil:
    """Runs a command where it is unpickled by anything careless."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f'echo dead > "{self.canary}"',)


def line(**changes: object) -> dict:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


SAFETENSORS = [
    (header(b"{}"), "holds no tensors"),
    (header({"__metadata__": ["x"]}), "holds no tensors"),
    (header({"a": {}}), "makes no sense"),
    (header({"a": "x"}), "makes no sense"),
    (header(line(shape="x"), b"\0" * 8), "makes no sense"),
    (header(line(shape=[-2]), b"\0" * 8), "makes no sense"),
    (header(line(data_offsets=[0]), b"\0" * 8), "makes no sense"),
    (header(line(data_offsets=[0, 10**15]), b"\0" * 8), "cut short: 92 B of"),
    (header(line(dtype="F3"), b"\0" * 8), "type that is not known here (F3)"),
    (header(b'{"a":' + b"[" * 100_000), "table of contents cannot be read"),
    (header(b"{broken"), "table of contents cannot be read"),
    (header(b'{"\xff": 1}'), "table of contents cannot be read"),
    (struct.pack("<Q", 2**31) + b"{" + b"\0" * 100, "cut short"),
    (header(line(), b"\0" * 8), "another kind of model"),
    (b"", "is empty"),
    (b"\0" * 5000, "neither a .safetensors nor"),
    (b"<html><body>Please log in</body></html>", "a web page"),
    (b"password: 1234\n", "a text file"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
]


@pytest.mark.parametrize(("content", "part"), SAFETENSORS, ids=[part for _, part in SAFETENSORS])
def test_a_file_that_is_no_model(tmp_path, content, part):
    (tmp_path / "модель 1.safetensors").write_bytes(content)
    refused(tmp_path / "модель 1.safetensors", part)


T = torch.ones(2, 2)
PICKLES = [
    ({"a": 1}, "holds no tensors"),
    ([T], "instead of named tensors"),
    (T, "instead of named tensors"),
    ({"string_to_param": {"*": T}, "name": "x"}, "textual-inversion embedding"),
    ({768: ({"linear.0.weight": T}, {}), "layer_structure": [1, 2, 1]}, "a hypernetwork"),
    ({"state_dict": {"lora_unet_a.lora_up.weight": T}}, "a LoRA"),
    ({"lora_te_a.hada_w1_a": T}, "a LoRA"),
    ({"control_model.input_hint_block.0.weight": T}, "a ControlNet"),
    ({"encoder.conv_in.weight": T, "decoder.conv_in.weight": T}, "an autoencoder (VAE) alone"),
    ({"double_blocks.0.img_attn.qkv.weight": T}, "a Flux model"),
    ({"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": T}, "a Stable Diffusion 3 model"),
    ({"model_ema.diffusion_modelout2weight": T}, "averaged weights only"),
    ({"upscale.0.weight": T}, "another kind of model"),
]


@pytest.mark.parametrize(("content", "part"), PICKLES, ids=[f"{part} {n}" for n, (_, part) in enumerate(PICKLES)])
def test_a_pickle_that_is_no_checkpoint(tmp_path, content, part):
    torch.save(content, tmp_path / "модель 1.ckpt")
    refused(tmp_path / "модель 1.ckpt", part)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "old protocol"])
def test_nothing_in_a_pickle_runs(tmp_path, form):
    path, canary = tmp_path / "evil.ckpt", tmp_path / "canary"
    if form in ("zip", "legacy"):
        content = {"state_dict": {"w": T, "evil": Evil(canary)}}
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    else:
        path.write_bytes(pickle.dumps(Evil(canary), 4 if form == "bare" else 0))
    refused(path, "text file" if form == "old protocol" else "may be malicious")
    assert not canary.exists()
    pickle.loads(pickle.dumps(Evil(canary)))  # the canary does die of anything less careful
    assert canary.exists()


def zipped(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_zips_and_pickles_that_blow_up(tmp_path):
    path = tmp_path / "a.ckpt"
    zipped(path, **{"archive/data.pkl": b"\0" * 50_000_000, "archive/version": b"3"})
    assert path.stat().st_size < 100_000
    refused(path, "damaged or not a PyTorch file")
    zipped(path, **{"readme.txt": b"x"})
    refused(path, "damaged or not a PyTorch file")
    zipped(path, **{"archive/version": b"3"})
    refused(path, "damaged or not a PyTorch file")
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 2**40))  # one text of a terabyte
    refused(path, "damaged or not a PyTorch file")
    path.write_bytes(b"\x80\x02" + b"(" * 10**6)
    refused(path, "damaged or not a PyTorch file")
    path.write_bytes(b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".")
    refused(path, "damaged or not a PyTorch file")


@pytest.mark.parametrize(
    ("key", "shape", "part"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", (5,), "unknown kind"),
        ("first_stage_model.decoder.conv_in.weight", (4,), "shapes that no such model has"),
        ("first_stage_model.encoder.conv_in.weight", (), "shapes that no such model has"),
        ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", (5,), "shapes that no such"),
        ("model.diffusion_model.time_embed.0.weight", (3, 3), "time_embedding.linear_1.weight"),
        ("model.diffusion_model.out.2.weight", (1,), "conv_out.weight"),
    ],
)
def test_a_checkpoint_with_wrong_shapes(tmp_path, key, shape, part):
    save_tensors(tiny.ldm_state() | {key: torch.zeros(shape)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", part, load=True)


def test_a_quantised_checkpoint(tmp_path):
    save_tensors({key: value.to(torch.int8) for key, value in tiny.ldm_state().items()}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "quantised to whole numbers")


# --- the yaml beside a checkpoint


@pytest.fixture(scope="module")
def described(tmp_path_factory) -> tuple[Path, str]:
    path = tiny.single_file(tmp_path_factory.mktemp("described"))
    return path, path.with_suffix(".yaml").read_text(encoding="utf-8")


YAMLS = [
    ("", "has no model.params"),
    ("- a", "has no model.params"),
    ("plain words", "has no model.params"),
    ("model:\n  params:\n", "has no model.params"),
    ("a: [1", "is not valid YAML"),
    ("\ta: b", "is not valid YAML"),
    (b"\0\1", "is not valid YAML"),
    (b"model: \xe9", "is not UTF-8 text"),
    ("a: " + "[" * 2_000, "is n"),  # not valid, or nested too deep: that depends on the Python
    (("unet_config:", "unet_cfg:"), "lacks what a model's configuration needs"),
    (("scale_factor: 0.18215", "scale_factor: much"), "or has it wrong"),
    (
        ("model_channels: 32", "model_channels: 64"),
        "does not describe the file beside it: block_out_channels [64, 128]",
    ),
    (("context_dim: 16", "context_dim: 768"), "does not describe the file beside it: cross_attention_dim 768"),
    (("FrozenCLIPEmbedder", "FrozenOpenCLIPEmbedder"), "describes Stable Diffusion 2"),
    (("linear_start: 0.00085", "linear_start: x"), "or has it wrong"),
    (("num_heads: 8", "num_heads: many"), "configuration"),
]


@pytest.mark.parametrize(("content", "part"), YAMLS, ids=[f"{part} {n}" for n, (_, part) in enumerate(YAMLS)])
def test_a_yaml_that_does_not_fit(described, content, part):
    path, good = described
    if isinstance(content, tuple):
        assert good.count(content[0]) == 1, content
        content = good.replace(*content)
    path.with_suffix(".yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(path, part, load=True)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system"])
def test_nothing_in_a_yaml_runs(described, tmp_path, tag):
    path, _ = described
    canary = tmp_path / "canary"
    path.with_suffix(".yaml").write_text(f"model: {tag} ['echo dead > \"{canary}\"']\n", encoding="utf-8")
    refused(path, "is not valid YAML")
    assert not canary.exists()


# --- diffusers folders


FOLDERS = [
    ("model_index.json", "[]", "model_index.json"),
    (
        "model_index.json",
        '{"_class_name": "StableDiffusionXLPipeline", "text_encoder": null}',
        "cannot be trained here",
    ),
    ("model_index.json", '{"_class_name": "FluxPipeline"}', "is a FluxPipeline"),
    ("unet/config.json", "[]", "unet/config.json"),
    ("unet/config.json", "{", "unet/config.json"),
    ("unet/config.json", {"down_block_types": ["FooBlock", "DownBlock2D"]}, "FooBlock does not exist"),
    ("unet/config.json", {"in_channels": 8}, "takes 8 channels"),
    ("unet/config.json", {"norm_num_groups": 7}, "must be divisible"),
    ("vae/config.json", None, "lacks vae/config.json"),
    ("text_encoder/config.json", '"x"', "text_encoder/config.json"),
    ("text_encoder/config.json", {"num_attention_heads": 3}, "must be divisible"),
    ("scheduler/scheduler_config.json", "[]", "scheduler_config.json"),
    ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts 'sample'"),
    ("scheduler/scheduler_config.json", {"beta_start": "x"}, "scheduler_config.json"),
    ("scheduler/scheduler_config.json", {"beta_schedule": "foo"}, "foo is not implemented"),
    ("unet/diffusion_pytorch_model.safetensors", None, "unet in base has no weights"),
    ("unet/diffusion_pytorch_model.safetensors", "cut", "cut short"),
    ("unet/diffusion_pytorch_model.safetensors.index.json", "{", "index.json"),
    ("tokenizer/vocab.json", "{", "vocabulary"),
    ("tokenizer/vocab.json", "[]", "vocabulary"),
]


@pytest.mark.parametrize(("inner", "content", "part"), FOLDERS, ids=[f"{i} {p}" for i, _, p in FOLDERS])
def test_a_damaged_diffusers_folder(tmp_path, inner, content, part):
    folder = tiny.diffusers_folder(tmp_path, name="base")
    path = folder / inner
    path.parent.mkdir(exist_ok=True)
    if inner.startswith("tokenizer"):
        (path.parent / "merges.txt").write_text("", encoding="utf-8")
    if inner.endswith("index.json") and "unet" in inner:
        (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **content}), encoding="utf-8")
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        path.write_text(content, encoding="utf-8")
    refused(folder, part, load=True)


def test_paths_that_are_none(tmp_path):
    for name, part in {
        "x" * 5000: "cannot be a path",
        "a\0b": "does not exist",
        "https://[broken/a.safetensors": "cannot be reached",
        "https://": "cannot be reached",
        str(tmp_path / "no.ckpt"): "does not exist",
    }.items():
        refused(name, part)
    refused(tmp_path, "not a diffusers model")


# --- what only the base and the machine can tell


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with odd letters, which has a base and pictures."""
    folder = tmp_path_factory.mktemp("Рабочая папка (1)")
    tiny.single_file(folder, name="base")
    (folder / "фото").mkdir()
    for number in range(5):
        (folder / "фото" / f"sksper ({number}).png").write_bytes(encoded("PNG"))
    return folder


def inspected(place: Path, **values) -> dict:
    config = RunConfig(
        name="x",
        base_model=str(place / "base.safetensors"),
        instance_data_dir=str(place / "фото"),
        instance_prompt="sksper",
        resolution=64,
        max_train_steps=10,
        text_encoder_steps=5,
        learning_rate=1e-6,
        text_encoder_lr=1e-6,
        device="cpu",
    ).replace(**values)
    return json.loads(json.dumps(inspection.inspect(config.as_dict(), place / "запуски")))


def test_a_good_run_has_a_plan_and_no_problem(place):
    found = inspected(place)
    assert found["problems"] == [] and found["plan"]["pictures"] == 5 and found["plan"]["steps"] == 10
    assert not (place / "запуски").exists()


MACHINE = [
    ({"device": "gpu"}, "device", "is no device"),
    ({"device": "cuda:99"}, "device", "is not on this machine"),
    ({"device": "meta"}, "device", "is not on this machine"),
    ({"mixed_precision": "fp16"}, "mixed_precision", "fp16 does not train on 'cpu'"),
    ({"attention": "xformers"}, "attention", "NVIDIA"),
    ({"optimizer_args": {"foo": 1}}, "optimizer_args", "no argument 'foo'"),
    ({"optimizer_args": {"lr": 1}}, "optimizer_args", "has its own setting"),
    ({"optimizer_args": {"betas": "x"}}, "optimizer_args", "'betas' cannot be 'x'"),
    ({"optimizer_args": {"betas": [2, 3]}}, "optimizer_args", "refuses them"),
    ({"text_encoder_2_lr": 1e-6}, "text_encoder_2_lr", "has one text encoder"),
    ({"clip_skip": 9}, "clip_skip", "has 3 layers"),
    ({"zero_terminal_snr": True}, "zero_terminal_snr", "cannot learn the last timestep"),
    ({"base_model": "нет.safetensors"}, "base_model", "does not exist"),
]


@pytest.mark.parametrize(("values", "field", "part"), MACHINE, ids=[f"{field} {part}" for _, field, part in MACHINE])
def test_what_does_not_fit_the_base_or_the_machine(place, values, field, part):
    (problem,) = inspected(place, **values)["problems"]
    assert_good(Problem(**problem), field, part)


@pytest.mark.parametrize("name", ["adamw8bit", "paged_adamw8bit", "lion", "prodigy"])
def test_an_optimizer_whose_library_is_missing(place, monkeypatch, name):
    real = optim.importlib.import_module

    def without(module, *more):
        if module == optim.KINDS[name].module:
            raise ImportError(f"No module named {module!r}")
        return real(module, *more)

    monkeypatch.setattr(optim.importlib, "import_module", without)
    (problem,) = inspected(place, optimizer=name, learning_rate=1.0, text_encoder_lr=1.0)["problems"]
    assert_good(Problem(**problem), "optimizer", "does not work here: No module named")


def test_a_disk_that_is_too_full(place, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda path: 1000)
    (problem,) = inspected(place)["problems"]
    assert_good(Problem(**problem), "checkpointing_steps", "1000 B are free")


def test_a_machine_with_too_little_memory(place, monkeypatch):
    monkeypatch.setattr(memory, "total", lambda device: 10**6)
    (problem,) = inspected(place, train_batch_size=4)["problems"]
    assert_good(Problem(**problem), "train_batch_size", "which has 977 KB")
    assert problem["remedy"].startswith("Turn gradient_checkpointing on; set train_batch_size to 1")
    assert "card" not in problem["remedy"]


def test_everything_at_once(place, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda path: 1000)
    values = {"mixed_precision": "fp16", "clip_skip": 9, "optimizer_args": {"foo": 1}, "attention": "xformers"}
    fields = {problem["field"] for problem in inspected(place, **values)["problems"]}
    assert fields == {"mixed_precision", "clip_skip", "optimizer_args", "attention", "checkpointing_steps"}


def test_broken_pictures_of_a_class(place, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    prior = {"class_prompt": "a person", "class_data_dir": str(tmp_path), "with_prior_preservation": True}
    found = inspected(place, **prior, num_class_images=1)
    (problem,) = found["problems"]
    assert_good(Problem(**problem), "class_data_dir", "none of these pictures can be read")
    assert len(found["warnings"]) == 1 and "a.png" in found["warnings"][0]
    (tmp_path / "b.png").write_bytes(encoded("PNG"))
    found = inspected(place, **prior, num_class_images=3)
    assert found["problems"] == [] and found["plan"]["class_pictures"] == 2  # one of them still to be drawn
