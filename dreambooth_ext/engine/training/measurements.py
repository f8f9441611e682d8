"""Takes a run's measurements when they are due, all with the weights that would be exported, and says what they show:
what it has learned (`fixed_loss`) and the loss on held-out pictures (`validation_loss`)."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem, UserError
from ..data.dataset import Dataset
from ..optimization.not_finite import not_finite
from ..runtime import distributed, memory
from ..runtime.control import Control
from .fixed_loss import FixedLoss
from .loop_state import LoopState
from .method import Method
from .run_outputs import Saver
from .validation_loss import Validation, measure


@dataclass
class Measurements:
    """The measurements of one run. fixed, validation: what is measured, its schedule and history."""

    config: ResolvedConfig
    method: Method
    dataset: Dataset
    accelerator: Accelerator
    control: Control
    saver: Saver
    state: LoopState
    fixed: FixedLoss
    validation: Validation

    def resume(self) -> None:
        """Restore the histories up to the last training state from the run's events."""
        known = self.control.events.read()
        self.validation.resume(known, self.state.step)
        self.fixed.resume(known, self.state.step)

    def measure(self, total: int) -> bool:
        """Measure what the run has learned. Returns True if it is to end before step `total`, having warned of it."""
        step = self.state.step
        found = self._measured() if self.state.takes_part else None
        ends = bool(found) and self.config.stop_when_good and step < total and self.fixed.has_ended()
        if not distributed.of_first(ends):
            return False
        code = "training.stopped_overfitting" if found and found["is_sure"] else "training.stopped_flat"
        self.control.warn(Problem(code, "stop_when_good", step=step, total=total))
        return True

    def _measured(self) -> dict[str, Any] | None:
        """Return what the event of a measurement says, None if it could not be made."""
        found: dict[str, Any] | None = {}  # if memory runs out
        try:
            problem = Problem("training.measuring_out_of_memory", "measure_progress")
            with self.state.sparing(problem, self.control.warn), self._averaged():
                found = self.fixed.measure(self.method, self.accelerator.device, self.state.step)
        except UserError as error:
            self.control.warn(error.problem)
        if found == {}:
            self.fixed.give_up()
            memory.release()
        if found:
            self.control.events.append("measurement", **found)
            self.saver.track_measurement(found)
        return found or None

    def validate(self) -> None:
        """Measure the loss on the held-out pictures."""
        if not self.state.takes_part:
            return
        loss, problem = None, Problem("training.validation_out_of_memory", "validation_split")
        with self.state.sparing(problem, self.control.warn), self._averaged():
            loss = measure(self.config, self.method, self.dataset, self.accelerator.device)
        if loss is None:
            memory.release()
        elif math.isfinite(loss):
            self._note_validation(loss)
        elif self.state.scaler is None:  # fp16 may overflow once; broken weights show in the training loss
            raise not_finite(self.config, "training.validation_not_finite", loss=loss, step=self.state.step)

    def _note_validation(self, loss: float) -> None:
        self.control.events.append("validation", step=self.state.step, loss=loss)
        self.saver.track_validation(self.state.step, loss)
        if (best := self.validation.add(self.state.step, loss)) is not None:
            now, lowest = self.validation.at(self.state.step), self.validation.at(best)
            known: dict[str, Any] = {"lowest": f"{lowest:.4g}", "best": best, "now": f"{now:.4g}"}
            self.control.warn(Problem("training.overfitting", "validation_split", **known))

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        return self.state.averaged(self.method.averaged())
