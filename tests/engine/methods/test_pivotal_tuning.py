"""Words that learn along with a LoRA (pivotal tuning): for how long, and the files that they come in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.formats import embedding_file
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.engine.training.loop_state import LoopState
from tests import tiny, training
from tests.engine.methods import test_lora
from tests.engine.methods.test_textual_inversion import problems_of
from tests.engine.optimization.test_fused_backward import assert_same
from tests.engine.verbs import test_network
from tests.engine.worker.test_resume import check
from tests.training import Trainer

PIVOTAL = {
    "method": "lora",
    "rank": 2,
    "placeholder_token": "sksper",
    "num_vectors": 3,
    "embedding_lr": 1e-2,
    "embedding_steps": 2,
}


TRAINER = PIVOTAL


def vectors_at(run, step: int) -> torch.Tensor:
    return training.weights(run, step)["embeddings/0.0"]


def test_the_word_learns_for_its_steps_and_the_lora_goes_on(trainer):
    run = check(trainer, (1, 2, 3))  # resumed while it learns, just then and after
    assert not torch.equal(vectors_at(run, 1), vectors_at(run, 2))
    assert torch.equal(vectors_at(run, 2), vectors_at(run, 4))
    rates = [event["lr"] for event in training.events(run, "step")][:4]
    assert [sorted(rate) for rate in rates] == [["embedding", "unet"]] * 2 + [["unet"]] * 2
    assert {rate["embedding"] for rate in rates[:2]} == {1e-2}
    weights = {step: training.weights(run, step) for step in (2, 4)}
    unet = [key for key in weights[4] if key.startswith("unet/") and "lora_" in key]
    assert any(not torch.equal(weights[2][key], weights[4][key]) for key in unet)


@pytest.mark.parametrize(("text", "word"), [(3, 1), (1, 3)])
def test_text_encoders_and_words_stop_each_at_its_own_step(trainer, text, word):
    run = check(trainer, (2,), text_encoder_steps=text, embedding_steps=word)
    rates = [set(event["lr"]) for event in training.events(run, "step")][:4]
    assert [("text_encoder" in rate, "embedding" in rate) for rate in rates] == [
        (step < text, step < word) for step in range(4)
    ]
    states = {step: training.weights(run, step) for step in (1, 2, 3, 4)}
    adapters = [key for key in states[1] if key.startswith("text_encoder/") and "lora_" in key]
    for before, after in ((1, 2), (2, 3), (3, 4)):
        learned = any(not torch.equal(states[before][key], states[after][key]) for key in adapters)
        assert learned == (after <= text)


@pytest.mark.parametrize(("text", "word"), [(3, 1), (1, 3)])
@pytest.mark.parametrize("norm", [0, 1.0])
def test_what_has_stopped_learning_gets_no_gradients(trainer, monkeypatch, methods, text, word, norm):
    """They would add up for nothing; and where steps are taken in the backward pass, no group is there for them."""
    left, seen = LoopState.leave, []

    def noted(state: LoopState, names: list[str]) -> None:
        method = methods[-1]
        places = {"text_encoder": [p for a in method.network["text_encoder"].values() for p in a.parameters()]}
        places["embedding"] = method.words.parameters()
        learning = {group["name"] for group in state.optimizer.param_groups} - set(names)
        for name, parameters in places.items():
            seen.append((state.step, name))
            assert all(p.requires_grad == (name in learning) for p in parameters), (state.step, name)
            assert all(p.grad is None for p in parameters), (state.step, name)
        left(state, names)

    monkeypatch.setattr(LoopState, "leave", noted)
    trainer.train(text_encoder_steps=text, embedding_steps=word, max_grad_norm=norm)
    assert len(seen) == 8


@pytest.mark.parametrize(("text", "word"), [(3, 1), (1, 3)])
def test_steps_within_the_backward_pass_go_on_when_a_part_has_stopped(trainer, monkeypatch, text, word):
    assert_same(trainer, monkeypatch, text_encoder_steps=text, embedding_steps=word)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_word_comes_in_the_loras_file(tmp_path, family):
    trainer = Trainer(tmp_path, family, **PIVOTAL)
    run = trainer.train(checkpointing_steps=1)
    path = run.artifacts / "taught.safetensors"
    with safe_open(path, "pt") as file:
        keys = {key for key in list(file.keys()) if key.startswith("bundle_emb")}
    parts = ["string_to_param.*"] if family == "sd1" else ["clip_l", "clip_g"]
    assert keys == {f"bundle_emb.sksper.{part}" for part in parts}
    (word,) = embedding_file.read_bundle(path, "lora")
    learned = [value for key, value in sorted(training.weights(run).items()) if key.startswith("embeddings/")]
    assert training.difference(word.vectors, learned) == ""
    assert [tuple(vectors.shape) for vectors in word.vectors] == [(3, width) for width in tiny.TEXT_WIDTHS[family]]
    painter = load_painter(open_base(trainer.base), torch.device("cpu"), loras=[(path, 1.0)])
    assert [word.word for word in painter.text.learned_in("a (sksper:1.2) person")] == ["sksper"]
    again = trainer.train(
        network_weights=str(path), embedding_weights=str(path), rank=None, num_vectors=None, max_train_steps=1
    )
    assert (again.artifacts / "taught.safetensors").exists()


def test_or_beside_it(trainer):
    run = trainer.train(bundle_embedding=False, checkpointing_steps=2)
    made = [(event["file"], event["kind"]) for event in run.artifact_events()]
    assert made == [
        ("taught_2.safetensors", "lora"),
        ("sksper_2.safetensors", "textual_inversion"),
        ("taught.safetensors", "lora"),
        ("sksper.safetensors", "textual_inversion"),
    ]
    stored = embedding_file.read(run.artifacts / "sksper.safetensors", "x")
    assert torch.equal(stored.embedding.vectors[0], vectors_at(run, 4)) and stored.steps == 2
    assert not embedding_file.read_bundle(run.artifacts / "taught.safetensors", "lora")


def test_what_cannot_be_is_said(trainer):
    def fields(**settings) -> list[str]:
        return sorted(problems_of(trainer, **settings))

    assert fields() == []
    assert fields(instance_prompt="a photo of a person") == ["instance_prompt"]
    assert fields(placeholder_token="a.b", instance_prompt="a a.b") == ["placeholder_token"]
    assert fields(name="sksper", bundle_embedding=False) == ["placeholder_token"]
    assert fields(placeholder_token="") == ["embedding_lr", "embedding_steps", "num_vectors"]
    assert fields(prompt_template="style") == ["prompt_template"]
    assert fields(embedding_lr="x") == ["embedding_lr"]


# --- a LoRA with a word in its file, in every verb


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> tuple[Trainer, Path]:
    """A LoRA that brings two words along."""
    trainer = Trainer(tmp_path_factory.mktemp("pivotal"), **PIVOTAL)
    words = {"placeholder_token": "sksper, zkq", "instance_prompt": "a sksper in zkq"}
    run = trainer.train(**words, max_train_steps=2)
    return trainer, run.artifacts / "taught.safetensors"


def command(*given: object) -> tuple[int, str, str]:
    """Exit status, output and errors of the real command line."""
    done = subprocess.run(
        [sys.executable, "-m", "dreambooth_ext.engine", *map(str, given)],
        capture_output=True,
        encoding="utf-8",
        cwd=training.REPOSITORY,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    return done.returncode, done.stdout, done.stderr


def words_in(path: Path) -> dict[str, list[torch.Tensor]]:
    return {word.word: word.vectors for word in embedding_file.read_bundle(path, "lora")}


def test_merging_writes_the_words_beside_the_model_and_says_so(tmp_path, taught):
    trainer, lora = taught
    out = tmp_path / "модель.safetensors"
    merge = ("network", "merge", "--model", trainer.base, "--lora", f"{lora}:0.7", "--out", out, "--device", "cpu")
    code, said, errors = command(*merge, "--precision", "fp32")
    assert code == 0, errors
    assert said.split("\n")[:3] == [str(out.with_name(f"{name}.safetensors")) for name in ("модель", "sksper", "zkq")]
    assert errors.count("into the embeddings folder") == 2 and "'sksper'" in errors
    kept = words_in(lora)
    for word in ("sksper", "zkq"):
        stored = embedding_file.read(out.with_name(f"{word}.safetensors"), "x").embedding
        assert training.difference(stored.vectors, kept[word]) == ""
    model = out.read_bytes()
    again = (*merge[:-1], "cpu", "--overwrite", "--precision", "fp16")
    out.with_name("zkq.yaml").write_text("of another model", encoding="utf-8")
    code, _, errors = command(*again)
    assert code == 1 and "would replace other files" in errors and out.read_bytes() == model
    assert out.with_name("zkq.yaml").exists()


def test_resizing_keeps_the_words(tmp_path, taught):
    trainer, lora = taught
    out = tmp_path / "small.safetensors"
    options = ("--rank", 1, "--out", out, "--device", "cpu", "--precision", "fp32")
    code, _, errors = command("network", "resize", "--model", trainer.base, "--lora", lora, *options)
    assert code == 0, errors
    assert training.difference(words_in(out), words_in(lora)) == ""


def test_going_on_takes_the_words_from_the_same_file(taught):
    trainer, lora = taught
    settings = {"network_weights": str(lora), "rank": None, "num_vectors": None, "placeholder_token": None}
    settings |= {"instance_prompt": "a sksper in zkq", "embedding_lr": 1e-12, "max_train_steps": 1}
    run = trainer.train(**settings, embedding_steps=1)
    assert run.config.placeholder_token == "sksper, zkq"
    assert run.config.embedding_weights == f"{lora},{lora}"
    assert training.difference(words_in(run.artifacts / "taught.safetensors"), words_in(lora)) == ""
    run = trainer.train(**{**settings, "placeholder_token": "ZKQ, sksper"}, embedding_steps=1)
    before, after = words_in(lora), words_in(run.artifacts / "taught.safetensors")
    assert training.difference({"ZKQ": before["zkq"], "sksper": before["sksper"]}, after) == ""


def test_words_that_would_be_lost_or_begin_anew_are_named_with_what_helps(taught):
    trainer, lora = taught
    settings = {"network_weights": str(lora), "rank": None, "num_vectors": None}
    alone = {**settings, "instance_prompt": "a sksper in zkq", "placeholder_token": "sksper"}
    said = test_lora.problems_of(trainer, **alone)
    assert list(said) == ["placeholder_token"] and "'zkq', which would be lost" in said["placeholder_token"]
    said = test_lora.problems_of(trainer, **{**alone, "placeholder_token": "sksper, zkq, third"})
    assert list(said) == ["embedding_weights"] and "would be learned from scratch" in said["embedding_weights"]


@pytest.mark.parametrize("word", ["../zkq", "a/b", "con", "модель"])
def test_words_that_cannot_name_a_file_are_not_written(tmp_path, trainer, word):
    (tmp_path / "inner").mkdir()
    lora, out = tmp_path / "a.safetensors", tmp_path / "inner" / "out.safetensors"
    parts = {"lora_down.weight": torch.ones(2, 64, 1, 1), "lora_up.weight": torch.ones(64, 2, 1, 1)}
    state = {f"lora_unet_mid_block_attentions_0_proj_in.{part}": tensor for part, tensor in parts.items()}
    save_file(state | {f"bundle_emb.{word}.emb_params": torch.ones(1, 16)}, lora)
    with pytest.raises(UserError, match="cannot be a file name"):
        test_network.run("merge", "--model", trainer.base, "--lora", lora, "--out", out)
    assert not list((tmp_path / "inner").iterdir())
