"""What goes wrong while a run is under way: each ending has its exit code, a message with a remedy, and a state that
can be gone on from.
"""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import run_list
from dreambooth_ext.core.runs.events import EventLog
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.core.system import files
from dreambooth_ext.engine import plan, worker
from dreambooth_ext.engine.deep_check import inspect
from dreambooth_ext.engine.methods.full import FullTraining
from dreambooth_ext.engine.models.base_model import LatentBase
from dreambooth_ext.engine.runtime.control import Control
from dreambooth_ext.engine.sampling import class_images
from dreambooth_ext.engine.tensors.tensor_file import open_tensors, save_tensors
from dreambooth_ext.engine.training import measurements, training_state
from dreambooth_ext.engine.training.loop import Loop
from dreambooth_ext.engine.training.run_outputs import Saver
from tests import training
from tests.training import Trainer

PRIOR = {"class_prompt": "a photo of a person", "num_class_images": 3}


def fail_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """`error` in the forward pass after `step` finished steps."""
    accumulate = Loop._accumulate

    def accumulated(loop: Loop) -> float:
        if loop.state.step == step:
            raise error
        return accumulate(loop)

    monkeypatch.setattr(Loop, "_accumulate", accumulated)


def error_of(run: Run) -> dict:
    """The one error of a failed run, which is also its state's problem."""
    (error,) = training.events(run, "error")
    problem = run.state()["problem"]
    assert run.state()["status"] == "failed"
    assert (problem["message"], problem["remedy"]) == (error["what"], error["remedy"])
    assert error["what"] and error["remedy"] and error["what"] in error["why"]
    return error


def steps(run: Run) -> list[int]:
    return [state.step for state in training_state.found(run.checkpoints)]


def warnings(run: Run) -> list[str]:
    return [event["what"] for event in training.events(run, "warning")]


# --- numbers that are none


def test_a_rate_that_explodes_stops_the_run_and_keeps_the_last_finite_state(trainer):
    run = trainer.train(learning_rate="1e-3:2, 1e30", checkpointing_steps=2, max_train_steps=9, ends=worker.FAILED)
    error = error_of(run)
    assert error["field"] == "learning_rate" and "lower learning_rate" in error["remedy"]
    assert "snr_gamma" in error["remedy"] and "step 2 is safe" in error["what"]
    assert steps(run) == [2] and all(w.isfinite().all() for w in training.weights(run).values())
    assert [e["name"] for e in training.events(run, "artifact")] == ["taught_2"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number(trainer, monkeypatch, number):
    loss = worker.METHODS["dreambooth"].loss
    monkeypatch.setattr(worker.METHODS["dreambooth"], "loss", lambda *a: loss(*a) * number)
    run = trainer.train(ends=worker.FAILED)
    assert f"the loss became {number} at step 1. Nothing had been saved before" in error_of(run)["what"]
    assert len(training.losses(run)) == 0


@pytest.mark.parametrize("norm", [1.0, 0.0])
def test_gradients_that_are_no_numbers(trainer, monkeypatch, norm):
    """Without clipping nobody looks at the gradients: then the next loss tells."""
    backward, calls = Accelerator.backward, []

    def poisoned(accelerator: Accelerator, loss: torch.Tensor) -> None:
        calls.append(loss)
        backward(accelerator, loss * float("nan") if len(calls) == 2 else loss)

    monkeypatch.setattr(Accelerator, "backward", poisoned)
    run = trainer.train(max_grad_norm=norm, checkpointing_steps=1, ends=worker.FAILED)
    assert "nan" in error_of(run)["what"] or "infinite" in error_of(run)["what"]
    assert steps(run) == [1] and training.weights(run)["unet/conv_in.weight"].isfinite().all()


# --- memory and disk


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
    ],
)
def test_out_of_memory_ends_with_the_remedies_that_fit_in_order(trainer, monkeypatch, error):
    fail_at(monkeypatch, 2, error)
    run = trainer.train(checkpointing_steps=1, train_batch_size=2, text_encoder_steps=4, ends=worker.FAILED)
    said = error_of(run)
    assert "memory of cpu was not enough" in said["what"]
    expected = ["gradient_checkpointing on", "train_batch_size to 1", "adamw8bit", "clip_grad_mode to previous_norm"]
    expected += ["text_encoder_steps", "close other"]
    remedies = said["remedy"].split("; ")
    assert len(remedies) == len(expected)
    for remedy, words in zip(remedies, expected, strict=True):
        assert words in remedy
    assert steps(run) == [1, 2]


