"""A step's numbers are read once, and where the device can be trusted to leave out a wrong step, one step late."""

from __future__ import annotations

import math
import traceback
from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode

from dreambooth_ext.engine import worker
from dreambooth_ext.engine.methods.full import FullTraining
from dreambooth_ext.engine.methods.lora import LoRATraining
from dreambooth_ext.engine.optimization.readings import Guard, Reading, is_late
from dreambooth_ext.engine.training import loop as loop_module
from dreambooth_ext.engine.training import loop_state
from tests import training

WAYS = {
    "clipped by the norm": {},
    "not clipped, within the backward pass": {"max_grad_norm": 0},
    "clipped by the norm before": {"clip_grad_mode": "previous_norm"},
    "clipped by value": {"clip_grad_mode": "value", "max_grad_norm": 1e-3},
    "accumulated": {"gradient_accumulation_steps": 2},
    "weights in bf16": {"weight_precision": "bf16", "mixed_precision": "bf16"},
    "text encoder that stops": {"text_encoder_steps": 2},
    "LoRA": {"method": "lora"},
    "SGD": {"optimizer": "sgd"},
}
DRAWN = ("order.py", "samples.py", "noise.py", "caption_variation.py", "dataset.py", "masks.py", "latent_encoding.py")


@pytest.fixture
def late(monkeypatch):
    """As on a card, whose numbers come late."""
    monkeypatch.setattr(loop_state, "is_late", lambda config, processes: True)


class Reads(TorchDispatchMode):
    """Counts where numbers are read from tensors, each of which would wait for a card."""

    def __init__(self):
        super().__init__()
        self.places: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, given=(), options=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.note()
        return function(*given, **(options or {}))

    def note(self):
        frames = [f for f in traceback.extract_stack() if "dreambooth_ext" in f.filename.replace("\\", "/").split("/")]
        file, name = frames[-1].filename.replace("\\", "/").rpartition("/")[2], frames[-1].name
        if file not in DRAWN:  # random numbers of the CPU's generators
            self.places[f"{file}:{name}"] += 1


@pytest.mark.parametrize("way", WAYS)
def test_a_step_reads_once(tmp_path, monkeypatch, late, way):
    reads, train, tolist = Reads(), loop_module.Loop._train, torch.Tensor.tolist

    def watched(loop):
        with reads, monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "tolist", read)
            train(loop)

    def read(tensor):
        reads.note()
        return tolist(tensor)

    monkeypatch.setattr(loop_module.Loop, "_train", watched)
    monkeypatch.setattr(loop_state.LoopState, "require_finite", lambda *given: None)  # it reads what has been read
    training.Trainer(tmp_path).train(max_train_steps=6, measure_progress=False, **WAYS[way])
    allowed = {"readings.py:read": 6}
    if WAYS[way].get("clip_grad_mode") == "previous_norm":
        allowed["fused_backward.py:norm"] = 1  # the first step's, which is measured
    assert reads.places == allowed


@pytest.mark.parametrize("max_grad_norm", [1.0, 0])
def test_the_next_step_is_under_way_when_they_are_read(tmp_path, monkeypatch, late, max_grad_norm):
    told, read, backward = [], Reading.read, Accelerator.backward

    def noted(reading):
        if reading._known is None:
            told.append("read")
        return read(reading)

    monkeypatch.setattr(Reading, "read", noted)
    monkeypatch.setattr(Accelerator, "backward", lambda *given: told.append("backward") or backward(*given))
    settings = {"max_grad_norm": max_grad_norm, "measure_progress": False, "max_train_steps": 3}
    training.Trainer(tmp_path).train(**settings)
    if max_grad_norm:
        assert told == ["backward", "backward", "read", "backward", "read", "read"]
    else:  # when the next step's forward pass is under way
        assert told == ["backward", "read", "backward", "read", "backward", "read"]


