"""Memory does not grow with the number of pictures: where latents go, and what is said and kept of many pictures."""

from __future__ import annotations

import json
from pathlib import Path

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.data.entry import Entry
from dreambooth_ext.core.pictures.training_crop import centre_crop
from dreambooth_ext.engine import deep_check, worker
from dreambooth_ext.engine.data import latent_encoding, picture_checks
from dreambooth_ext.engine.data.latent_cache import IN_MEMORY
from dreambooth_ext.engine.data.picture import Picture
from dreambooth_ext.engine.formats.metadata import MOST_WORDS, pictures_metadata
from dreambooth_ext.engine.training import latent_backbone
from tests import training
from tests.training import Trainer


def on_disk(run) -> int:
    return len(list((run.path.parent / "latents").rglob("*.latents")))


def warned(run) -> list[str]:
    return [event["what"] for event in training.events(run, "warning") if event["field"] == "cache_latents_to_disk"]


def test_latents_go_to_disk_where_memory_is_small(trainer, monkeypatch):
    """And the run says why; the weights are the same to the bit."""
    usual = trainer.train()
    assert not on_disk(usual) and not warned(usual)
    monkeypatch.setattr(worker.memory, "total", lambda device: 3 * 64 * 64)  # a quarter of it is too little
    monkeypatch.setattr(worker.plan, "resource_problems", lambda *arguments: [])
    run = trainer.train()
    (said,) = warned(run)
    assert on_disk(run) == 3 and "3 pictures" in said and "latents" in said
    training.assert_same_run(usual, run)
    asked = trainer.train(cache_latents_to_disk=False, seed=8)
    assert not warned(asked) and on_disk(asked) == 3


def test_the_limit_changes_no_bit():
    """Beyond 4 GiB latents in memory would be kept in 16 bits."""
    assert latent_encoding.memory_limit(2**50) == IN_MEMORY and latent_encoding.memory_limit(8 * 2**30) == 2 * 2**30
    config = RunConfig(resolution=512)
    flipped = config.replace(random_flip=True)
    once, twice = (latent_encoding.most_bytes(asked, Subjects.of(asked), 1000) for asked in (config, flipped))
    assert once == 1000 * 8 * 64 * 64 * 4 and twice == 2 * once


def test_of_many_broken_pictures_the_first_are_named(tmp_path):
    folder = Path(training.pictures(tmp_path / "pictures", 2))
    for index in range(30):
        (folder / f"broken {index}.png").write_bytes(b"nothing")
    run = Trainer(tmp_path, instance_data_dir=str(folder)).train(max_train_steps=1)
    said = [event["code"] for event in training.events(run, "warning")]
    assert said.count("pictures.left_out") == picture_checks.NAMED_AT_MOST
    (rest,) = [e for e in training.events(run, "warning") if e["code"] == "pictures.more_left_out"]
    assert rest["values"]["count"] == 10


def test_the_files_words_are_bounded():
    entries = [Entry(Path(f"a/{i}.png"), f"common, only here {i}", 0) for i in range(5000)]
    about = json.loads(pictures_metadata(entries, {})["ss_tag_frequency"])
    assert about["a"]["common"] == 5000 and len(about["a"]) == MOST_WORDS


def test_of_many_long_captions_the_first_are_named(tmp_path):
    folder = Path(training.pictures(tmp_path / "pictures", 15))
    for index, picture in enumerate(sorted(folder.glob("*.png"))):
        picture.with_suffix(".txt").write_text(f"{index} " + "and so on, " * 40, encoding="utf-8")
    trainer = Trainer(
        tmp_path, instance_data_dir=str(folder), method="finetune", instance_prompt=None, use_captions=True
    )
    run = trainer.train(max_train_steps=1)
    said = [event for event in training.events(run, "warning") if event["field"] == "max_token_length"]
    assert len(said) == latent_backbone.CUTS_NAMED + 1 and said[-1]["values"] == {"count": 5}


def test_copies_are_named(tmp_path):
    folder = Path(training.pictures(tmp_path / "pictures", 6))
    for index in (1, 2):
        (folder / f"copy {index}.png").write_bytes((folder / f"sksper ({index}).png").read_bytes())
    trainer = Trainer(tmp_path, instance_data_dir=str(folder), validation_split=2)
    run = trainer.train(max_train_steps=1)
    (said,) = [event["what"] for event in training.events(run, "warning") if "copies" in event["what"]]
    assert "(2)" in said and "sksper (1).png = copy 1.png" in said
    concept = {"instance_data_dir": str(folder), "instance_prompt": "sksper"}
    twice = Trainer(tmp_path, concepts=[concept, {**concept, "instance_prompt": "ohwx"}], instance_prompt=None)
    said = [event["what"] for event in training.events(twice.train(max_train_steps=1), "warning")]
    assert sum("copies" in text for text in said) == 1 and "(2)" in said[0]  # one folder twice is no copy


def test_one_copy_is_told_as_one(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        path.write_bytes(b"x")
    crop = centre_crop((64, 64), (64, 64))
    said = []
    picture_checks.warn_of_copies([Picture(Entry(path, "", 0), crop, "") for path in paths], said.append)
    (problem,) = said
    assert problem.message == "Pictures that are copies of others count twice (1): b.png = a.png."


def test_the_deep_check_looks_at_some_of_very_many(tmp_path, monkeypatch):
    """And counts all of them, but for what it found broken."""
    folder = Path(training.pictures(tmp_path / "pictures", 9))
    (folder / "sksper (1).png").write_bytes(b"nothing")
    config = Trainer(tmp_path, instance_data_dir=str(folder), validation_split=2).config()
    whole = deep_check.inspect(config.as_dict(), tmp_path)
    assert whole["plan"]["pictures"] == 6 and len(whole["warnings"]) == 1
    monkeypatch.setattr(deep_check, "MOST_READ", 3)
    some = deep_check.inspect(config.as_dict(), tmp_path)
    assert some["plan"]["pictures"] == 6 and some["warnings"][-1]["code"] == "plan.some_pictures"