@pytest.mark.parametrize("error", [MemoryError(), UserError("other.as_said", message="no picture.", remedy="Look.")])
@pytest.mark.parametrize("settings", [{}, {"method": "lora", "rank": 2, "max_grad_norm": 0}])
def test_a_step_that_fails_costs_none_of_those_before(trainer, monkeypatch, error, settings):
    """In the forward pass, or where its pictures are read: the weights are those of the step before."""
    whole = trainer.train(**settings)
    with monkeypatch.context() as patch:
        fail_at(patch, 3, error)
        run = trainer.train(checkpointing_steps=2, checkpoints_total_limit=1, ends=worker.FAILED, **settings)
    said = error_of(run)
    assert "The training state of step 3 is safe." in said["what"]
    assert f"To go on from it: python -m dreambooth_ext resume {run.id}" in said["remedy"]
    assert steps(run) == [2, 3]  # the one before goes when training has gone on
    assert training.go_on(run) == worker.DONE
    assert steps(run) == [4]
    training.assert_same_run(whole, run)


@pytest.mark.parametrize(("norm", "call"), [(1.0, 3), (0, 300)])
def test_a_step_that_is_half_done_is_not_saved(trainer, monkeypatch, norm, call):
    """A part of the weights has been changed: by the optimizer, or within the backward pass, tensor by tensor."""
    step, calls = torch.optim.AdamW.step, []

    def failing(*arguments) -> None:
        step(*arguments)
        calls.append(1)
        if len(calls) == call:
            raise MemoryError

    monkeypatch.setattr(torch.optim.AdamW, "step", failing)
    run = trainer.train(checkpointing_steps=1, max_grad_norm=norm, ends=worker.FAILED)
    done = len(training.losses(run))
    assert done >= 1 and steps(run) == list(range(1, done + 1))
    assert f"The training state of step {done} is safe." in error_of(run)["what"]


def test_a_backward_pass_that_fails_before_its_first_step_keeps_the_state(trainer, monkeypatch):
    backward, calls = Accelerator.backward, []

    def failing(accelerator: Accelerator, loss: torch.Tensor) -> None:
        calls.append(loss)
        if len(calls) == 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        backward(accelerator, loss)

    monkeypatch.setattr(Accelerator, "backward", failing)
    run = trainer.train(max_grad_norm=0, ends=worker.FAILED)
    assert steps(run) == [2] and "The training state of step 2 is safe." in error_of(run)["what"]


def test_a_loss_that_is_no_number_keeps_the_weights_before_it(trainer, monkeypatch):
    loss, calls = worker.METHODS["dreambooth"].loss, []

    def broken(*arguments) -> torch.Tensor:
        calls.append(1)
        return loss(*arguments) * (float("nan") if len(calls) == 3 else 1)

    monkeypatch.setattr(worker.METHODS["dreambooth"], "loss", broken)
    run = trainer.train(ends=worker.FAILED)
    assert "the loss became nan at step 3. The training state of step 2 is safe." in error_of(run)["what"]
    assert steps(run) == [2]


def test_out_of_memory_in_the_validation_loss_is_no_end(trainer, monkeypatch):
    measure, calls = measurements.measure, []

    def failing(*arguments) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return measure(*arguments)

    monkeypatch.setattr(measurements, "measure", failing)
    run = trainer.train(validation_split=0.3, validation_loss_steps=1)
    assert [event["step"] for event in training.events(run, "validation")] == [0, 2, 3, 4]
    (warning,) = training.events(run, "warning")
    assert "validation loss" in warning["what"] and warning["field"] == "validation_split"


