"""Textual-inversion runs: what learns and what stays, resuming, templates, several words, and going on from files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from torch import Tensor

from dreambooth_ext.core.checks import config_checks, config_warnings
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.data import prompt_templates
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.conditioning.learned_tokens import initial_vectors, table_of, usual_norm
from dreambooth_ext.engine.conditioning.text_encoding import Conditioning
from dreambooth_ext.engine.formats import embedding_file
from dreambooth_ext.engine.methods.textual_inversion import TextualInversionTraining
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.engine.training.loop import Loop
from tests import tiny, training
from tests.engine.worker.test_resume import check
from tests.training import Trainer

TAUGHT = {
    "method": "textual_inversion",
    "name": "zkz",
    "num_vectors": 3,
    "learning_rate": 1e-2,
    "instance_prompt": None,
    "prompt_template": "subject",
}
FAMILIES = ("sd1", "sd2", "sdxl")


TRAINER = TAUGHT


def captions_of(run: Run) -> list[str]:
    return SEEN[run.id]


SEEN: dict[str, list[str]] = {}


@pytest.fixture(autouse=True)
def seen(monkeypatch):
    """Note what each run was trained with."""
    SEEN.clear()  # runs of other tests, in other folders, may have the same id
    original = worker.make_method

    def made(config, base, dataset, run, *others):
        method = original(config, base, dataset, run, *others)
        loss = method.loss

        def noted(batch, generator):
            SEEN.setdefault(run.id, []).extend(batch.captions)
            return loss(batch, generator)

        method.loss = noted
        return method

    monkeypatch.setattr(worker, "make_method", made)


def vectors_of(run: Run, name: str = "zkz") -> list[Tensor]:
    (path,) = (path for path in run.artifacts.iterdir() if path.stem == name and path.suffix in (".pt", ".safetensors"))
    return embedding_file.read(path, "x").embedding.vectors


# --- what learns


class Stopped(Exception):
    pass


def first_step(
    trainer: Trainer, monkeypatch, **settings
) -> tuple[TextualInversionTraining, float, list[Tensor], object]:
    """The method before its first step, that step's loss and gradients, and its batch."""
    found = {}
    original = TextualInversionTraining.loss

    def noted(method, batch, generator):
        found["batch"], found["state"] = batch, generator.get_state()
        return original(method, batch, generator)

    def stop(loop: Loop, losses: list[Tensor]) -> None:
        (loss,) = losses
        found["loss"], found["method"] = loss.item(), loop.method
        found["gradients"] = [vectors.grad.clone() for vectors in loop.method.averaged()]  # they go as the run ends
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(TextualInversionTraining, "loss", noted)
        patch.setattr(Loop, "_optimise", stop)
        patch.setattr(worker, "explain", lambda error, *others: (_ for _ in ()).throw(error))
        with pytest.raises(Stopped):
            training.go_on(trainer.create(**settings))
    method, gradients = found["method"], found["gradients"]
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    return method, found["loss"], gradients, (found["batch"], found["state"])


