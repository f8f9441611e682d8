"""Embedding files both ways: all that the WebUI and other trainers write, and what is none."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.formats import embedding_file
from dreambooth_ext.engine.formats.embedding_file import export_embedding
from dreambooth_ext.engine.formats.verified_write import NothingLearned
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.tensors.tensor_file import save_tensors
from tests import tiny

VECTORS = torch.arange(6.0).reshape(2, 3) / 7
L, G = torch.ones(2, 3), torch.ones(2, 5) / 3


def by_webui(path: Path) -> dict:
    """As the WebUI's own code saves an embedding; with the layout of zip archives of today's PyTorch."""
    content = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": VECTORS},
        "name": "other",
        "step": 1234,
        "sd_checkpoint": "0123456789",
        "sd_checkpoint_name": "model",
    }
    torch.save(content, path)
    return content


def test_what_the_webui_and_others_write_is_read(tmp_path):
    by_webui(tmp_path / "new.pt")
    old = tmp_path / "old.pt"
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(VECTORS)})
    torch.save({"string_to_param": parameters, "step": 7}, old, _use_new_zipfile_serialization=False)
    torch.save({"<cat-toy>": VECTORS[0]}, tmp_path / "learned_embeds.bin")
    save_file({"emb_params": VECTORS.half()}, tmp_path / "half.safetensors", {"ss_steps": "55"})
    save_file({"<cat-toy>": VECTORS}, tmp_path / "diffusers.safetensors")
    save_file({"clip_l": L, "clip_g": G}, tmp_path / "xl.safetensors")
    torch.save({"clip_l": L, "clip_g": G}, tmp_path / "xl.pt")
    for name, expected, steps in (
        ("new.pt", [VECTORS], 1234),
        ("old.pt", [VECTORS], 7),
        ("learned_embeds.bin", [VECTORS[:1]], 0),
        ("half.safetensors", [VECTORS.half().float()], 55),
        ("diffusers.safetensors", [VECTORS], 0),
        ("xl.safetensors", [L, G], 0),
        ("xl.pt", [L, G], 0),
    ):
        stored = embedding_file.read(tmp_path / name, "x")
        assert stored.steps == steps and stored.embedding.word == Path(name).stem
        assert len(stored.embedding.vectors) == len(expected), name
        for found, wanted in zip(stored.embedding.vectors, expected, strict=True):
            assert found.dtype == torch.float32 and torch.equal(found, wanted), name
            assert not found.requires_grad


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_is_read(tmp_path, dtype):
    save_file({"emb_params": VECTORS.to(dtype)}, tmp_path / "a.safetensors")
    torch.save({"string_to_param": {"*": VECTORS.to(dtype)}}, tmp_path / "a.pt")
    for suffix in (".safetensors", ".pt"):
        (found,) = embedding_file.read(tmp_path / f"a{suffix}", "x").embedding.vectors
        assert torch.equal(found, VECTORS.to(dtype).float())


def test_a_word_of_several_in_a_loras_file_is_found_by_its_name(tmp_path):
    content = {"bundle_emb.one.emb_params": VECTORS, "bundle_emb.Two.emb_params": VECTORS + 1}
    save_file(content, tmp_path / "lora.safetensors")
    torch.save(content, tmp_path / "lora.pt")
    for suffix in (".safetensors", ".pt"):
        stored = embedding_file.read(tmp_path / f"lora{suffix}", "x", "two")
        assert stored.embedding.word == "Two" and torch.equal(stored.embedding.vectors[0], VECTORS + 1)


def picture(path: Path, text: str | None) -> Path:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_text("sd-ti-embedding", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


class TensorAsWebUI(json.JSONEncoder):
    def default(self, value):
        return {"TORCHTENSOR": value.cpu().detach().numpy().tolist()} if isinstance(value, Tensor) else None


def test_a_picture_that_carries_one(tmp_path):
    content = by_webui(tmp_path / "new.pt")
    text = base64.b64encode(json.dumps(content, cls=TensorAsWebUI).encode()).decode()
    stored = embedding_file.read(picture(tmp_path / "shown.png", text), "x")
    assert stored.embedding.word == "other" and stored.steps == 1234  # it names itself, as in the WebUI
    assert torch.equal(stored.embedding.vectors[0], VECTORS)
    ours = embedding_file.picture_text(embedding_file.pickled({"emb_params": VECTORS}, "mine", 9, "base", None))
    stored = embedding_file.read(picture(tmp_path / "ours.png", ours), "x")
    assert (stored.embedding.word, stored.steps) == ("mine", 9)
    assert torch.equal(stored.embedding.vectors[0], VECTORS)


def test_what_is_no_embedding_is_said(tmp_path):
    save_file({"a": VECTORS, "b": VECTORS + 1}, tmp_path / "two.safetensors")
    save_file({"emb_params": torch.ones(76, 3)}, tmp_path / "long.safetensors")
    save_file({"emb_params": torch.tensor([[1.0, float("nan")]])}, tmp_path / "nan.safetensors")
    save_file({"emb_params": torch.ones(2, 2, 2)}, tmp_path / "cube.safetensors")
    save_file({"clip_l": L, "clip_g": G[:1]}, tmp_path / "uneven.safetensors")
    whole = {"string_to_param.*": VECTORS, "string_to_param_out": VECTORS + 1}
    save_file({f"bundle_emb.zkq.{key}": tensor for key, tensor in whole.items()}, tmp_path / "output.safetensors")
    save_file({"clip_l": L, "clip_g": G, "clip_g_out": G + 1}, tmp_path / "xl output.safetensors")
    save_file({"clip_l": L, "clip_g": G, "t5": G + 1}, tmp_path / "three.safetensors")
    save_file({f"bundle_emb.{word}.emb_params": VECTORS.clone() for word in "ab"}, tmp_path / "words.safetensors")
    save_file({f"lora_unet_{n}.lora_up.weight": torch.ones(1) for n in range(99)}, tmp_path / "lora.safetensors")
    save_file({"model.diffusion_model.a": L, "model.diffusion_model.b": G}, tmp_path / "model.safetensors")
    save_file({"emb_params": VECTORS.to(torch.int8)}, tmp_path / "whole numbers.safetensors")
    torch.save({768: (1, 2), "layer_structure": [1, 2, 1]}, tmp_path / "hypernetwork.pt")
    torch.save([VECTORS], tmp_path / "list.pt")
    torch.save({"string_to_param": 5}, tmp_path / "number.pt")
    torch.save({"string_to_param": {"*": VECTORS, "+": VECTORS}}, tmp_path / "terms.pt")
    torch.save({"step": Runs()}, tmp_path / "hostile.pt")
    picture(tmp_path / "plain.png", None)
    picture(tmp_path / "garbled.png", "!!!")
    picture(tmp_path / "nested.png", base64.b64encode(b"[" * 100_000).decode())
    picture(tmp_path / "strange.png", base64.b64encode(b'{"string_to_param": {"*": {"TORCHTENSOR": "x"}}}').decode())
    (tmp_path / "cut.png").write_bytes((tmp_path / "plain.png").read_bytes()[:40])
    (tmp_path / "text.pt").write_text("hello, this is no embedding", encoding="utf-8")
    for name, said in {
        "two.safetensors": "not hold a single embedding",
        "long.safetensors": "76 vectors",
        "nan.safetensors": "invalid numbers",
        "cube.safetensors": "not hold a single embedding",
        "uneven.safetensors": "not hold a single embedding",
        "output.safetensors": "no place in a prompt: 'string_to_param_out'",
        "xl output.safetensors": "no place in a prompt: 'clip_g_out'",
        "three.safetensors": "no place in a prompt: 't5'",
        "words.safetensors": "several words: 'a', 'b'",
        "lora.safetensors": "is a LoRA, not an embedding",
        "model.safetensors": "is a complete model, not an embedding",
        "whole numbers.safetensors": "not hold a single embedding",
        "hypernetwork.pt": "is a hypernetwork, not an embedding",
        "list.pt": "not hold a single embedding",
        "number.pt": "not hold a single embedding",
        "terms.pt": "not hold a single embedding",
        "hostile.pt": "wants to run",
        "plain.png": "carries no embedding",
        "garbled.png": "is damaged",
        "nested.png": "is damaged",
        "strange.png": "is damaged",
        "cut.png": "is damaged",
        "text.pt": "a text file",
        "missing.pt": "does not exist",
    }.items():
        with pytest.raises(UserError) as raised:
            embedding_file.read(tmp_path / name, "embedding")
        assert raised.value.problem.field == "embedding" and said in raised.value.problem.message, name


class Runs:
    def __reduce__(self):
        return print, ("run",)


def export(base, vectors: list[Tensor], path: Path, precision: str = "fp32"):
    about = {"modelspec.title": "x", "ss_steps": "9"}
    return export_embedding(base, vectors, path, precision=precision, metadata=about, steps=9, activation_text="x")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_what_is_written_has_the_webuis_keys(tmp_path, precision):
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    base = open_base(tiny.single_file(tmp_path))
    made = export(base, [VECTORS], tmp_path / "zkz.safetensors", precision)
    found = load_file(made.path)
    assert found.keys() == {"emb_params"} and torch.equal(found["emb_params"], VECTORS.to(dtype))
    made = export(base, [VECTORS], tmp_path / "zkz.pt", precision)
    content = torch.load(made.path, weights_only=True)
    assert torch.equal(content["string_to_param"].pop("*"), VECTORS.to(dtype))
    hash = content.pop("sd_checkpoint")
    assert len(hash) == 10 and int(hash, 16)
    assert content == {
        "string_to_token": {"*": 265},
        "string_to_param": {},
        "name": "zkz",
        "step": 9,
        "sd_checkpoint_name": "tiny-sd1",
    }
    assert json.loads((tmp_path / "zkz.json").read_text(encoding="utf-8"))["activation text"] == "zkz"
    for suffix in (".safetensors", ".pt"):
        made = export(base, [L, G], tmp_path / f"xl{suffix}", precision)
        found = load_file(made.path) if suffix == ".safetensors" else torch.load(made.path, weights_only=True)
        assert found.keys() == {"clip_l", "clip_g"} and torch.equal(found["clip_g"], G.to(dtype))


def test_numbers_that_are_none_or_do_not_fit_are_not_written(tmp_path):
    base = open_base(tiny.single_file(tmp_path))
    for vectors, precision, field in (
        (torch.full((1, 3), float("nan")), "fp32", "learning_rate"),
        (torch.full((1, 3), 1e6), "fp16", "save_precision"),
    ):
        for suffix in (".safetensors", ".pt"):
            with pytest.raises(UserError) as raised:
                export(base, [vectors], tmp_path / f"bad{suffix}", precision)
            assert raised.value.problem.field == field and not isinstance(raised.value, NothingLearned)
            assert not (tmp_path / f"bad{suffix}").exists()


def test_a_file_is_as_wide_as_its_model(tmp_path):
    save_tensors({"emb_params": torch.ones(2, 768)}, tmp_path / "a.safetensors")
    stored = embedding_file.read(tmp_path / "a.safetensors", "x")
    embedding_file.check_widths(stored, tmp_path / "a.safetensors", [768], "x")
    with pytest.raises(UserError, match="made for SD 1, but this model is SDXL"):
        embedding_file.check_widths(stored, tmp_path / "a.safetensors", [768, 1280], "x")
