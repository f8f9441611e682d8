"""Files that a run begins with (LoRA, embedding, hypernetwork): all that is wrong with them is told by a check, and a
run refuses it in the same words before anything is loaded or encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dreambooth_ext.engine import worker
from dreambooth_ext.engine.base import open_base
from dreambooth_ext.engine.inspection import inspect
from tests import tiny, training
from tests.engine.test_hypernetwork import STATE
from tests.engine.test_lora import written
from tests.training import Trainer

LAYER = "lora_unet_mid_block_attentions_0_proj_in"
LORA = {f"{LAYER}.lora_down.weight": torch.ones(2, 64, 1, 1), f"{LAYER}.lora_up.weight": torch.ones(64, 2, 1, 1)}
SMALL = {
    "linear.0.weight": torch.ones(16, 8),
    "linear.0.bias": torch.ones(16),
    "linear.1.weight": torch.ones(8, 16),
    "linear.1.bias": torch.ones(8),
}
TI = {"method": "textual_inversion", "placeholder_token": "sksper"}
HYPER = {"method": "hypernetwork"}
# what is in the file, the settings beside it, and what is said
CASES: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "LoRA, NaN": ("network_weights", {**LORA, f"{LAYER}.alpha": torch.tensor(torch.nan)}, {}, "invalid numbers"),
    "LoRA, sizes": ("network_weights", {**LORA, f"{LAYER}.lora_down.weight": torch.ones(2, 9)}, {}, "the sizes of"),
    "LoRA, spelling": (
        "network_weights",
        {**LORA, "te.lora_up.weight": torch.ones(1)},
        {},
        "in a way that is not known",
    ),
    "LoRA, differences": ("network_weights", {f"{LAYER}.diff": torch.ones(64, 64, 1, 1)}, {}, "whole differences"),
    "LoRA, family": ("network_weights", "sd2", {}, "does not fit this model"),
    "LoRA, hypernetwork": ("network_weights", {16: (STATE, STATE)}, {}, "is a hypernetwork, not a LoRA"),
    "LoRA, embedding": ("network_weights", {"string_to_param": {"*": STATE}}, {}, "embedding, not a LoRA"),
    "LoRA, a list": ("network_weights", [torch.ones(2)], {}, "holds a list instead of named tensors"),
    "LoRA, rubbish": ("network_weights", b"\0" * 99, {}, "neither a .safetensors nor a PyTorch file"),
    "LoRA, words": (
        "network_weights",
        {**LORA, "bundle_emb.zkq.emb_params": torch.ones(1, 16) * torch.nan},
        {"placeholder_token": "zkq", "instance_prompt": "a zkq"},
        "invalid numbers",
    ),
    "word, family": ("embedding_weights", {"emb_params": torch.ones(1, 1024)}, TI, "was made for SD 2"),
    "word, LoRA": ("embedding_weights", LORA, TI, "is a LoRA, not an embedding"),
    "word, NaN": ("embedding_weights", {"emb_params": torch.ones(1, 16) * torch.nan}, TI, "invalid numbers"),
    "word, rubbish": ("embedding_weights", b"\0" * 99, TI, "neither a .safetensors nor a PyTorch file"),
    "hypernetwork, family": ("hypernetwork_weights", {8: (SMALL, SMALL)}, HYPER, "for contexts of 8"),
    "hypernetwork, LoRA": ("hypernetwork_weights", LORA, HYPER, "is a LoRA, not a hypernetwork"),
    "hypernetwork, NaN": (
        "hypernetwork_weights",
        {16: ({key: tensor * torch.nan for key, tensor in STATE.items()}, STATE)},
        HYPER,
        "holds invalid numbers",
    ),
    "hypernetwork, rubbish": ("hypernetwork_weights", b"PK\x03\x04" + b"\0" * 50, HYPER, "is damaged"),
}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory) -> Trainer:
    return Trainer(tmp_path_factory.mktemp("trainer"), max_train_steps=1)


def file_of(folder: Path, content: Any, pickled: bool) -> Path:
    if content == "sd2":
        return written(folder, open_base(tiny.single_file(folder, "sd2")))
    path = folder / ("файл.pt" if pickled else "файл.safetensors")
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif pickled:
        torch.save(content, path)
    else:
        save_file(content, path)
    return path


@pytest.mark.parametrize("case", CASES)
def test_a_check_and_a_run_say_the_same_before_anything_is_loaded(tmp_path, trainer, monkeypatch, case):
    field, content, settings, part = CASES[case]
    tensors = isinstance(content, dict) and all(isinstance(tensor, torch.Tensor) for tensor in content.values())
    path = file_of(tmp_path, content, field == "hypernetwork_weights" or not tensors)
    run = trainer.create(**{"method": "lora", **settings, field: str(path)})
    monkeypatch.setattr(worker, "gather", None)
    assert training.go_on(run) == worker.BAD_INPUT, training.log(run)
    said = [event for event in training.events(run, "error") if event["field"] == field]
    assert said and all(part in error["what"] and error["remedy"] for error in said), training.log(run)
    answer = inspect(run.config.as_dict(), trainer.folder)
    found = [(p["field"], p["message"]) for p in answer["problems"]]
    assert found == [(event["field"], event["what"]) for event in training.events(run, "error")]


def test_everything_that_is_wrong_is_said_at_once(tmp_path, trainer):
    """A broken LoRA, a broken word, a broken base and settings that do not go with it."""
    lora, word = tmp_path / "lora.safetensors", tmp_path / "word.safetensors"
    save_file({**LORA, f"{LAYER}.alpha": torch.tensor(torch.inf)}, lora)
    save_file({"emb_params": torch.ones(1, 768)}, word)
    run = trainer.create(
        method="lora",
        network_weights=str(lora),
        embedding_weights=str(word),
        placeholder_token="zkq",
        instance_prompt="a zkq",
        text_encoder_2_lr=1e-5,
        text_encoder_steps=1,
    )
    problems = inspect(run.config.as_dict(), trainer.folder)["problems"]
    assert {p["field"] for p in problems} == {"network_weights", "embedding_weights", "text_encoder_2_lr"}
