"""Processes that read other settings, bases, pictures or states than the first are refused, with what differs."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.entry import Entry
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.engine import agreement
from dreambooth_ext.engine.sampling import class_images
from tests import training


@pytest.fixture
def gathered(monkeypatch):
    """The first process says what is put here, instead of the same as this one."""
    first: dict = {}

    def of_all(own: dict) -> list[dict]:
        return [{**copy.deepcopy(own), **first}, own]

    monkeypatch.setattr(agreement.distributed, "processes", lambda: 2)
    monkeypatch.setattr(agreement.distributed, "of_all", of_all)
    return first


def test_settings_and_base_are_compared(tmp_path, gathered):
    run = run_folder.create(tmp_path / "runs", RunConfig(name="a", learning_rate=1e-5))
    base = SimpleNamespace(digest="abc", field="base_model")
    config = SimpleNamespace(distribution="ddp")
    agreement.require_same_run(run, base, config)
    gathered["distribution"] = "fsdp"
    with pytest.raises(UserError, match="distribution: process 2 would train with distribution ddp, the first"):
        agreement.require_same_run(run, base, config)
    gathered["base"] = "abd"
    with pytest.raises(UserError, match="base_model: process 2 opens another base"):
        agreement.require_same_run(run, base, config)
    gathered["settings"] = run.config.replace(learning_rate=1e-6).as_dict()
    with pytest.raises(UserError, match=r"learning_rate: process 2 reads learning_rate 1e-5 in .*, the first one 1e-6"):
        agreement.require_same_run(run, base, config)


def entries(folder, captions: tuple[str, ...]) -> list[Entry]:
    paths = [folder / f"sksper ({number}).png" for number in (1, 2)]
    return [Entry(path, caption, 0) for path, caption in zip(paths, captions, strict=True)]


def test_pictures_captions_their_order_and_the_step_are_compared(tmp_path, gathered):
    config = RunConfig(name="a")
    run = run_folder.create(tmp_path / "runs", config)
    for name in ("here", "there"):
        training.pictures(tmp_path / name, 2)
    own = entries(tmp_path / "here", ("one", "two"))
    same = entries(tmp_path / "there", ("one", "two"))
    gathered["pictures"] = agreement.digest_of(same)
    agreement.require_same_start(run, own, 3, config)
    others = [same[::-1], same[:1], entries(tmp_path / "there", ("one", "three"))]
    digests = [agreement.digest_of(found) for found in others]
    training.draw(tmp_path / "there" / "sksper (2).png", 9)
    for digest in [*digests, agreement.digest_of(same)]:
        gathered["pictures"] = digest
        with pytest.raises(UserError, match="instance_data_dir: process 2 finds other pictures or captions"):
            agreement.require_same_start(run, own, 3, config)
    gathered.update(pictures=agreement.digest_of(own), step=5)
    with pytest.raises(UserError, match=r"process 2 would go on from step 3 of .*, the first one from step 5"):
        agreement.require_same_start(run, own, 3, config)


def test_a_process_alone_agrees_with_itself(monkeypatch):
    monkeypatch.setattr(agreement.distributed, "of_all", None)
    agreement.require_same_run(None, None, None)
    agreement.require_same_start(None, [], 0, None)


def test_class_pictures_are_waited_for_and_not_drawn_twice(tmp_path, monkeypatch):
    answers = [{tmp_path: 3}, {}]
    monkeypatch.setattr(class_images, "missing", lambda config, subjects: answers.pop(0))
    class_images.require_drawn(None, None)  # the network folder shows them late
    monkeypatch.setattr(class_images, "missing", lambda config, subjects: {tmp_path: 3})
    monkeypatch.setattr(class_images, "SHOWN", 0.1)
    with pytest.raises(UserError, match="class_data_dir: the first process has drawn class pictures"):
        class_images.require_drawn(None, None)