def test_remedies_that_are_in_use_are_not_named(trainer, monkeypatch):
    fail_at(monkeypatch, 0, MemoryError())
    settings = {"gradient_checkpointing": True, "optimizer": "adamw8bit", "max_grad_norm": 0, "use_ema": True}
    run = trainer.train(**settings, ends=worker.FAILED)
    remedy = error_of(run)["remedy"]
    assert remedy.startswith("Try, in this order: turn use_ema off")


@pytest.mark.parametrize(("number", "part"), [(errno.ENOSPC, "disk is full"), (errno.EFBIG, "a file became too large")])
def test_a_disk_that_refuses_in_the_middle_of_a_save(trainer, monkeypatch, number, part):
    whole = trainer.train(checkpointing_steps=1, save_intermediate_models=False)
    save, calls = torch.save, []

    def full(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(number, "as the system says it")
        save(*arguments, **options)

    monkeypatch.setattr(torch, "save", full)
    run = trainer.train(checkpointing_steps=1, save_intermediate_models=False, ends=worker.FAILED)
    error = error_of(run)
    assert part in error["what"] and ", then " in error["remedy"]
    assert steps(run) == [1] and list(run.path.rglob(f"{files.TEMPORARY}*")) == []
    assert training.go_on(run) == worker.DONE
    training.assert_same_run(whole, run)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device that is always full")
def test_torch_does_not_hide_that_the_disk_is_full(trainer, monkeypatch):
    monkeypatch.setattr(training_state, "TRAINER", "/dev/full")
    assert "disk is full" in error_of(trainer.train(ends=worker.FAILED))["what"]


def test_a_disk_so_full_that_not_even_the_error_can_be_written(trainer, monkeypatch, capsys):
    append = EventLog.append

    def full(log: EventLog, type: str, **data):
        if type in ("step", "error"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(log, type, **data)

    monkeypatch.setattr(EventLog, "append", full)
    run = trainer.create()
    assert training.go_on(run) == worker.FAILED
    assert "disk is full" in capsys.readouterr().err and "disk is full" in run.state()["problem"]["message"]


def test_too_little_disk_is_said_before_anything_is_loaded(trainer, monkeypatch):
    monkeypatch.setattr(worker.files, "free_bytes", lambda path: 1000)
    monkeypatch.setattr(worker, "make_method", None)
    error = error_of(trainer.train(ends=worker.BAD_INPUT))
    assert error["field"] == "checkpointing_steps" and "are free" in error["what"]


def test_an_optimizer_that_cannot_work_here_is_said_before_anything_is_loaded(trainer, monkeypatch):
    def no_kernel(*arguments):
        raise NotImplementedError("no kernel for this device")

    monkeypatch.setattr("dreambooth_ext.engine.optimization.optimizer_creation._try_step", no_kernel)
    monkeypatch.setattr(worker, "gather", None)
    run = trainer.train(optimizer="adamw8bit", ends=worker.BAD_INPUT)
    error = error_of(run)
    assert error["field"] == "optimizer" and "no kernel" in error["what"] and "adamw" in error["remedy"]
    assert run.state()["step"] == 0 and not list(run.checkpoints.iterdir())


def test_any_other_error_names_itself_and_the_log(trainer, monkeypatch, capsys):
    fail_at(monkeypatch, 1, KeyError("odd"))
    run = trainer.train(ends=worker.FAILED)
    error = error_of(run)
    assert "KeyError" in error["what"] and "log.txt" in error["remedy"]
    assert "'Copy report'" in error["remedy"] and f"runs report {run.id}" in error["remedy"]
    assert "Traceback" in capsys.readouterr().err


# --- pictures


def rewrite(path: Path, key: str, tensor: torch.Tensor) -> None:
    """A base's file with another tensor in it."""
    tensors = {name: kept.clone() for name, kept in open_tensors(path).items()}
    save_tensors(tensors | {key: tensor}, path)


def test_a_base_with_a_broken_number_is_named_before_pictures_are_encoded(trainer, monkeypatch):
    rewrite(trainer.base, "model.diffusion_model.out.2.bias", torch.tensor([0.0, torch.nan, 0.0, 0.0]))
    monkeypatch.setattr(worker, "gather", None)
    error = error_of(trainer.train(ends=worker.BAD_INPUT))
    assert error["field"] == "base_model" and "its UNet holds invalid numbers" in error["what"]
    assert "conv_out.bias" in error["what"] and "rate" not in error["why"]
    (problem,) = inspect(trainer.config().as_dict(), trainer.folder)["problems"]
    assert problem["message"] == error["what"]


def test_a_sound_base_is_looked_at_once_and_again_when_it_changes(trainer, monkeypatch):
    looked, original = [], LatentBase.require_sound

    def noted(base: LatentBase, seconds: float) -> bool:
        looked.append(base.name)
        return original(base, seconds)

    monkeypatch.setattr(LatentBase, "require_sound", noted)
    for _ in range(2):
        assert not inspect(trainer.config().as_dict(), trainer.folder)["problems"]
    assert len(looked) == 1
    rewrite(trainer.base, "model.diffusion_model.out.2.bias", torch.full((4,), torch.nan))
    for _ in range(2):
        assert "conv_out.bias" in inspect(trainer.config().as_dict(), trainer.folder)["problems"][0]["message"]
    assert len(looked) == 3
    monkeypatch.setattr(plan, "LOOKING", -1.0)  # no time to look
    assert not inspect(trainer.config().as_dict(), trainer.folder)["problems"]


def test_a_base_with_wrong_position_ids_is_trained_and_written_with_right_ones(trainer):
    key = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    rewrite(trainer.base, key, torch.arange(77)[None].half() - 0.02)
    run = trainer.train(max_train_steps=1)
    assert sum("position_ids" in warning for warning in warnings(run)) == 1
    assert torch.equal(training.artifact(run)[key], torch.arange(77)[None])
    said = inspect(trainer.config().as_dict(), trainer.folder)["warnings"]
    assert sum(warning["code"] == "base.wrong_position_ids" for warning in said) == 1


def test_a_broken_picture_is_named_and_the_rest_trains(trainer, tmp_path):
    folder = Path(trainer.settings["instance_data_dir"])
    (folder / "sksper (9).png").write_bytes(b"no picture")
    cut = (folder / "sksper (1).png").read_bytes()
    (folder / "sksper (8).png").write_bytes(cut[: len(cut) // 2])
    run = trainer.train()
    told = "\n".join(warnings(run))
    assert "sksper (9).png" in told and "sksper (8).png" in told and "sksper (1).png" not in told
    assert run.state()["plan"]["pictures"] == 3


def test_nothing_but_broken_pictures_is_an_error(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for number in range(3):
        (folder / f"sksper ({number}).jpg").write_bytes(b"\xff\xd8 no picture")
    run = Trainer(tmp_path, instance_data_dir=str(folder)).train(ends=worker.BAD_INPUT)
    assert error_of(run)["field"] == "instance_data_dir" and len(warnings(run)) == 3


def test_pictures_that_went_away_since_the_run_was_made(trainer):
    run = trainer.create()
    shutil.rmtree(trainer.settings["instance_data_dir"])
    assert training.go_on(run) == worker.BAD_INPUT
    assert error_of(run)["field"] == "instance_data_dir"


# --- class pictures


def class_folder(run: Run) -> Path:
    (folder,) = (run.path.parent / "class_pictures").iterdir()
    return folder


def drawn(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def test_class_pictures_are_counted_exactly_and_reused(trainer):
    run = trainer.train(**PRIOR)
    folder = class_folder(run)
    first = drawn(folder)
    assert len(first) == 3 and len(set(first.values())) == 3
    assert run.state()["plan"]["class_pictures"] == 3
    stages = [e for e in training.events(run, "status") if e.get("stage") == "drawing class pictures"]
    assert (stages[-1]["done"], stages[-1]["of"]) == (3, 3)

    run = trainer.train(**PRIOR | {"num_class_images": 5})  # two more, the three kept
    assert len(drawn(folder)) == 5 and first.items() <= drawn(folder).items()

    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    run = trainer.train(**PRIOR | {"num_class_images": 2})
    assert run.state()["plan"]["class_pictures"] == 2
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    assert not [e for e in training.events(run, "status") if e.get("stage") == "drawing class pictures"]


def test_class_pictures_of_the_users_own_are_completed(trainer, tmp_path):
    folder = tmp_path / "class"
    training.draw(folder / "mine.png", 77)
    run = trainer.train(**PRIOR, class_data_dir=str(folder))
    assert sorted(drawn(folder)) == ["class-00000.png", "class-00001.png", "mine.png"]
    assert run.state()["plan"]["class_pictures"] == 3


def test_a_class_folder_around_the_instance_folder_does_not_count_its_pictures(trainer, tmp_path):
    folder = tmp_path / "all"
    trainer.settings["instance_data_dir"] = training.pictures(folder / "mine")
    run = trainer.train(**PRIOR, class_data_dir=str(folder))
    assert len(drawn(folder)) == 3
    assert (run.state()["plan"]["pictures"], run.state()["plan"]["class_pictures"]) == (3, 3)


def test_drawing_class_pictures_goes_on_where_it_was_cut_short(trainer, tmp_path, monkeypatch):
    whole = Trainer(tmp_path / "whole", instance_data_dir=trainer.settings["instance_data_dir"]).train(**PRIOR)
    draw_some, calls = class_images.draw_some, []

    def cut_short(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return draw_some(*arguments)

    monkeypatch.setattr(class_images, "draw_some", cut_short)
    run = trainer.train(**PRIOR, ends=worker.FAILED)
    assert len(drawn(class_folder(run))) == 1
    assert training.go_on(run) == worker.DONE
    assert len(calls) == 4  # one, the one that failed, and the two that were missing
    assert drawn(class_folder(run)) == drawn(class_folder(whole))
    training.assert_same_run(whole, run)


def test_stop_while_class_pictures_are_drawn(trainer, monkeypatch):
    draw_some = class_images.draw_some

    def stopped(*arguments):
        count = draw_some(*arguments)
        run.command("stop")
        return count

    monkeypatch.setattr(class_images, "draw_some", stopped)
    run = trainer.create(**PRIOR)
    assert training.go_on(run) == worker.STOPPED
    assert len(drawn(class_folder(run))) == 1 and run.state()["status"] == "stopped"


def test_class_pictures_of_a_prompt_are_drawn_some_at_a_time_where_a_card_draws(trainer, monkeypatch):
    """Each is what it is alone: its seed goes by its number."""
    alone = trainer.train(**PRIOR)
    once = trainer.folder / "once"
    shutil.move(class_folder(alone), once)
    draw_some, sizes = class_images.draw_some, []

    def counted(*arguments):
        sizes.append(len(arguments[-1]))
        return draw_some(*arguments)

    monkeypatch.setattr(class_images, "draw_some", counted)
    monkeypatch.setitem(class_images.PIXELS_AT_ONCE, "cpu", 2 * 64 * 64)
    together = trainer.train(**PRIOR)
    assert sizes == [2, 1]
    for path in sorted(class_folder(together).glob("*.png")):
        one, other = (np.asarray(Image.open(p)).astype(int) for p in (path, once / path.name))
        assert np.abs(one - other).max() <= 1


# --- damaged training states, two workers


def cut(path: Path) -> None:
    with path.open("rb+") as stream:
        stream.truncate(path.stat().st_size // 2)


def zeros(path: Path) -> None:
    """As a file comes back whose blocks never reached the disk: its size, and nothing in it."""
    path.write_bytes(bytes(path.stat().st_size))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: zeros(state / "trainer.pt"),
        lambda state: flip_a_bit(state / "unet.safetensors"),
        lambda state: flip_a_bit(state / "trainer.pt"),
        lambda state: cut(state / "unet.safetensors"),
        lambda state: (state / "trainer.pt").unlink(),
        lambda state: (state / "checkpoint.json").unlink(),
        lambda state: (state / "checkpoint.json").write_text('{"files"'),
        lambda state: (state / "checkpoint.json").write_text("[]"),
        lambda state: [path.unlink() for path in state.iterdir()],
    ],
)
def test_a_damaged_state_is_named_and_the_one_before_is_used(trainer, damage):
    whole = trainer.train(checkpointing_steps=2, save_intermediate_models=False)
    run = trainer.create(checkpointing_steps=2, save_intermediate_models=False)
    for name in ("checkpoints", "artifacts"):
        shutil.copytree(whole.path / name, run.path / name, dirs_exist_ok=True)
    damage(run.checkpoints / "4")
    assert training.go_on(run) == worker.DONE, training.log(run)
    assert any("damaged" in warning and str(run.checkpoints / "4") in warning for warning in warnings(run))
    assert [event["step"] for event in training.events(run, "step")] == [3, 4]
    training.assert_same_run(whole, run)
    assert training.newest(run).is_sound()


def test_a_damaged_state_does_not_take_the_place_of_a_good_one(trainer):
    """Only one is kept, and the damaged one is newer than the one that is saved."""
    run = trainer.train(checkpointing_steps=2, save_intermediate_models=False)
    flip_a_bit(run.checkpoints / "4" / "unet.safetensors")
    other = trainer.create(max_train_steps=3, checkpoints_total_limit=1)
    shutil.copytree(run.checkpoints, other.checkpoints, dirs_exist_ok=True)
    assert training.go_on(other) == worker.DONE, training.log(other)
    assert steps(other) == [3] and "goes on from step 2" in warnings(other)[0]


def test_no_state_is_sound(trainer):
    run = trainer.train()
    zeros(run.checkpoints / "4" / "trainer.pt")
    assert training.go_on(run) == worker.DONE
    assert "starts again from the beginning" in warnings(run)[0] and len(training.losses(run)) == 8
    assert warnings(run)[0].count("damaged") == 1 and training.newest(run).is_sound()


def test_a_state_without_checksums_that_cannot_be_read_says_so(trainer):
    """One of an earlier version."""
    run = trainer.train()
    state = run.checkpoints / "4"
    manifest = files.read_json(state / "checkpoint.json")
    del manifest["crc32"]
    files.write_json(state / "checkpoint.json", manifest)
    assert training.go_on(run, total=5) == worker.DONE
    state = run.checkpoints / "5"
    manifest = files.read_json(state / "checkpoint.json")
    del manifest["crc32"]
    files.write_json(state / "checkpoint.json", manifest)
    zeros(state / "trainer.pt")
    assert training.go_on(run, total=6) != worker.DONE
    error = training.events(run, "error")[-1]
    assert "trainer.pt is damaged" in error["what"] and "Delete" in error["remedy"] and str(state) in error["what"]


def test_two_workers_do_not_train_one_run(trainer, capsys):
    run = trainer.create()
    with run.take():
        before = files.read_json(run.path / "state.json")
        assert training.go_on(run) == worker.BAD_INPUT
        assert "another process" in capsys.readouterr().err
        assert files.read_json(run.path / "state.json") == before
        with pytest.raises(Exception, match="still training"):
            run.delete()
    run.delete()
    assert not run.path.exists()


def test_a_heart_that_cannot_beat_does_not_end_the_run(trainer, monkeypatch):
    monkeypatch.setattr("dreambooth_ext.engine.runtime.control.HEARTBEAT", 0.001)
    write = Control._write

    def full(control: Control) -> None:
        if threading.current_thread().name == "heartbeat":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(control)

    monkeypatch.setattr(Control, "_write", full)
    assert trainer.train().state()["status"] == "done"


@pytest.mark.parametrize("at", ["step", "save", "end", "export"])
def test_a_run_s_folder_that_is_deleted_while_it_trains_does_not_come_back(trainer, monkeypatch, capsys, at):
    """Neither as a half run, nor with a model that nobody lists."""
    run = trainer.create(checkpointing_steps=2)

    def deleting(original):
        def gone(*arguments, **options):
            files.remove(run.path)  # at once, as file managers do; there are other threads
            return original(*arguments, **options)

        return gone

    places = {"step": (Loop, "_optimise"), "save": (training_state, "save"), "end": (Saver, "model")}
    place = {**places, "export": (FullTraining, "export")}[at]
    with monkeypatch.context() as patched:
        patched.setattr(*place, deleting(getattr(*place)))
        assert training.go_on(run) == worker.FAILED
    assert "was deleted during training" in capsys.readouterr().err
    assert not run.path.exists() or not list(run.path.rglob("*.safetensors"))
    assert not (run.path / "state.json").exists() and run not in run_list.list_runs(run.path.parent)