@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_the_same_when_they_come_late(tmp_path, monkeypatch, way):
    trainer = training.Trainer(tmp_path)
    one = trainer.train(max_train_steps=5, **WAYS[way])
    monkeypatch.setattr(loop_state, "is_late", lambda config, processes: True)
    other = trainer.train(max_train_steps=5, **WAYS[way])
    training.assert_same_run(one, other)
    same = ("step", "loss", "grad_norm", "lr", "epoch", "total")
    said = [[{name: event[name] for name in same} for event in training.events(run, "step")] for run in (one, other)]
    assert said[0] == said[1] and len(said[0]) == 5


@pytest.mark.parametrize("wrong", ["loss", "gradients"])
@pytest.mark.parametrize("way", ["clipped by the norm", "accumulated", "LoRA", "not clipped, within the backward pass"])
def test_nothing_wrong_is_saved(tmp_path, monkeypatch, wrong, way):
    """The run ends with the same words, and a training state of the same step, to the bit."""
    if wrong == "gradients" and way.startswith("not clipped"):
        pytest.skip("their norm is not looked at")
    method = LoRATraining if way == "LoRA" else FullTraining
    loss_of, calls = method.loss, []

    def loss(self, batch, generator):
        made = loss_of(self, batch, generator)
        calls.append(made)
        if len(calls) != 4 * self.config.gradient_accumulation_steps:
            return made
        return made * math.nan if wrong == "loss" else Infinite.apply(made)

    monkeypatch.setattr(method, "loss", loss)
    trainer, runs = training.Trainer(tmp_path), []
    for is_late_ in (False, True):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(loop_state, "is_late", lambda config, processes, late=is_late_: late)
            runs.append(trainer.train(ends=worker.FAILED, max_train_steps=9, measure_progress=False, **WAYS[way]))
    one, other = runs
    training.assert_same_run(one, other)
    assert training.newest(other).step == 3 and other.state()["step"] == one.state()["step"]
    assert len(training.losses(one)) == len(training.losses(other)) == 3
    said = [[(event["code"], event["why"]) for event in training.events(run, "error")] for run in runs]
    assert str(said[0]).replace(one.id, "") == str(said[1]).replace(other.id, "")


class Infinite(torch.autograd.Function):
    """The number itself, with an infinite gradient."""

    @staticmethod
    def forward(context, number):
        return number.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * math.inf


def test_the_guard_stays(late):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    guard, seen = Guard.of(optimizer), []
    for number in (1.0, math.nan, 1.0):
        weight.grad = torch.full((3,), 0.5)
        guard.watch([torch.tensor(2.0), torch.tensor(number)])
        optimizer.step()
        seen.append((weight.detach().clone(), float(optimizer.state[weight]["step"])))
    assert seen[0][0][0] < 1 and torch.equal(seen[0][0], seen[2][0]) and [step for _, step in seen] == [1, 1, 1]


def test_who_is_guarded_and_read_late():
    weight = torch.nn.Parameter(torch.ones(3))
    assert Guard.of(torch.optim.AdamW([weight], fused=True)) and not Guard.of(torch.optim.AdamW([weight]))
    assert not Guard.of(torch.optim.Adagrad([weight], fused=False))

    class On:
        device, mixed_precision, use_ema, offload = "cuda:0", "bf16", False, "off"

    assert is_late(On, 1) and not is_late(On, 2)
    for name, value in (("offload", "0.5"), ("device", "cpu"), ("mixed_precision", "fp16"), ("use_ema", True)):
        other = type("Other", (On,), {name: value})
        assert not is_late(other, 1)


def test_a_reading_is_the_mean_of_its_losses_and_the_norm():
    losses = [torch.tensor(number) for number in (0.1, 0.2, 0.3)]
    assert Reading(losses, 2).read() == (sum(float(loss) / 2 for loss in losses), None)
    assert Reading(losses, 1, torch.tensor(9.0), is_square=True).read()[1] == 3
