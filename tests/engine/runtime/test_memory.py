"""What a run keeps in memory: no 16-bit copies of weights beyond their use, and what the allocator is told."""

from __future__ import annotations

import pytest
import torch
from accelerate.utils import AutocastKwargs
from diffusers import UNet2DConditionModel, UNet2DModel

from dreambooth_ext.engine.runtime import accelerator, memory
from tests import training

WAYS = {
    "all weights": {"method": "dreambooth", "text_encoder_steps": 2, "gradient_checkpointing": True},
    "steps in the backward pass": {"method": "dreambooth", "max_grad_norm": 0},
    "LoRA": {"method": "lora", "text_encoder_steps": 2},
}


TRAINER = {"mixed_precision": "bf16", "max_train_steps": 3}


@pytest.fixture
def caches(monkeypatch) -> list[bool]:
    """Whether autocast keeps copies, in every forward pass of a UNet."""
    found = []
    for model in (UNet2DConditionModel, UNet2DModel):
        forward = model.forward

        def watched(self, *arguments, forward=forward, **more):
            assert torch.is_autocast_enabled("cpu") if torch.__version__ >= (2, 4) else torch.is_autocast_cpu_enabled()
            found.append(torch.is_autocast_cache_enabled())
            return forward(self, *arguments, **more)

        monkeypatch.setattr(model, "forward", watched)
    return found


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_autocast_keeps_no_copies_and_the_weights_are_the_same(trainer, caches, monkeypatch, settings):
    without = trainer.train(**settings)
    assert caches and not any(caches)
    caches.clear()
    monkeypatch.setattr(accelerator, "AutocastKwargs", lambda cache_enabled: AutocastKwargs())
    kept = trainer.train(**settings)
    assert caches and all(caches)
    training.assert_same_run(without, kept)
    assert training.losses(without) == training.losses(kept)


def test_nor_for_words_and_models_that_draw_pixels(trainer, caches, tmp_path):
    trainer.train(method="textual_inversion", initializer_token="red", num_vectors=1)
    trainer.train(**training.pixel_settings(tmp_path))
    assert caches and not any(caches)


def test_a_hypernetwork_is_used_many_times_a_pass_and_keeps_its_copies(trainer, caches):
    trainer.train(method="hypernetwork")
    assert caches and all(caches)


# --- As much at once as fits


class Card:
    """Takes so many things at once, and says what it took."""

    def __init__(self, room: int):
        self.room, self.taken = room, []

    def __call__(self, things: list[int]) -> list[int]:
        if len(things) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        self.taken.append(len(things))
        return [-thing for thing in things]


@pytest.mark.parametrize(("room", "taken"), [(8, [4, 4, 2]), (3, [2] * 5), (1, [1] * 10)])
def test_fewer_at_once_where_memory_does_not_do(room, taken):
    card = Card(room)
    results = memory.in_batches(card, list(range(10)), 4)
    assert [result for batch in results for result in batch] == [-thing for thing in range(10)]
    assert card.taken == taken


def test_one_that_does_not_fit_alone_is_an_error_and_so_is_every_other_one():
    with pytest.raises(torch.cuda.OutOfMemoryError):
        list(memory.in_batches(Card(0), [1, 2], 2))
    with pytest.raises(RuntimeError, match="some other"):
        list(memory.in_batches(lambda things: (_ for _ in ()).throw(RuntimeError("some other")), [1, 2], 2))
