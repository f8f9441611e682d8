"""The verb `verdict` on tiny models: every method, the files that it writes, and what it refuses."""

from __future__ import annotations

import argparse
import json

import pytest
import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.verbs.verdict_options import add_arguments
from dreambooth_ext.core.verdict.scores import NAMES
from dreambooth_ext.engine.pictures.faces import Face
from dreambooth_ext.engine.verbs import verdict
from dreambooth_ext.engine.verdict import drawing, face_judge, judging, opened_run, unconditional
from tests import training
from tests.seldom import seldom

STATES = {"undertrained", "good", "overtrained", "drifted", "broken"}
SAVES = {"max_train_steps": 2, "checkpointing_steps": 1, "save_intermediate_models": True, "subject_type": "person"}
HYPERNETWORK = {"layer_structure": [1, 1, 1], "learning_rate": 1e-3}
METHODS = {
    "lora": {"method": "lora", "rank": 2},
    "dreambooth": {},
    "textual_inversion": {"method": "textual_inversion", "instance_prompt": None, "name": "sksper"},
    "hypernetwork": {"method": "hypernetwork", **HYPERNETWORK},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Two sampling steps and one seed."""
    monkeypatch.setattr(judging, "STEPS", 2)
    monkeypatch.setattr(drawing, "SEEDS", {"subject": 2, "photo": 1, "class": 1, "world": 1})
    monkeypatch.setattr(unconditional, "STEPS", 2)
    monkeypatch.setattr(unconditional, "COUNT", 4)


def test_each_picture_is_looked_at_once(tmp_path, monkeypatch):
    """Also where a LoRA's other weights follow."""
    run = trained(tmp_path, **METHODS["lora"])
    looked: list[int] = []
    latents = judging.BaseJudge.latents
    monkeypatch.setattr(
        judging.BaseJudge, "latents", lambda own, given: looked.append(len(given)) or latents(own, given)
    )
    monkeypatch.setattr(judging, "recommended", lambda judged, base: judged[0])
    found = judged(run)
    assert sum(looked) == len(found["pictures"]) + 3 and {each["weight"] for each in found["pictures"]} == {
        0.6,
        0.8,
        1,
        1.2,
    }


def judged(run, *options: str):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = [str(run.path), "--json", "--device", "cpu", *options]
    (text,) = verdict.run(parser.parse_args(words))
    return json.loads(text)


def trained(folder, **settings):
    return training.Trainer(folder, **SAVES).train(**settings)


@pytest.mark.parametrize("method", seldom(METHODS, but=["lora"]))  # the others are drawn and judged as it is
def test_every_method(method, tmp_path, capsys):
    run = trained(tmp_path / "мой прогон", **METHODS[method])
    found = judged(run)
    assert found == json.loads((run.path / "verdict.json").read_text(encoding="utf-8"))
    assert [each["step"] for each in found["checkpoints"]] == [1, 2]
    assert all((run.path / each["file"]).exists() and each["state"] in STATES for each in found["checkpoints"])
    assert set(NAMES) <= set(found["base"]) and found["run"] in STATES
    assert all(0 <= each[name] <= 1 for each in found["checkpoints"] for name in NAMES if each[name] is not None)
    assert {picture["step"] for picture in found["pictures"]} == {0, 1, 2}
    for each in [*found["pictures"], *found["proof"]]:
        assert (run.path / each["file"]).is_file()
    assert len(found["proof"]) == 6 and all((run.path / each["nearest"]).is_file() for each in found["proof"][:1])
    assert all((run.path / each).read_text(encoding="utf-8").startswith("<svg") for each in found["curves"])
    assert str(tmp_path) not in json.dumps(found) and not list(run.path.glob(".tmp-*"))


def test_an_unconditional_run(tmp_path):
    settings = training.pixel_settings(tmp_path, max_train_steps=2, checkpointing_steps=1)
    run = training.Trainer(tmp_path, **settings, save_intermediate_models=True).train()
    found = judged(run)
    assert found["judge"]["name"] == "own" and len(found["pictures"]) == 8
    assert found["checkpoints"][0]["prompt"] is None and 0 <= found["checkpoints"][0]["likeness"] <= 1


def test_a_model_that_draws_nothing_finite_is_broken(tmp_path, monkeypatch):
    run = trained(tmp_path, **METHODS["lora"])

    def broken(painter, prompts, **options):
        if any(module for module in painter.unet.modules() if getattr(module, "is_hot", False)):
            raise UserError("training.picture_not_finite")
        return original(painter, prompts, **options)

    original = drawing.Painter.paint_each
    put = drawing.put_into

    def hot(painter, kind, path, weight):
        painter.unet.is_hot = path.stem == "taught"
        return put(painter, kind, path, weight)

    monkeypatch.setattr(drawing.Painter, "paint_each", broken)
    monkeypatch.setattr(drawing, "put_into", hot)
    found = judged(run)
    assert found["run"] == "broken" and found["checkpoints"][-1]["likeness"] is None


@pytest.mark.slow
def test_an_image_model_of_ones_own(tmp_path):
    run = trained(tmp_path, **METHODS["lora"])
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    for name, model in {
        "my-clip": CLIPVisionModel(CLIPVisionConfig(intermediate_size=16, **sizes)),
        "my-dino": Dinov2Model(Dinov2Config(**sizes)),
    }.items():
        model.save_pretrained(tmp_path / name)
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path / name)
        found = judged(run, "--judge", str(tmp_path / name))
        assert found["judge"]["name"] == name and name in found["judge"]["sentence"]


