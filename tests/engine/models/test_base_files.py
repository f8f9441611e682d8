"""A base that changes while it is trained on, or before a run is resumed: it is named, and nothing is mixed or lost."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dreambooth_ext.core.data import picture_list
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.core.system import files
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.formats import checkpoint_file
from dreambooth_ext.engine.models import base_files
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling import class_images
from dreambooth_ext.engine.tensors.torch_pickle import load_pickle
from dreambooth_ext.engine.training.loop import Loop
from dreambooth_ext.host.jobs.queue import put_back
from tests import tiny, training
from tests.engine.worker.test_failures import PRIOR, error_of, steps, warnings
from tests.training import Trainer

PREVIEWS = {"validation_prompts": ["a photo of sksper person"], "validation_steps": 1}


@pytest.fixture
def after(monkeypatch):
    return acting_after(monkeypatch)


def acting_after(monkeypatch) -> Callable[[int, Callable[[], object]], None]:
    """`after(2, action)`: the action happens when step 2 has been taken; later runs are left alone."""

    def arrange(step: int, action: Callable[[], object]) -> None:
        report = Loop._report

        def reported(loop: Loop, *arguments):
            report(loop, *arguments)
            if loop.state.step == step:
                monkeypatch.setattr(Loop, "_report", report)
                action()

        monkeypatch.setattr(Loop, "_report", reported)

    return arrange


def another(trainer: Trainer) -> Path:
    """A model of the same sizes with other numbers."""
    folder = trainer.folder / "another"
    folder.mkdir(exist_ok=True)
    return tiny.single_file(folder, seed=1)


def overwritten(trainer: Trainer) -> None:
    trainer.base.write_bytes(another(trainer).read_bytes())


def renamed_over(trainer: Trainer) -> None:
    copy = shutil.copy(another(trainer), trainer.base.with_name("new"))
    os.replace(copy, trainer.base)


def deleted(trainer: Trainer) -> None:
    trainer.base.unlink()


def cut_short(trainer: Trainer) -> None:
    with trainer.base.open("rb+") as file:
        file.truncate(trainer.base.stat().st_size // 2)


def yaml_changed(trainer: Trainer) -> None:
    path = trainer.base.with_suffix(".yaml")
    path.write_text(path.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")


@pytest.mark.parametrize("change", [overwritten, renamed_over, deleted, cut_short, yaml_changed])
def test_a_model_is_not_written_with_parts_of_another_base(trainer, after, change):
    whole = trainer.train(max_train_steps=3)
    paths = (trainer.base, trainer.base.with_suffix(".yaml"))
    kept = {path: path.read_bytes() for path in paths}
    after(2, lambda: change(trainer))
    run = trainer.train(max_train_steps=3, ends=worker.FAILED)
    error, name = error_of(run), paths[change is yaml_changed].name
    assert (
        error["field"] == "base_model"
        and f"{name} {'is gone' if change is deleted else 'has changed'}" in error["what"]
    )
    assert "The training state of step 3 is safe." in error["what"] and f"resume {run.id}" in error["remedy"]
    assert steps(run) == [3] and list(run.artifacts.iterdir()) == []
    assert training.go_on(run) == worker.BAD_INPUT and steps(run) == [3]
    assert run.state()["problem"]["field"] == "base_model" and name in run.state()["problem"]["message"]
    for path, content in kept.items():
        path.write_bytes(content)
    assert training.go_on(run) == worker.DONE, training.log(run)
    assert len(training.losses(run)) == 3
    assert training.difference(training.artifact(whole), training.artifact(run)) == ""


@pytest.mark.parametrize("through_queue", [False, True])
def test_a_done_run_stays_done_where_training_it_longer_is_refused(trainer, through_queue):
    run = trainer.train(max_train_steps=2)
    before = run.state()
    overwritten(trainer)
    if through_queue:
        put_back(run, None, 4)
    assert training.go_on(run, 4) == worker.BAD_INPUT
    after = run.state()
    assert (
        all(after[key] == before[key] for key in ("status", "step", "total", "ending")) and before["ending"] == "done"
    )
    assert after["problem"]["field"] == training.events(run, "error")[-1]["field"] == "base_model"
    assert training.events(run, "status")[-1]["status"] == "done"


def test_a_stopped_run_stays_stopped_and_a_new_one_fails(trainer):
    stopped, new = trainer.train(max_train_steps=2), trainer.create(max_train_steps=2)
    stopped.write_state(status="stopped")
    trainer.base.unlink()
    for run, status in ((stopped, "stopped"), (new, "failed")):
        assert training.go_on(run, 4) == worker.BAD_INPUT
        assert run.state()["status"] == status


def test_nor_where_it_changes_while_it_is_read(trainer, monkeypatch):
    write = checkpoint_file.write_verified

    def written(*arguments) -> None:
        write(*arguments)
        overwritten(trainer)

    monkeypatch.setattr(checkpoint_file, "write_verified", written)
    run = trainer.train(ends=worker.FAILED)
    assert "has changed" in error_of(run)["what"] and list(run.artifacts.iterdir()) == []


def test_nor_where_it_changes_before_all_of_it_has_been_read(trainer, monkeypatch):
    make_method = worker.make_method

    def made(*arguments):
        overwritten(trainer)
        return make_method(*arguments)

    monkeypatch.setattr(worker, "make_method", made)
    run = trainer.train(ends=worker.BAD_INPUT)
    assert "has changed" in error_of(run)["what"] and training.losses(run) == []


def test_a_part_of_a_folder_is_named(tmp_path, after):
    folder = tiny.diffusers_folder(tmp_path / "base", "sd1")
    trainer = Trainer(tmp_path, base_model=str(folder))
    other = tiny.diffusers_folder(tmp_path / "other", "sd1", seed=1)
    (vae,) = (path.relative_to(other) for path in (other / "vae").glob("*.safetensors"))
    after(1, lambda: shutil.copy(other / vae, folder / vae))
    run = trainer.train(ends=worker.FAILED)
    assert f"{vae.as_posix()} has changed" in error_of(run)["what"]


@pytest.mark.parametrize("change", [overwritten, deleted])
def test_a_lora_needs_no_base_to_be_written(trainer, after, change):
    """What it was trained with is in memory; only previews would be another model's."""
    settings = {"method": "lora", "rank": 2, "max_train_steps": 3, **PREVIEWS}
    whole = trainer.train(**settings)
    after(2, lambda: change(trainer))
    run = trainer.train(**settings)
    assert training.difference(training.artifact(whole), training.artifact(run)) == ""
    assert [event["step"] for event in training.events(run, "sample")] == [0, 1]
    (warning,) = warnings(run)
    assert "the base model has changed" in warning and trainer.base.name in warning


