"""Files that a run begins with (LoRA, embedding, hypernetwork): all that is wrong with them is told by a check, and a
run refuses it in the same words before anything is loaded or encoded."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from dreambooth_ext.engine import worker
from dreambooth_ext.engine.deep_check import inspect
from tests import training
from tests.bad_input.rows.starting_files import FILES, LORA, file_of
from tests.bad_input.sound import LAYER

TRAINER = {"max_train_steps": 1}


@pytest.mark.parametrize("case", FILES)
def test_a_check_and_a_run_say_the_same_before_anything_is_loaded(tmp_path, shared_trainer, monkeypatch, case):
    field, content, settings, part = FILES[case]
    path = file_of(tmp_path, field, content)
    run = shared_trainer.create(**{"method": "lora", **settings, field: str(path)})
    monkeypatch.setattr(worker, "gather", None)
    assert training.go_on(run) == worker.BAD_INPUT, training.log(run)
    said = [event for event in training.events(run, "error") if event["field"] == field]
    assert said and all(part in error["what"] and error["remedy"] for error in said), training.log(run)
    answer = inspect(run.config.as_dict(), shared_trainer.folder)
    found = [(p["field"], p["message"]) for p in answer["problems"]]
    assert found == [(event["field"], event["what"]) for event in training.events(run, "error")]


def test_everything_that_is_wrong_is_said_at_once(tmp_path, shared_trainer):
    """A broken LoRA, a broken word, a broken base and settings that do not go with it."""
    lora, word = tmp_path / "lora.safetensors", tmp_path / "word.safetensors"
    save_file({**LORA, f"{LAYER}.alpha": torch.tensor(torch.inf)}, lora)
    save_file({"emb_params": torch.ones(1, 768)}, word)
    run = shared_trainer.create(
        method="lora",
        network_weights=str(lora),
        embedding_weights=str(word),
        placeholder_token="zkq",
        instance_prompt="a zkq",
        text_encoder_2_lr=1e-5,
        text_encoder_steps=1,
    )
    problems = inspect(run.config.as_dict(), shared_trainer.folder)["problems"]
    assert {p["field"] for p in problems} == {"network_weights", "embedding_weights", "text_encoder_2_lr"}
