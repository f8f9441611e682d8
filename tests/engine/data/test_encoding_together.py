"""Latents of several processes: each picture is encoded once, by one of them, and all have the bits that one alone
makes."""

from __future__ import annotations

import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.data import latent_encoding
from dreambooth_ext.engine.data.dataset import Dataset
from dreambooth_ext.engine.runtime.distributed import Company
from tests import training
from tests.engine.data.test_dataset import SCALING, draw, folder
from tests.engine.data.test_latent_cache import make_vae
from tests.engine.runtime.test_distributed import together

MAKING = threading.Lock()
COUNT = 9
WORLD = 3


@dataclass
class Table:
    """Where threads that stand for processes meet; what they give is copied, as between processes."""

    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(WORLD, timeout=30))
    given: list = field(default_factory=lambda: [None] * WORLD)


@dataclass(frozen=True)
class InThread(Company):
    table: Table = field(default_factory=Table)

    def of_all(self, thing):
        self.table.given[self.rank] = pickle.dumps(thing)
        self.table.meeting.wait()
        found = [pickle.loads(one) for one in self.table.given]
        self.table.meeting.wait()
        return found


@pytest.fixture
def config(tmp_path) -> RunConfig:
    draw(tmp_path / "pictures" / "wide.png", 9, (190, 70))
    settings = {"resolution": 64, "random_flip": True, "train_batch_size": 2, "instance_prompt": "sksper", "seed": 3}
    return RunConfig(instance_data_dir=folder(tmp_path / "pictures", COUNT - 1, size=(70, 90)), **settings)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setitem(latent_encoding.PIXELS_AT_ONCE, "cpu", 2 * 64 * 64)


def alone(config: RunConfig, cache: Path | None, company: Company = latent_encoding.ALONE, meanwhile: bool = False):
    """A data set, how many posteriors it encoded itself, and what was said."""
    config = config.replace(cache_latents_to_disk=cache is not None)
    entries, problems = picture_entries.entries(config)
    assert problems == []
    with MAKING:  # from one generator
        vae = make_vae()
    sizes, warned = [], []
    vae.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    dataset = Dataset(config, Subjects.of(config), entries, SCALING, cache_dir=cache)
    dataset.encode(vae, warn=warned.append, meanwhile=meanwhile, company=company)
    return dataset, sizes, warned


def all_at_once(work) -> list:
    """What each thread comes to, with its company."""
    table = Table()
    with ThreadPoolExecutor(WORLD) as pool:
        jobs = [pool.submit(work, InThread(rank, WORLD, table)) for rank in range(WORLD)]
        for job in jobs:
            job.add_done_callback(lambda one: one.exception() and table.meeting.abort())
        return [job.result() for job in jobs]


def moments(dataset: Dataset) -> dict[tuple[str, bool], torch.Tensor]:
    made = dataset.posteriors
    return {
        (p.entry.path.name, flip): made.cache.get(made.key(p, flip)) for p in dataset.pictures for flip in (False, True)
    }


@pytest.mark.parametrize("kept", ["memory", "a disk of all", "disks of their own"])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_each_is_encoded_once_and_all_have_the_same_bits(config, tmp_path, kept, meanwhile):
    expected = moments(alone(config, None)[0])

    def work(company: Company):
        cache = {"memory": None, "a disk of all": tmp_path / "all"}.get(kept, tmp_path / str(company.rank))
        dataset, sizes, _ = alone(config, cache, company, meanwhile)
        for step in range(COUNT):
            dataset.fill(step, 1, company.rank, WORLD)
        assert not dataset.is_filling
        return moments(dataset), sum(sizes)

    found = all_at_once(work)
    assert sum(count for _, count in found) == 2 * COUNT and min(count for _, count in found) >= 4
    for made, _ in found:
        assert made.keys() == expected.keys() and all(torch.equal(made[key], expected[key]) for key in expected)


def test_broken_pictures_are_left_out_by_all_and_named_by_each(config, tmp_path):
    for number, content in enumerate((b"not a picture", None)):
        path = sorted((tmp_path / "pictures").glob("*.png"))[3 * number]
        path.write_bytes(content or path.read_bytes()[:-4000])
    dataset, _, warned = alone(config, None)
    found = all_at_once(lambda company: alone(config, None, company))
    for other, _, said in found:
        assert [p.entry.path for p in other.pictures] == [p.entry.path for p in dataset.pictures]
        assert sorted(map(str, said)) == sorted(map(str, warned)) and len(said) == 2
        expected = moments(dataset)
        assert all(torch.equal(one, expected[key]) for key, one in moments(other).items())


def test_a_picture_that_changes_before_its_turn_ends_all_with_its_name(config, tmp_path):
    met = threading.Barrier(WORLD, timeout=30)

    def work(company: Company):
        dataset, _, _ = alone(config, tmp_path / "cache", company, meanwhile=True)
        dataset.posteriors._decoded.clear()
        if met.wait() == 0:
            for path in (tmp_path / "pictures").glob("*.png"):
                path.write_bytes(path.read_bytes() + b"x")
        met.wait()
        with pytest.raises(UserError) as told:
            for step in range(COUNT):
                dataset.fill(step, 1, company.rank, WORLD)
        return told.value.problem.code

    assert all_at_once(work) == ["pictures.changed_in_training"] * WORLD


def test_what_the_first_one_measures_leaves_the_others_in_step(config):
    def work(company: Company):
        dataset, _, _ = alone(config, None, company, meanwhile=True)
        if company.rank == 0:
            for picture in dataset.pictures[:5]:
                dataset.fixed(picture, "measured", 0)
        for step in range(COUNT):
            dataset.fill(step, 1, company.rank, WORLD)
        return moments(dataset)

    first, *others = all_at_once(work)
    for other in others:
        assert all(torch.equal(one, first[key]) for key, one in other.items())


@pytest.mark.parametrize(
    "settings", [{}, pytest.param({"cache_latents_to_disk": True}, marks=pytest.mark.slow)], ids=["memory", "disk"]
)
def test_two_processes_train_as_one_that_accumulates(tmp_path, settings):
    trainer = training.Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", 7))
    about = {"optimizer": "sgd", "learning_rate": 0.05, "max_train_steps": 4, "random_flip": True, **settings}
    one = trainer.train(**about, gradient_accumulation_steps=2)
    shutil.rmtree(tmp_path / "runs" / "latents", ignore_errors=True)
    two = trainer.create(**about)
    assert together(two) == [worker.DONE, worker.DONE], training.log(two)
    expected, found = training.weights(one), training.weights(two)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-6, msg=key)
