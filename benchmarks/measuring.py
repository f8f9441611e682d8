"""What measuring costs beside training: `python -m benchmarks.measuring [--base FILE] [--steps N] [--method NAME ...]`.

Trains a short run per row, measures at its start, middle and end, and compares the processor time of a forward pass
there with that of a step. `core/verdict/measuring.py` counts a step as two to four passes for each of its pictures; the
share of a run's time follows from both. Processor time, so that other programs hardly matter; it says nothing of cards.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config import parsing
from dreambooth_ext.core.guide.demo_recipe import BASE, PICTURES
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.verdict import measuring
from dreambooth_ext.core.verdict.measuring import Sizes
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.training.fixed_loss import FixedLoss
from dreambooth_ext.engine.training.loop import Loop

SIZES = Sizes(learned=6, held=6, drift=4, word=4)
METHODS: dict[str, dict[str, Any]] = {
    "dreambooth": {"text_encoder_steps": 0},
    "dreambooth, text encoder": {"text_encoder_steps": 10_000},
    "dreambooth, checkpointing": {"text_encoder_steps": 0, "gradient_checkpointing": True},
    "lora": {"method": "lora", "text_encoder_steps": 0},
    "lora, checkpointing": {"method": "lora", "text_encoder_steps": 0, "gradient_checkpointing": True},
    "textual_inversion": {"method": "textual_inversion", "instance_prompt": None, "initializer_token": "figure"},
    "hypernetwork": {"method": "hypernetwork"},
}


class Clock:
    """Processor seconds of measurements and of everything in the training loop."""

    def __init__(self) -> None:
        self.measured, self.whole, self.passes = 0.0, 0.0, 0

    def around(self, owner: type, name: str, note: Any) -> Any:
        original = getattr(owner, name)

        def timed(own: Any, *arguments: Any) -> Any:
            began = time.process_time()
            try:
                return original(own, *arguments)
            finally:
                note(own, arguments, time.process_time() - began)

        return mock.patch.object(owner, name, timed)

    def note_losses(self, fixed: FixedLoss, arguments: tuple[Any, ...], seconds: float) -> None:
        self.measured += seconds
        self.passes += sum(getattr(fixed.plan.sizes, part) for part in arguments[-1])

    def note_training(self, loop: Loop, arguments: tuple[Any, ...], seconds: float) -> None:
        self.whole += seconds


def row(settings: dict[str, Any], base: Path, steps: int, batch: int, side: int) -> dict[str, float]:
    values: dict[str, Any] = {
        "name": "measured",
        "base_model": str(base),
        "instance_data_dir": str(PICTURES),
        "instance_prompt": "zkz figure",
        "resolution": side,
        "max_train_steps": steps,
        "train_batch_size": batch,
        "checkpointing_steps": 0,
        "report_to": "none",
        "device": "cpu",
        "gradient_checkpointing": False,
        **settings,
    }
    config, unread = parsing.parse(values)
    config, _, _, problems, _ = config_checks.check(config)
    assert not unread + problems, list(map(str, unread + problems))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = run_folder.create(Path(folder), config)
        with (
            mock.patch.object(measuring, "_sizes", lambda *rest: SIZES),
            mock.patch.object(measuring, "_steps", lambda total, times: (0, total // 2, total)),
            clock.around(FixedLoss, "_losses", clock.note_losses),
            clock.around(Loop, "_train", clock.note_training),
        ):
            assert worker.main([str(run.path)]) == worker.DONE
        plan = run.state()["plan"]
    # step 0 is measured before the first step: twice, once to keep and once to tell
    each = clock.measured / clock.passes
    step = (clock.whole - clock.measured / 2) / steps
    counted = measuring.work(config, plan["pictures"], False)
    return {
        "pass": each,
        "step": step,
        "passes": step / each,
        "counted": counted,
        "share": measuring.SHARE * counted * each / step,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="What measuring costs beside training.")
    parser.add_argument("--base", type=Path, default=BASE)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--method", action="append", choices=METHODS, help="default: all")
    arguments = parser.parse_args()
    print("| method | pass, s | step, s | a step is passes | counted as | share of the time at most |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in arguments.method or METHODS:
        got = row(METHODS[name], arguments.base, arguments.steps, arguments.batch, arguments.resolution)
        numbers = f"{got['pass']:.4f} | {got['step']:.4f} | {got['passes']:.1f} | {got['counted']:.0f}"
        print(f"| {name} | {numbers} | {got['share']:.1%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
