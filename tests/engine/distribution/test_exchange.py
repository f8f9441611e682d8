"""Gradients of several processes: bit by bit those of one process that accumulates as many batches, for every method
and family, also when part of a model has no share in the loss or stops learning on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dreambooth_ext.core.facts.lora_types import LORA_TYPES
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.training.loop import Loop
from tests import training
from tests.engine.runtime.test_distributed import together
from tests.engine.training.test_masked_loss import MASKED, masked
from tests.seldom import seldom
from tests.training import Trainer

STOPS = {"text_encoder_steps": 1}
LORA = {"method": "lora", "rank": 2, "learning_rate": 1e-2, "text_encoder_steps": 2, "network_dropout": 0.2}
WORD = {"placeholder_token": "sksper", "embedding_lr": 1e-2, "embedding_steps": 1, "num_vectors": 2}
QUICK: dict[str, tuple[str, dict[str, Any]]] = {
    "sd1, clip skip, a text encoder that stops": ("sd1", {**STOPS, "clip_skip": 2, "max_grad_norm": 0.5}),
    "lora with a word, both stop": ("sdxl", {**LORA, **WORD}),
    "in bfloat16, rounded at random": ("sd1", {"mixed_precision": "bf16", "weight_precision": "bf16"}),
    "unconditional": ("", {}),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sdxl, the text encoders of which one is read early": ("sdxl", {"text_encoder_steps": 3}),
    "sd2": ("sd2", {**STOPS, "gradient_checkpointing": True}),
    "lora, clip skip": ("sd1", {**LORA, "clip_skip": 2, "gradient_checkpointing": True}),
    "lora of sd2": ("sd2", LORA),
    "words": ("sd1", {"method": "textual_inversion", "placeholder_token": "sksper", "learning_rate": 1e-2}),
    "words of sdxl": ("sdxl", {"method": "textual_inversion", "placeholder_token": "sksper", "clip_skip": 2}),
    "hypernetwork": ("sd1", {"method": "hypernetwork", "dropout": [0, 0.3, 0]}),
    "hypernetwork of sdxl": ("sdxl", {"method": "hypernetwork"}),
    "the base itself is a second target": ("sd1", {**LORA, **MASKED}),
    "prodigy in bfloat16": (
        "sd1",
        {"mixed_precision": "bf16", "weight_precision": "bf16", "optimizer": "prodigy", "learning_rate": 1.0},
    ),
}


def trainer_of(tmp_path, family: str) -> Trainer:
    if not family:
        return Trainer(tmp_path, **training.pixel_settings(tmp_path))
    sizes = ((64, 64), (128, 64))
    return Trainer(tmp_path, family, instance_data_dir=training.pictures(tmp_path / "pictures", 4, sizes=sizes))


def alone(run: Run) -> int:
    """The run's worker in one process, with as many threads as one of several has."""
    return training.start(run).wait(300)


@pytest.mark.parametrize("name", [*QUICK, *seldom(OTHERS)])
def test_two_processes_are_one_that_accumulates_bit_by_bit(tmp_path, name):
    family, settings = {**QUICK, **OTHERS}[name]
    trainer = trainer_of(tmp_path, family)
    if "masked_loss" in settings:
        masked(tmp_path / "pictures", 4)
    usual = {"max_train_steps": 3, **settings}
    one, two = trainer.create(**usual, gradient_accumulation_steps=2), trainer.create(**usual)
    assert alone(one) == worker.DONE, training.log(one)
    assert together(two) == [worker.DONE, worker.DONE], training.log(two)
    training.assert_same_run(one, two)
    assert training.losses(one) == training.losses(two)
    norms = [[event["grad_norm"] for event in training.events(run, "step")] for run in (one, two)]
    assert norms[0] == norms[1]


SUMS: dict[str, tuple[int, int, str, dict[str, Any]]] = {  # processes, batches that each accumulates, family, settings
    "two batches each": (2, 2, "sd1", {}),
    "two batches each, in two passes": (2, 2, "sd1", {"class_prompt": "a person", "num_class_images": 2}),
    "four processes": (4, 1, "sd1", {}),
    "four processes, sdxl with both text encoders": (4, 1, "sdxl", {"text_encoder_steps": 3}),
    "four processes, a lora with a word": (4, 1, "sdxl", {**LORA, **WORD}),
    "four processes, words": (4, 1, "sd1", {"method": "textual_inversion", "placeholder_token": "sksper"}),
    "four processes, a hypernetwork": (4, 1, "sd2", {"method": "hypernetwork", "dropout": [0, 0.3, 0]}),
    "four processes, unconditional": (4, 1, "", {}),
}


@pytest.mark.parametrize("name", seldom(SUMS, but=["two batches each"]))
def test_of_more_gradients_only_the_order_of_the_sum_differs(tmp_path, name):
    """(a + b) + (c + d) instead of ((a + b) + c) + d."""
    processes, micros, family, settings = SUMS[name]
    trainer, usual = trainer_of(tmp_path, family), {"max_train_steps": 2, **settings}
    usual |= {"optimizer": "sgd", "learning_rate": 0.05}
    if "class_prompt" in settings:  # a batch of them is a forward pass of its own
        usual["class_data_dir"] = training.pictures(tmp_path / "classes", 2, sizes=((64, 128),))
    one = trainer.create(**usual, gradient_accumulation_steps=processes * micros)
    several = trainer.create(**usual, gradient_accumulation_steps=micros)
    assert alone(one) == worker.DONE, training.log(one)
    assert together(several, processes) == [worker.DONE] * processes, training.log(several)
    found = training.weights(several)
    for key, tensor in training.weights(one).items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-6, atol=1e-7, msg=key)
    assert training.losses(several) == pytest.approx(training.losses(one), rel=1e-6)


# --- what DistributedDataParallel asks of a method

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"dreambooth {family} {skip}": (family, {"text_encoder_steps": 9, "clip_skip": skip})
       for family, skip in (("sd1", 1), ("sd1", 3), ("sd2", None), ("sdxl", None), ("sdxl", 1))},
    **{f"{kind} {family}": (family, {**LORA, "network_type": kind, "clip_skip": 2})
       for kind in LORA_TYPES for family in ("sd1", "sdxl")},
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_what_may_learn_gets_a_gradient_and_nothing_else(tmp_path, monkeypatch, name):
    """In every step, or the exchange would wait for it; and what is left out really has no part in the loss."""
    family, settings = KINDS[name]
    seen: list[bool] = []
    optimise = Loop._optimise

    def watched(loop: Loop, losses: list[torch.Tensor]) -> Any:
        for group in loop.state.optimizer.param_groups:
            for parameter in group["params"]:
                assert parameter.requires_grad == (parameter.grad is not None), group["name"]
                seen.append(parameter.requires_grad)
        return optimise(loop, losses)

    monkeypatch.setattr(Loop, "_optimise", watched)
    about = {"max_train_steps": 1, "gradient_accumulation_steps": 2}
    Trainer(tmp_path, family).train(**about, **settings)
    is_whole = name in ("dreambooth sd1 1", "dreambooth sd2 None")
    assert any(seen) and all(seen) == is_whole
