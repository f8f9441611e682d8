"""Captioners of transformers, tiny and random: they load from safetensors, speak, and never run code or pickles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image

from dreambooth_ext.core.captions import taggers
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.tagging.captioner import Captioner

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "red", "blue", "sofa", "dog", "sky", "[DEC]"]
PICTURES = [Image.new("RGB", (40, 30), "red"), Image.new("RGB", (30, 50), "blue")]


def words_into(folder: Path) -> transformers.BertTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    made = transformers.BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]")
    made.save_pretrained(folder)
    return made


def images_into(folder: Path, side: int = 32) -> None:
    made = transformers.BlipImageProcessor(size={"height": side, "width": side})
    made.save_pretrained(folder)


def blip(folder: Path) -> Path:
    words_into(folder)
    images_into(folder)
    text = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "encoder_hidden_size": 16, "bos_token_id": 13, "sep_token_id": 3,
            "pad_token_id": 0, "eos_token_id": 3, "max_position_embeddings": 80}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    torch.manual_seed(0)
    config = transformers.BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder


def git(folder: Path) -> Path:
    words_into(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    torch.manual_seed(0)
    config = transformers.GitConfig(
        vision_config=vision, vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, bos_token_id=2, eos_token_id=3, pad_token_id=0, max_position_embeddings=80,
    )  # fmt: skip
    transformers.GitForCausalLM(config).save_pretrained(folder)
    return folder


def vit_gpt2(folder: Path) -> Path:
    words_into(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    vision = transformers.ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
    )
    text = transformers.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=80)
    torch.manual_seed(0)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    transformers.VisionEncoderDecoderModel(config).save_pretrained(folder)
    return folder


MADE = {"blip": blip, "git": git, "vision-encoder-decoder": vit_gpt2}


@pytest.mark.parametrize("kind", MADE)
def test_each_kind_loads_and_speaks_the_same_each_time(tmp_path, kind):
    folder = MADE[kind](tmp_path / "Модель 1")
    assert (taggers.kind_of(folder), taggers.model_type(folder)) == ("sentences", kind)
    texts = Captioner(folder).propose(PICTURES)
    assert len(texts) == 2 and all(isinstance(text, str) for text in texts)
    assert texts == Captioner(folder).propose(PICTURES)
    assert all(set(text.split()) <= set(WORDS) for text in texts)


@pytest.mark.parametrize("kind", MADE)
def test_the_weights_are_those_of_the_file(tmp_path, kind):
    folder = MADE[kind](tmp_path)
    model = Captioner(folder).model
    from safetensors.torch import load_file

    known = load_file(folder / "model.safetensors")
    state = model.state_dict()
    assert known and all(torch.equal(state[name], value) for name, value in known.items())


def test_a_sentence_begins_as_asked(tmp_path):
    text = Captioner(blip(tmp_path), begin="a photo of").propose(PICTURES[:1])[0]
    assert text.startswith("a photo of")


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/dreambooth_ext_was_run"),))


def test_pickles_are_refused_and_never_read(tmp_path):
    folder = blip(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(Trap(), folder / "pytorch_model.bin")
    with pytest.raises(UserError) as caught:
        Captioner(folder)
    assert caught.value.problem.code == "tagging.only_pickles"
    assert not Path("/tmp/dreambooth_ext_was_run").exists()


@pytest.mark.parametrize("kind", ["florence2", "blip"])
def test_a_model_that_brings_code_runs_none_of_it(tmp_path, kind):
    folder = blip(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "trap.TrapConfig", "AutoModelForCausalLM": "trap.TrapModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": kind, "auto_map": own}))
    (folder / "trap.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'was_run')!r}).touch()")
    if kind == "florence2" and not hasattr(transformers, "Florence2ForConditionalGeneration"):
        with pytest.raises(UserError) as caught:
            Captioner(folder)
        assert caught.value.problem.code == "tagging.needs_code" and "florence2" in str(caught.value)
        assert transformers.__version__ in str(caught.value)
    elif kind == "blip":
        assert Captioner(folder).propose(PICTURES[:1])
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("damage", ["model.safetensors", "config.json", "preprocessor_config.json", "vocab.txt"])
def test_what_is_damaged_is_told(tmp_path, damage):
    folder = blip(tmp_path)
    for path in folder.glob("tokenizer*.json") if damage == "vocab.txt" else ():
        path.unlink()
    (folder / damage).write_bytes(b"{") if damage != "vocab.txt" else (folder / damage).unlink()
    if damage == "config.json":
        assert taggers.kind_of(folder) == ""
        return
    with pytest.raises(UserError) as caught:
        Captioner(folder)
    assert caught.value.problem.code == "tagging.bad_model"