def as_diffusers(trainer: Trainer, method: TextualInversionTraining, batch, state) -> tuple[float, list[Tensor]]:
    """The same loss and gradients as diffusers' training script comes to them: new tokens, a longer vocabulary."""
    base = open_base(trainer.base)
    count = len(method.words.words[0])
    names = [f"<new{i}>" for i in range(count)]
    hidden, pooled, rows = [], None, []
    for index, (tokenizer, encoder) in enumerate(zip(base.tokenizers(), base.text_encoders(), strict=True)):
        first = len(tokenizer)
        assert tokenizer.add_tokens(names) == count
        encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        table = encoder.get_input_embeddings()
        with torch.no_grad():
            table.weight[first:] = method.words.words[0].vectors[index].detach()
        rows.append((table.weight, first))
        texts = [re.sub(r"\bzkz\b", " ".join(names), caption) for caption in batch.captions]
        tokens = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        output = encoder(tokens, output_hidden_states=True)
        hidden.append(output.hidden_states[-2] if len(base.tokenizers()) == 2 else output.last_hidden_state)
        pooled = output.text_embeds if index == 1 else None
    generator = torch.Generator().set_state(state)
    conditioning = Conditioning(torch.cat(hidden, dim=-1), pooled)
    loss = method.objective.loss(
        base.unet(), batch.latents_bchw, conditioning, batch.time_ids_b6, batch.weights_b, generator
    )
    loss.backward()
    return loss.item(), [weight.grad[first:] for weight, first in rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_new_rows_in_the_vocabulary(tmp_path, monkeypatch, family):
    trainer = Trainer(tmp_path, family, **TAUGHT, train_batch_size=3)
    method, loss, gradients, (batch, state) = first_step(trainer, monkeypatch)
    assert len(set(batch.captions)) > 1 and all("zkz" in caption for caption in batch.captions)
    expected_loss, expected = as_diffusers(trainer, method, batch, state)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for found, wanted in zip(gradients, expected, strict=True):
        assert wanted.abs().max() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_with_checkpointing_and_in_bf16(tmp_path, monkeypatch, family):
    trainer = Trainer(tmp_path, family, **TAUGHT)
    exact = first_step(trainer, monkeypatch)[2]
    again = first_step(trainer, monkeypatch, gradient_checkpointing=True)[2]
    rounded = first_step(trainer, monkeypatch, mixed_precision="bf16")[2]
    for one, other, half in zip(exact, again, rounded, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-8)
        assert torch.nn.functional.cosine_similarity(half.flatten(), one.flatten(), dim=0) > 0.98


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_stays_as_it_is_and_the_vectors_do_not(tmp_path, methods, family):
    trainer = Trainer(tmp_path, family, **TAUGHT)
    run = trainer.train(max_train_steps=3)
    base = open_base(trainer.base)
    text = methods[0].backbone.prompts.text
    assert training.difference(dict(base.unet().state_dict()), dict(methods[0].backbone.unet.state_dict())) == ""
    for before, after in zip(base.text_encoders(), text.encoders, strict=True):
        assert training.difference(dict(before.state_dict()), dict(after.state_dict())) == ""
        assert not table_of(after)._forward_hooks
    found, widths = vectors_of(run), tiny.TEXT_WIDTHS[family]
    assert [tuple(vectors.shape) for vectors in found] == [(3, width) for width in widths]
    for k, (tokenizer, encoder) in enumerate(zip(base.tokenizers(), base.text_encoders(), strict=True)):
        begun = initial_vectors(tokenizer, encoder, "person", 3)
        assert (found[k] - begun).abs().amax(dim=-1).min() > 0, "every vector has learned"
    learned = training.weights(run)
    assert sum(tensor.numel() for tensor in learned.values()) == 3 * sum(widths)


def test_vectors_begin_as_the_words_repeated_or_left_out_evenly(trainer):
    base = open_base(trainer.base)
    (tokenizer,), (encoder,) = base.tokenizers(), base.text_encoders()
    table = encoder.get_input_embeddings().weight

    def row(word: str) -> Tensor:
        (token,) = tokenizer(word, add_special_tokens=False).input_ids
        return table[token]

    cases = {
        ("cat", 3): ["cat"] * 3,
        ("red cat", 4): ["red", "red", "cat", "cat"],
        ("red cat", 3): ["red", "red", "cat"],
        ("a red cat here", 2): ["a", "cat"],
    }
    for (text, count), words in cases.items():
        assert torch.equal(initial_vectors(tokenizer, encoder, text, count), torch.stack(list(map(row, words))))


def test_no_decay_draws_the_vectors_to_zero(trainer, methods):
    trainer.train(max_train_steps=1)
    (group,) = methods[0].parameter_groups()
    assert group["weight_decay"] == 0 and group["name"] == "embedding"
    problems = config_checks.problems(trainer.config().replace(weight_decay=0.1))
    assert [problem.field for problem in problems] == ["weight_decay"]


def test_vectors_are_no_longer_than_the_limit(trainer):
    encoder = open_base(trainer.base).text_encoders()[0]
    usual = usual_norm(encoder)
    assert usual == pytest.approx(table_of(encoder).weight.norm(dim=1).mean().item())
    fast = {"learning_rate": 1.0, "max_train_steps": 3, "checkpointing_steps": 1}
    free = training.weights(trainer.train(**fast, embedding_norm=0))
    assert free["embeddings/0.0"].norm(dim=-1).min() > 2 * usual
    run = trainer.train(**fast, embedding_norm=1.5)
    for step in (1, 2, 3):
        norms = training.weights(run, step)["embeddings/0.0"].norm(dim=-1)
        assert norms.max() <= 1.5 * usual * 1.0001
    torch.testing.assert_close(norms, torch.full((3,), 1.5 * usual))


# --- resuming


def test_from_any_step_with_shuffled_tags_and_random_lines(tmp_path):
    folder = training.pictures(tmp_path / "pictures", captions=True)
    trainer = Trainer(tmp_path, instance_data_dir=folder, **TAUGHT)
    whole = check(trainer, (1, 3), use_captions=True, shuffle_tags=True, max_train_steps=5)
    lines = captions_of(whole)
    assert len(set(lines)) == len(lines), lines


def test_resuming_with_averages_schedules_and_accumulation(trainer):
    more = {"use_ema": True, "ema_decay": 0.9, "gradient_accumulation_steps": 2, "train_batch_size": 2}
    check(trainer, (2,), lr_scheduler="cosine", lr_warmup_steps=1, validation_steps=0, **more)


def test_resuming_sdxl_with_several_words(tmp_path):
    trainer = Trainer(tmp_path, "sdxl", **TAUGHT)
    check(trainer, (1,), placeholder_token="aaa, bbb", max_train_steps=3, embedding_norm=0.5)


# --- captions


def test_built_in_templates(trainer):
    run = trainer.train(max_train_steps=6)
    lines = {line.replace("[name]", "zkz") for line in prompt_templates.SUBJECT_LINES}
    found = captions_of(run)
    assert set(found) <= lines and len(set(found)) > 2
    other = trainer.train(max_train_steps=6, prompt_template="style")
    assert all(", art by zkz" in caption for caption in captions_of(other))


def test_captions_have_their_place_in_the_lines(tmp_path):
    folder = training.pictures(tmp_path / "pictures", captions=True)
    trainer = Trainer(tmp_path, instance_data_dir=folder, **TAUGHT, use_captions=True)
    (Path(folder) / "sksper (2).txt").unlink()
    for template, pattern in {
        "subject": r"a? ?\w.* zkz, a red thing, number \d, on grass, at noon",
        "style": r".* of a red thing, number \d, on grass, at noon, art by zkz",
    }.items():
        found = captions_of(trainer.train(max_train_steps=3, prompt_template=template))
        with_caption = [caption for caption in found if "red thing" in caption]
        assert len(with_caption) == 2 and all(re.fullmatch(pattern, caption) for caption in with_caption), found


def test_lines_of_ones_own(tmp_path):
    folder = training.pictures(tmp_path / "pictures", captions=True)
    (Path(folder) / "sksper (2).txt").unlink()
    path = tmp_path / "lines.txt"
    path.write_text("\ufeffone [name]:  [filewords]\n\n [filewords]\nno word\n", encoding="utf-8")
    trainer = Trainer(tmp_path, instance_data_dir=folder, **{**TAUGHT, "prompt_template": str(path)})
    found = set(captions_of(trainer.train(max_train_steps=40, use_captions=False)))
    words = {f"a red thing, number {i}, on grass, at noon" for i in (0, 2)} | {"sksper"}
    expected = {f"one zkz: {w}" for w in words} | {f"zkz, {w}" for w in words} | {"zkz, no word"}
    assert found == expected


def test_an_instance_prompt_is_the_only_line(trainer):
    prompt = {"prompt_template": "", "instance_prompt": "my [name] on a table"}
    assert set(captions_of(trainer.train(**prompt))) == {"my zkz on a table"}
    prompt["instance_prompt"] = "a ZKZ in the sun"
    assert set(captions_of(trainer.train(**prompt))) == {"a ZKZ in the sun"}


def test_a_caption_that_cuts_the_word_off_teaches_nothing_and_breaks_nothing(trainer):
    prompt = {"prompt_template": "", "instance_prompt": "and so on " * 40 + "zkz", "max_train_steps": 2}
    run = trainer.create(**prompt)
    assert training.go_on(run) == worker.FAILED
    (error,) = training.events(run, "error")
    assert "learned nothing" in error["what"]
    assert any("is cut to 75" in str(event) for event in training.events(run, "warning"))


# --- words


def test_several_words_have_files_of_their_own(trainer):
    run = trainer.train(
        placeholder_token="aaa,bbb", initializer_token="red cat, dog", max_train_steps=4, checkpointing_steps=2
    )
    assert all(re.search("aaa bbb", caption) for caption in captions_of(run))
    made = [(event["name"], event["file"], event["step"], event["kind"]) for event in run.artifact_events()]
    kind = "textual_inversion"
    assert made == [
        ("aaa_2", "aaa_2.safetensors", 2, kind),
        ("bbb_2", "bbb_2.safetensors", 2, kind),
        ("aaa", "aaa.safetensors", 4, kind),
        ("bbb", "bbb.safetensors", 4, kind),
    ]
    base = open_base(trainer.base)
    for name, text in {"aaa": "red cat", "bbb": "dog"}.items():
        begun = initial_vectors(base.tokenizers()[0], base.text_encoders()[0], text, 3)
        assert 0 < (vectors_of(run, name)[0] - begun).abs().max() < 0.1
        about = json.loads((run.artifacts / f"{name}.json").read_text(encoding="utf-8"))
        assert about["activation text"] == name


def test_file_names_say_which_word_a_picture_teaches(tmp_path):
    for name in ("aaa (1)", "aaa (2)", "bbb (1)", "other (1)"):
        training.draw(tmp_path / "two" / f"{name}.png", len(name))
    prompt = {"instance_prompt": "[filewords]: [name]", "prompt_template": ""}
    trainer = Trainer(tmp_path, instance_data_dir=str(tmp_path / "two"), **{**TAUGHT, **prompt})
    run = trainer.train(placeholder_token="aaa,bbb", max_train_steps=4)
    assert sorted(captions_of(run)) == ["aaa: aaa", "aaa: aaa", "bbb: bbb", "other: aaa bbb"]


def test_the_word_is_the_name_unless_told_otherwise(trainer):
    assert trainer.config().placeholder_token == "zkz"
    run = trainer.train(placeholder_token="<cat-toy>", max_train_steps=2)
    assert all("<cat-toy>" in caption for caption in captions_of(run))
    assert (run.artifacts / "zkz.safetensors").exists()
    about = json.loads((run.artifacts / "zkz.json").read_text(encoding="utf-8"))
    assert about["activation text"] == "zkz"  # the WebUI's word is the file's name


def test_previews_draw_with_the_words(trainer):
    prompts = {"validation_prompts": ["zkz", "a house"], "validation_steps": 2, "learning_rate": 0.2}
    run = trainer.train(max_train_steps=2, **prompts, embedding_norm=0)
    painter = load_painter(open_base(trainer.base), torch.device("cpu"), None, (), [run.artifacts / "zkz.safetensors"])
    plain = load_painter(open_base(trainer.base), torch.device("cpu"))
    same = {"steps": 1, "cfg_scale": 7.5, "sampler": "DPM++ 2M Karras", "width": 64, "height": 64, "seeds": [0]}
    for index, prompt in enumerate(prompts["validation_prompts"]):
        with Image.open(run.samples / "2" / f"{index}_0.png") as drawn:
            (expected,) = painter.paint(prompt, negative_prompt="", **same)
            assert ImageChops.difference(drawn, expected).getextrema() == ((0, 0),) * 3
            (without,) = plain.paint(prompt, negative_prompt="", **same)
            assert (drawn.tobytes() == without.tobytes()) == (prompt == "a house")


# --- going on


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("save_format", ["safetensors", "pt"])
def test_going_on_from_a_file(tmp_path, methods, family, save_format):
    trainer = Trainer(tmp_path, family, **TAUGHT, save_format=save_format)
    run = trainer.train(max_train_steps=3)
    path = run.artifacts / f"zkz.{save_format}"
    stored = embedding_file.read(path, "x")
    assert stored.steps == (0 if (family, save_format) == ("sdxl", "pt") else 3)
    goes_on = {"embedding_weights": str(path), "num_vectors": None, "max_train_steps": 2}
    again = trainer.train(**goes_on)
    assert training.difference(methods[1].words.before[0], stored.embedding.vectors) == ""
    assert embedding_file.read(again.artifacts / path.name, "x").steps == (stored.steps + 2 if stored.steps else 0) or (
        family,
        save_format,
    ) == ("sdxl", "pt")
    assert all(not torch.equal(one, other) for one, other in zip(vectors_of(again), vectors_of(run), strict=True))


def test_each_word_goes_on_from_its_own_file(trainer, methods):
    one, other = (trainer.train(name=name, max_train_steps=1, num_vectors=n) for name, n in (("one", 2), ("other", 4)))
    paths = f"{one.artifacts / 'one.safetensors'}, {other.artifacts / 'other.safetensors'}"
    trainer.train(placeholder_token="aaa,bbb", embedding_weights=paths, num_vectors=None, max_train_steps=1)
    assert [len(word) for word in methods[2].words.words] == [2, 4]


# --- what cannot be


def problems_of(trainer: Trainer, **settings) -> dict[str, str]:
    config, unreadable = parse({**trainer.settings, **settings})
    _, _, _, found, _ = config_checks.check(config)
    return {problem.field: problem.message for problem in [*unreadable, *found]}


def test_what_cannot_be_is_said(trainer, tmp_path):
    def fields(**settings) -> list[str]:
        return sorted(problems_of(trainer, **settings))

    assert fields() == []
    for token in ("two words", "a(b)", "[x]", ","):
        assert fields(placeholder_token=token) == ["placeholder_token"], token
    assert fields(placeholder_token="aaa,AAA") == ["placeholder_token"]
    assert fields(placeholder_token="aaa,<b>") == ["placeholder_token"]  # it is to name a file
    assert fields(num_vectors=76) == ["num_vectors"] and fields(num_vectors=0) == ["num_vectors"]
    assert fields(prompt_template=str(tmp_path / "none.txt")) == ["prompt_template"]
    (tmp_path / "empty.txt").write_text("\n \n", encoding="utf-8")
    assert fields(prompt_template=str(tmp_path / "empty.txt")) == ["prompt_template"]
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    assert fields(prompt_template=str(tmp_path / "bytes.txt")) == ["prompt_template"]
    assert fields(instance_prompt="a zkz") == ["prompt_template"]
    assert fields(save_format="ckpt") == ["save_format"]
    assert fields(embedding_weights=str(tmp_path / "none.pt")) == ["embedding_weights", "num_vectors"]
    assert fields(caption_dropout=0.5) == ["caption_dropout"]
    for name, value in {"text_encoder_steps": 5, "class_prompt": "a cat", "rank": 8, "weight_decay": 0.1}.items():
        assert fields(**{name: value}) == [name]
    assert "placeholder_token" in problems_of(trainer, method="dreambooth", placeholder_token="zkz", prompt_template="")


def test_what_a_beginner_should_know(trainer):
    def fields(pictures: int = 5, **settings) -> list[str]:
        return sorted(problem.field for problem in config_warnings.warnings(trainer.config(**settings), pictures))

    assert fields() == ["name"]  # a checkpoint may have been taught that word
    assert fields(name="zkz_ti") == fields(name="zkz_ti", placeholder_token="zkz_ti") == []
    assert fields(2, name="zkz_ti") == ["instance_data_dir"]
    assert fields(placeholder_token="other") == ["placeholder_token"]  # the WebUI's word is the file's name
    assert fields(name="cat") == ["placeholder_token"] and fields(name="zkz_ti", num_vectors=30) == ["num_vectors"]
    assert fields(placeholder_token="one,two") == ["name", "name"]  # each gets a file of its own name


def test_files_of_another_kind_of_model_are_refused(tmp_path):
    """Before anything is loaded, and in plain words."""
    run = Trainer(tmp_path / "xl", "sdxl", **TAUGHT).train(max_train_steps=1)
    trainer = Trainer(tmp_path, **TAUGHT)
    path = run.artifacts / "zkz.safetensors"
    failed = trainer.create(embedding_weights=str(path), num_vectors=None)
    assert training.go_on(failed) == worker.BAD_INPUT
    (error,) = training.events(failed, "error")
    assert error["field"] == "embedding_weights" and "zkz.safetensors was made for" in error["what"]
    settings = {"method": "lora", "num_vectors": None, "prompt_template": "", "instance_prompt": "a zkz"}
    lora = trainer.train(**settings, rank=2, max_train_steps=1).artifacts / "zkz.safetensors"
    failed = trainer.create(embedding_weights=str(lora), num_vectors=None)
    assert training.go_on(failed) == worker.BAD_INPUT
    assert "is a LoRA, not an embedding" in training.events(failed, "error")[0]["what"]
