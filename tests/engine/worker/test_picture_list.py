"""A run trains on the pictures and captions that it was queued with, whatever becomes of their folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dreambooth_ext.core.data import kohya_dataset, picture_list
from dreambooth_ext.engine import worker
from tests import training


def TRAINER(folder: Path) -> dict:
    return {"instance_data_dir": training.pictures(folder / "pictures", captions=True), "use_captions": True}


def change(folder):
    """As a user does meanwhile: one picture more, and a better caption."""
    training.draw(folder / "sksper (0).png", 50, caption="sksper at night")
    (folder / "sksper (1).txt").write_text("sksper in the rain", encoding="utf-8")


def test_what_changes_while_it_waits_or_rests_changes_nothing_and_is_told(tmp_path, trainer):
    straight = trainer.train(max_train_steps=6)
    waiting = trainer.create(max_train_steps=6)
    change(tmp_path / "pictures")
    assert training.go_on(waiting, 3) == worker.DONE
    assert training.go_on(waiting, 6) == worker.DONE
    training.assert_same_run(straight, waiting)
    said = [e for e in training.events(waiting, "warning") if e["code"] == "pictures.added_and_recaptioned"]
    names = [(event["values"]["added"], event["values"]["recaptioned"]) for event in said]
    assert names == [("sksper (0).png", "sksper (1).png")] * 2  # once at each start


@pytest.mark.parametrize("loss", ["gone", "altered"])
def test_what_is_gone_or_altered_stops_it_before_anything_is_loaded(tmp_path, trainer, loss):
    run = trainer.create(max_train_steps=2)
    picture = tmp_path / "pictures" / "sksper (2).png"
    kept = picture.read_bytes()
    if loss == "gone":
        picture.unlink()
    else:
        shutil.copyfile(tmp_path / "pictures" / "sksper (3).png", picture)
    assert training.go_on(run) == worker.BAD_INPUT
    (told,) = training.events(run, "error")
    assert told["field"] == "instance_data_dir" and told["code"] == f"pictures.{loss}"
    assert told["values"]["names"] == "sksper (2).png"
    picture.write_bytes(kept)
    assert training.go_on(run) == worker.DONE


def test_it_takes_the_new_ones_when_told(tmp_path, trainer):
    run = trainer.create(max_train_steps=2)
    change(tmp_path / "pictures")
    (tmp_path / "pictures" / "sksper (2).png").unlink()
    picture_list.forget(run.path)
    assert training.go_on(run) == worker.DONE
    assert len(picture_list.noted(run.path, are_class=False)) == 3
    assert not [e for e in training.events(run, "warning") if e["code"].startswith("pictures.")]


def test_class_pictures_are_noted_when_they_have_been_drawn(tmp_path):
    prior = {"with_prior_preservation": True, "class_prompt": "a photo of a person", "num_class_images": 2}
    trainer = training.Trainer(tmp_path, **prior)
    run = trainer.train(max_train_steps=2)
    (one, other) = picture_list.noted(run.path, are_class=True)
    training.draw(tmp_path / "runs" / "elsewhere.png", 9)
    shutil.copyfile(tmp_path / "runs" / "elsewhere.png", one.path)
    assert training.go_on(run, 4) == worker.BAD_INPUT
    told = training.events(run, "error")[-1]
    assert told["field"] == "class_data_dir" and "have changed" in told["what"]
    assert other.digest and other.digest != one.digest


def test_a_kohya_data_set_is_read_once(trainer, monkeypatch):
    """It may change while the run prepares; all its parts have to see the same one."""
    training.pictures(trainer.folder / "own", 2)
    described = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'own'\nclass_tokens = 'x'"
    (trainer.folder / "kohya.toml").write_text(described, encoding="utf-8")
    pictures = {"instance_data_dir": "", "instance_prompt": None, "dataset_config": str(trainer.folder / "kohya.toml")}
    run = trainer.create(method="finetune", max_train_steps=1, **pictures)
    read, times = kohya_dataset.read, []
    monkeypatch.setattr(kohya_dataset, "read", lambda path: times.append(path) or read(path))
    assert training.go_on(run) == worker.DONE, training.log(run)
    assert len(times) == 1
