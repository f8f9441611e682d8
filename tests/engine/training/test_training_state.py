"""Training states are written while training goes on, from copies: what comes after does not change them, and what
fails is said."""

from __future__ import annotations

import threading

import pytest
import torch

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.runtime import memory
from dreambooth_ext.engine.training import training_state
from dreambooth_ext.engine.training.training_state import Checkpoint, StateWriter, copied, size_of
from tests import training


@pytest.fixture
def gate(monkeypatch):
    """An event until which writing a state waits."""
    opened, save = threading.Event(), training_state.save

    def waiting(*args):
        assert opened.wait(60)
        return save(*args)

    monkeypatch.setattr(training_state, "save", waiting)
    return opened


def state() -> tuple[dict, dict]:
    shared = torch.arange(5.0)
    return {"unet": {"a": torch.full((7, 3), 1.0)}}, {"optimizer": {0: {"map": shared}, 1: {"map": shared}}, "step": 4}


def begin(writer, folder, parts, meanwhile=True):
    writer.begin(folder, 1, *parts, limit=None, meanwhile=meanwhile)


def test_a_state_is_as_it_was_when_it_was_begun(tmp_path, gate):
    (weights, trainer), writer = state(), StateWriter()
    begin(writer, tmp_path, (weights, trainer))
    assert writer.written(wait=False) is None and training_state.found(tmp_path) == []
    weights["unet"]["a"].add_(1)  # training goes on
    trainer["optimizer"][0]["map"].zero_()
    gate.set()
    written = writer.written(wait=True)
    assert torch.equal(written.weights()["unet"]["a"], torch.ones(7, 3))
    known = written.trainer()["optimizer"]
    maps = [known[index]["map"] for index in (0, 1)]
    assert all(torch.equal(found, torch.arange(5.0)) for found in maps)
    assert maps[0].untyped_storage().data_ptr() == maps[1].untyped_storage().data_ptr()  # stored once
    assert writer.written(wait=True) is None  # each is returned once
    writer.close()


def test_copies_of_tensors_that_are_made_when_asked_for():
    """As by a file: each goes at once, and its place in memory is taken by the next one."""

    class Made(dict):
        def items(self):
            return ((key, torch.full((3,), float(value))) for key, value in super().items())

    made = copied(Made(zip(range(50), range(50), strict=True)))
    assert [int(tensor[0]) for tensor in made.values()] == list(range(50))


def test_without_room_for_a_copy_it_is_written_at_once(tmp_path, monkeypatch):
    weights, trainer = state()
    monkeypatch.setattr(memory, "spare", lambda: size_of((weights, trainer)))
    monkeypatch.setattr(training_state, "copied", None)
    writer = StateWriter()
    begin(writer, tmp_path, (weights, trainer))
    assert writer.written(wait=False) == Checkpoint(tmp_path / "1")


def test_sizes():
    assert size_of(({"a": torch.zeros(3, dtype=torch.float16)}, [torch.zeros(2), 5, "text"], None)) == 6 + 8


@pytest.mark.parametrize("meanwhile", (True, False))
def test_ruined_weights_are_refused_at_once(tmp_path, meanwhile):
    weights, trainer = state()
    weights["unet"]["a"][2, 1] = float("nan")
    with pytest.raises(UserError, match="infinite"):
        begin(StateWriter(), tmp_path, (weights, trainer), meanwhile)
    assert list(tmp_path.iterdir()) == []


def test_the_loop_goes_on_while_a_state_is_written(trainer, monkeypatch):
    """The state of step 1 takes until step 3: it is recorded after that, and the one of step 2 waits for it."""
    save, stepped = training_state.save, threading.Event()
    monkeypatch.setattr(training_state, "save", lambda *args: (stepped.wait(60), save(*args))[1])
    from dreambooth_ext.engine.training.run_outputs import Saver

    track = Saver.track
    monkeypatch.setattr(
        Saver, "track", lambda self, step, *more: (step == 3 and stepped.set(), track(self, step, *more))[1]
    )
    run = trainer.train(max_train_steps=5, checkpointing_steps=2, save_intermediate_models=False)
    order = [(event["type"], event["step"]) for event in run.events.read() if event["type"] in ("step", "checkpoint")]
    assert order.index(("checkpoint", 2)) > order.index(("step", 3))
    assert [at for kind, at in order if kind == "checkpoint"] == [2, 4, 5]


def test_a_disk_that_is_full_meanwhile_ends_the_run_with_the_reason(trainer, monkeypatch):
    save = training_state.save

    def failing(folder, step, *more):
        if step == 2:
            raise OSError(28, "No space left on device")
        return save(folder, step, *more)

    monkeypatch.setattr(training_state, "save", failing)
    run = trainer.create(max_train_steps=8, checkpointing_steps=2, save_intermediate_models=False)
    assert training.go_on(run) == worker.FAILED
    assert "disk is full" in run.state()["problem"]["message"]
    assert training_state.found(run.checkpoints) == []
    monkeypatch.setattr(training_state, "save", save)
    assert training.go_on(run) == worker.DONE