def test_nor_does_an_unconditional_model(tmp_path, after):
    trainer = Trainer(tmp_path, **training.pixel_settings(tmp_path))
    first = trainer.train(max_train_steps=1).artifacts / "taught"
    other = trainer.train(max_train_steps=2).artifacts / "taught"
    weights = Path("unet", "diffusion_pytorch_model.safetensors")
    settings = {"base_model": str(first), "model_config": None, "max_train_steps": 3}
    after(1, lambda: shutil.copy(other / weights, first / weights))
    run = trainer.train(**settings, validation_steps=2)
    assert warnings(run)[0].endswith(f"{weights.as_posix()} has changed. Training goes on with what was read.")
    assert [event["step"] for event in training.events(run, "sample")] == [0, 2, 3]  # they need nothing more of it
    assert training.go_on(run, total=4) == worker.BAD_INPUT


def test_a_webui_hash_is_of_the_base_that_was_trained_on(trainer, after):
    settings = {"method": "textual_inversion", "placeholder_token": "sksper", "save_format": "pt"}
    before = trainer.train(**settings)
    digest = files.sha256_of(trainer.base)[:10]
    after(1, lambda: overwritten(trainer))
    changed = trainer.train(**settings)
    hashes = [load_pickle(run.artifacts / "taught.pt")["sd_checkpoint"] for run in (before, changed)]
    assert hashes == [digest, None]


def test_another_base_of_the_name_is_not_gone_on_with(trainer):
    run = trainer.train(method="lora", rank=2, max_train_steps=2)
    overwritten(trainer)
    assert training.go_on(run, total=3) == worker.BAD_INPUT
    problem = run.state()["problem"]
    assert problem["code"] == "base.changed_since_start" and "start a new run" in problem["remedy"]
    (run.path / "base.json").unlink()  # as the remedy says
    assert training.go_on(run, total=3) == worker.DONE


def test_a_copy_of_the_base_is_the_base(trainer):
    run = trainer.train(max_train_steps=2)
    content = trainer.base.read_bytes()
    trainer.base.unlink()
    trainer.base.write_bytes(content)
    os.utime(trainer.base, (1, 1))
    assert training.go_on(run, total=3) == worker.DONE, training.log(run)


