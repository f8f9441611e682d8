"""Two processes on a run, of which one or the other is killed again and again: the run is none the worse for it."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import pytest

from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from tests import training
from tests.engine.distribution.test_exchange import alone
from tests.engine.launching import test_together
from tests.training import Trainer
from tests.waiting import until

KILLS = 8
SETTINGS = {
    "max_train_steps": 60,
    "checkpointing_steps": 2,
    "checkpoints_total_limit": 3,
    "save_intermediate_models": False,
}


def kill_one(run: Run, chance: random.Random) -> bool:
    """Start both, and kill one of them at some instant, unless they are done before. Returns whether they are."""
    launcher, begun, prepares = test_together.start(run), len(training.losses(run)), chance.random() < 0.25
    until(lambda: launcher.poll() is not None or len(test_together.workers(run)) == 2, 60)
    if not prepares:
        until(lambda: launcher.poll() is not None or len(training.losses(run)) > begun, 120)
    time.sleep(chance.random())
    there = test_together.workers(run)
    if launcher.poll() is None and len(there) == 2:
        os.kill(there[chance.choice(sorted(there))], signal.SIGKILL)
    code = launcher.wait(10)
    assert not test_together.workers(run)
    return code == worker.DONE


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("seed", [1, 2])
def test_it_comes_to_the_same_bits_as_one_process_that_nobody_kills(tmp_path, seed):
    trainer, chance = Trainer(tmp_path, text_encoder_steps=9), random.Random(seed)
    one = trainer.create(**SETTINGS, gradient_accumulation_steps=2)
    two = trainer.create(**SETTINGS)
    assert alone(one) == worker.DONE, training.log(one)
    if not any(kill_one(two, chance) for _ in range(KILLS)):
        assert test_together.start(two).wait(200) == worker.DONE, training.log(two)
    assert len(training.events(two, "error")) >= 3
    training.assert_same_run(one, two)
