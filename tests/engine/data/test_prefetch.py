"""Batches that are read ahead are those that would have been read anyway, and errors come where they belong."""

from __future__ import annotations

import threading

import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.data.prefetch import WINDOW, ReadAhead
from tests.engine.data.test_dataset import dataset, folder
from tests.training import Trainer, assert_same_run


class Slow:
    """Batches that tell what was asked of them."""

    is_filling = False

    def __init__(self):
        self.asked, self.lock = [], threading.Lock()

    def batches(self, step, micro, rank, world):
        with self.lock:
            self.asked.append((step, micro))
        if step == 5:
            raise UserError("other.as_said", "instance_data_dir", message="a broken picture")
        return [(step, micro, rank, world)]

    def close(self) -> None:
        pass


def test_in_order_and_never_beyond_the_end():
    source = Slow()
    ahead = ReadAhead(source, 2, 4)
    for step in range(4):
        for micro in range(2):
            assert ahead.batches(step, micro, 1, 3) == [(step, micro, 1, 3)]
            place = 2 * step + micro
            assert len(ahead._pending) <= WINDOW and max(2 * s + m for s, m in source.asked) <= place + WINDOW
    ahead.close()
    assert sorted(source.asked) == [(step, micro) for step in range(4) for micro in range(2)]


def test_an_error_comes_at_its_own_step():
    ahead = ReadAhead(Slow(), 1, 10)
    for step in range(5):
        ahead.batches(step, 0, 0, 1)
    with pytest.raises(UserError, match="broken"):
        ahead.batches(5, 0, 0, 1)
    assert ahead.batches(8, 0, 0, 1) == [(8, 0, 0, 1)]
    ahead.close()


def test_they_are_the_same_to_the_bit(tmp_path):
    config = RunConfig(
        instance_data_dir=folder(tmp_path, 5, size=(90, 70)),
        instance_prompt="sksper, a, b, c",
        resolution=64,
        center_crop=False,
        random_flip=True,
        shuffle_tags=True,
        train_batch_size=2,
    )
    made, again = dataset(config), dataset(config)
    ahead = ReadAhead(made, 1, 40)
    for step in range(40):  # through thirteen epochs
        (one,), (two,) = ahead.batches(step, 0, 0, 1), again.batches(step)
        assert one.keys == two.keys and one.captions == two.captions and torch.equal(one.pixels_bchw, two.pixels_bchw)
    ahead.close()


def test_a_run_is_the_same_with_it(tmp_path, monkeypatch):
    trainer = Trainer(tmp_path)
    one = trainer.train(cache_latents_to_disk=True)
    monkeypatch.setattr("dreambooth_ext.engine.data.dataset.Dataset.reads_files", False)
    assert_same_run(one, trainer.train(cache_latents_to_disk=True))