def test_a_run_that_has_learned_nothing_may_begin_with_another_base(trainer):
    run = trainer.create()
    run.command("stop")
    assert training.go_on(run) == worker.STOPPED
    overwritten(trainer)
    assert training.go_on(run) == worker.DONE, training.log(run)


def test_a_sidecar_that_appears_is_named(trainer):
    yaml = trainer.base.with_suffix(".yaml")
    content = yaml.read_text(encoding="utf-8")
    run = trainer.train(max_train_steps=2)
    yaml.unlink()
    assert training.go_on(run, total=3) == worker.BAD_INPUT
    yaml.write_text(content, encoding="utf-8")
    assert training.go_on(run, total=3) == worker.DONE


# --- what is looked at


def test_of_a_large_file_a_few_megabytes_are_read(tmp_path):
    size = 7 * 2**30
    parts = base_files.parts(size)
    assert sum(count for _, count in parts) < 7 * 2**20
    assert parts[0][0] == 0 and sum(parts[-1]) == size
    gaps = [after - (start + count) for (start, count), (after, _) in itertools.pairwise(parts)]
    assert min(gaps) >= 0 and max(gaps) < 32 * 2**20  # the VAE of such a file has 330 MB
    assert base_files.parts(100) == [(0, 100)]


def test_another_vae_in_a_large_file_is_seen(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)  # a sparse one
    before = base_files.seen(path)
    with path.open("rb+") as file:
        file.seek(100 * 2**20)
        file.write(b"\1" * 20 * 2**20)
    after = base_files.seen(path)
    assert before["size"] == after["size"] and before["digest"] != after["digest"]
    assert base_files.seen(tmp_path / "none") == base_files.GONE


def test_an_opened_base_knows_its_files(tmp_path):
    base = open_base(tiny.single_file(tmp_path))
    base.files.require_unchanged()
    base.path.unlink()
    with pytest.raises(UserError, match="is gone"):
        base.files.require_unchanged()


# --- class pictures


def class_folders(run: Run) -> set[str]:
    return {path.name for path in (run.path.parent / "class_pictures").iterdir()}


@pytest.mark.parametrize(
    "other",
    [
        {"base": 1},
        {"seed": 8},
        {"validation_sampler": "Euler"},
        {"validation_inference_steps": 2},
        {"validation_guidance_scale": 3.0},
        {"clip_skip": 2},
        {"prediction_type": "v_prediction"},
    ],
)
def test_class_pictures_of_another_making_are_not_reused(trainer, other):
    settings = {**PRIOR, "num_class_images": 1, "max_train_steps": 1}
    run = trainer.train(**settings)
    assert class_folders(trainer.train(**settings, learning_rate=1e-4)) == class_folders(run)
    first = class_folders(run)
    if other.pop("base", None):
        overwritten(trainer)
    trainer.train(**settings, **other)
    (new,) = class_folders(run) - first
    assert len(list((run.path.parent / "class_pictures" / new).glob("*.png"))) == 1


def old_folder(trainer: Trainer) -> Path:
    """Where an earlier version kept them: by the base's name, the prompt and the resolution."""
    key = hashlib.sha256(f"{trainer.base.stem}/{PRIOR['class_prompt']}/64".encode()).hexdigest()[:8]
    return trainer.folder / "runs" / "class_pictures" / f"a_photo_of_a_person-64-{key}"


def test_class_pictures_of_an_earlier_version_are_named_and_left_alone(trainer):
    old = old_folder(trainer)
    training.draw(old / "class-00000.png", 5)
    before = (old / "class-00000.png").read_bytes()
    run = trainer.train(**PRIOR, max_train_steps=1)
    (warning,) = warnings(run)
    assert str(old) in warning and "earlier version" in warning
    assert (old / "class-00000.png").read_bytes() == before and len(list(old.iterdir())) == 1
    assert len(class_folders(run)) == 2
    named = trainer.train(**PRIOR, max_train_steps=1, class_data_dir=str(old))  # as the remedy says
    assert len(list(old.glob("*.png"))) == 3 and warnings(named) == []


def test_a_run_of_an_earlier_version_goes_on_with_its_class_pictures(trainer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(class_images, "drawn_by", lambda config, base, prompt: "old")
        run = trainer.train(**PRIOR, max_train_steps=1)
    (made,) = (run.path.parent / "class_pictures").iterdir()
    made.rename(old_folder(trainer))
    for name in ("base.json", *picture_list.FILES.values()):  # which an earlier version did not write
        (run.path / name).unlink()
    for total in (2, 3):
        assert training.go_on(run, total=total) == worker.DONE, training.log(run)
    assert class_folders(run) == {old_folder(trainer).name} and warnings(run) == []