@pytest.fixture
def recogniser(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from tests.tiny_recogniser import recogniser

    return str(recogniser(tmp_path / "faces.ONNX"))


def test_a_face_recogniser_of_ones_own(tmp_path, monkeypatch, recogniser):
    run = trained(tmp_path, **METHODS["lora"])
    places = tuple((x / 2, y / 2) for x, y in face_judge.PLACES)
    monkeypatch.setattr(face_judge.faces, "find_faces", lambda picture: [Face((4.0, 4.0, 50.0, 50.0), places, 0.9)])
    found = judged(run, "--judge", recogniser)
    assert found["judge"]["name"] == "faces.ONNX" and found["judge"]["sentence_code"] == "verdict.judged_by_face"
    assert (found["judge"]["sentence_values"]["count"], found["judge"]["sentence_values"]["total"]) == (3, 3)
    assert all(0 <= each["likeness"] <= 1 for each in found["checkpoints"])
    assert found["checkpoints"] != judged(run)["checkpoints"]


@pytest.mark.slow
def test_a_face_recogniser_is_set_aside_where_there_is_no_face(tmp_path, monkeypatch, recogniser):
    run = trained(tmp_path, **METHODS["lora"])
    found = judged(run, "--judge", recogniser)
    assert found["judge"]["name"] == "base" and "0 of 3 photographs" in found["judge"]["sentence"]
    assert found["checkpoints"] == judged(run)["checkpoints"]
    monkeypatch.setattr(judging, "why_not", lambda: "no OpenCV")
    assert "without OpenCV" in judged(run, "--judge", recogniser)["judge"]["sentence"]
    (tmp_path / "broken.onnx").write_bytes(b"x")
    assert refusal(run, "--judge", str(tmp_path / "broken.onnx")) == "verdict.not_face_model"


def test_a_style_has_no_face(tmp_path, recogniser):
    run = trained(tmp_path, **METHODS["lora"], subject_type="style")
    assert "a style has no face" in judged(run, "--judge", recogniser)["judge"]["sentence"]


def test_no_image_model_is_refused_by_its_field(tmp_path):
    run = trained(tmp_path, **METHODS["lora"])
    (tmp_path / "other").mkdir()
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other" / "pytorch_model.bin")
    with pytest.raises(UserError) as raised:
        judged(run, "--judge", str(tmp_path / "other"))
    assert raised.value.problem.code == "verdict.not_like_model" and raised.value.problem.field == "judge"
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(UserError, match="names none of the types clip") as raised:
        judged(run, "--judge", str(tmp_path / "other"))
    assert str(tmp_path) not in str(raised.value)


def test_pictures_are_those_that_were_recorded(tmp_path):
    """Later changes of the folder say nothing of what was trained; what is broken or gone is left out."""
    trainer = training.Trainer(tmp_path, **SAVES)
    run = trainer.train(**METHODS["lora"])
    folder = tmp_path / "pictures"
    training.draw(folder / "later.png", 9)
    (folder / "sksper (1).png").write_bytes(b"no picture")
    (folder / "sksper (2).png").unlink()
    opened = opened_run.open_run(run)
    assert [path.name for path in opened.photographs] == ["sksper (3).png"]
    assert opened.photographs[folder / "sksper (3).png"].size == (64, 64)
    for path in folder.glob("sksper*"):
        path.unlink()
    assert refusal(run) == "verdict.no_photographs"


def test_what_cannot_be_judged(tmp_path):
    trainer = training.Trainer(tmp_path, **SAVES)
    waiting = trainer.create(**METHODS["lora"])
    assert refusal(waiting) == "verdict.still_training"
    run = trainer.train(**METHODS["lora"])
    assert refusal(run, "--steps-only", "--judge", str(tmp_path)) == "verdict.judge_without_pictures"
    trainer.base.write_bytes(trainer.base.read_bytes()[:-4] + b"\0\0\0\1")
    assert refusal(run) == "verdict.base_changed"
    for path in run.artifacts.iterdir():
        path.unlink()
    assert refusal(run) == "verdict.no_checkpoints"


def refusal(run, *options: str) -> str:
    with pytest.raises(UserError) as raised:
        judged(run, *options)
    return raised.value.problem.code
