"""The training loop: asks the method for parameters and losses, steps the optimizer, reports, obeys commands and
saves."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem, UserError
from ...core.messages.message import Message
from ...core.runs import events
from ..data.batch import Batch
from ..data.dataset import Dataset
from ..distribution.exchange import Loss
from ..formats.verified_write import NothingLearned
from ..optimization.clipping import clip, limit_at
from ..optimization.fused_backward import FusedBackward
from ..optimization.not_finite import finite, not_finite
from ..optimization.readings import Reading
from ..optimization.single_steps import steps_singly
from ..runtime import distributed, memory
from ..runtime.control import STOPPING, Control, Stopped
from ..runtime.seeds import derive, generator
from . import training_state
from .loop_state import LoopState
from .measurements import Measurements
from .method import Method
from .run_outputs import Saver

COMMON = ("training.loss_not_finite", "training.gradients_not_finite")


@dataclass
class Loop:
    """The training of one run, from the step after its last training state up to step `total`."""

    config: ResolvedConfig
    method: Method
    dataset: Dataset
    accelerator: Accelerator
    control: Control
    saver: Saver
    total: int
    state: LoopState
    measurements: Measurements

    def run(self) -> str:
        """Train. Returns "done", or "stopped" if a command ended the run early."""
        state = self.state
        self.control.status("training", step=state.step, total=self.total)
        due = self.saver.is_due(state.step, self.total)
        if due and self.config.save_intermediate_models and self._lacks(self.saver.has_model):
            self._save_model(final=False)  # the worker was killed after saving the state
        if state.step:
            self.measurements.resume()
        else:
            self._look_at_base()
        with contextlib.closing(state), self._rescuing():
            self._train()
        self._save_state()
        if state.step < self.total:
            return "stopped"
        self._save_model(final=True)
        return "done"

    def _look_at_base(self) -> None:
        """Measure the base and draw its previews before the first step, to compare with; without a base, only noise."""
        if self.measurements.fixed.is_due(0):
            self._measure()
        if self.measurements.validation.is_due(0):
            self._validate()
        if self.config.validation_steps and self.config.base_model and self._lacks(self.saver.has_previews):
            self._sample()

    def _lacks(self, has: Callable[[int], bool]) -> bool:
        """Whether the first process's folder lacks this step's files: it alone is sure to have them."""
        return distributed.of_first(not has(self.state.step))

    def _train(self) -> None:
        """Train step by step until the last step or a command to stop."""
        state = self.state
        state.pace.start()
        while True:
            stop = self._obey(distributed.of_first(self.control.commands()))
            if stop or state.step >= self.total:
                break
            reading = self._optimise(self._accumulate())
            state.step += 1
            self._enter(reading)
            state.savable = True
            state.pace.step()
            self._report(reading)
            if state.loss_scale.is_of_no_use:
                raise not_finite(self.config, "training.overflows_in_fp16", step=state.step)
            self._scheduled()
        self._tell()

    @contextlib.contextmanager
    def _rescuing(self) -> Iterator[None]:
        """Save the training state, if it is sound, when an exception ends training, so that no step is lost."""
        try:
            yield
        except Exception as error:
            if self.state.gathers and not is_common(error):
                raise  # the state is gathered by all processes, and the others know nothing of this
            self.control.rescue()
            traceback.clear_frames(error.__traceback__)  # they hold the step's graph, which may fill the memory
            memory.release()
            with contextlib.suppress(Exception):  # if this fails as well, `error` is still the one to report
                state = self.state
                state.optimizer.zero_grad(set_to_none=True)
                self.control.update(step=state.step)  # fewer, if it was read late that one is wrong
                self._note_state(wait=True)
                state.settle()
                if state.savable and self._is_of_use():
                    self._save_state(limit=None)  # earlier states stay until training has resumed from this one
            raise

    def _is_of_use(self) -> bool:
        """Whether the state is worth resuming from. Where it is divided, every process looks at its parts."""
        state = self.state
        if not state.gathers:
            return training_state.is_of_use(self.method.state_dict(), state.optimizer.optimizer)
        parts = {str(index): parameter for index, parameter in enumerate(state.parameters)}
        return all(distributed.of_all(training_state.is_of_use({"": parts}, state.optimizer.optimizer)))

    def _enter(self, reading: Reading) -> None:
        """Drop what stops learning at this step. A command to stop that arrives meanwhile waits for the next step."""
        state, config = self.state, self.config
        ends = state.step in (config.text_encoder_steps, config.embedding_steps)  # then averages stay in what is left
        if ends and state.guard:
            self._tell()
            state.require_finite(reading, state.step)
        with state.averaged_by_optimizer() if ends else contextlib.nullcontext():
            with contextlib.suppress(Stopped):
                self.method.enter(state.step)
            learning = {group["name"] for group in self.method.parameter_groups()}
            state.leave([group["name"] for group in state.optimizer.param_groups if group["name"] not in learning])

    def _accumulate(self) -> list[Tensor]:
        """Run forward and backward passes over the step's batches; return their losses, still on the device.

        Random numbers depend on a batch's place in the step, so that two processes compute the same as one process that
        accumulates two batches.
        """
        state, rank, world = self.state, self.accelerator.process_index, self.accelerator.num_processes
        micros, losses = self.config.gradient_accumulation_steps, []
        if there := self.dataset.fill(state.step, micros, rank, world):
            self.control.beside(Message("stages.caching_latents"), *there)
        for micro in range(micros):
            batches = state.source.batches(state.step, micro, rank, world)
            if state.fused and state.fused.lacks_norm and limit_at(self.config, state.step):
                self._measure_gradients(state.fused, batches)
            for part, batch in enumerate(batches):
                place = (state.step, micro * world + rank, part, 0)
                is_last = micro == micros - 1 and part == len(batches) - 1
                exchanged = partial(state.exchange.loss, is_last=is_last) if state.exchange else None
                loss = self._loss(batch, place, exchanged)
                losses.append(loss.detach())
                if state.fused and is_last:
                    return self._step_in_backward(state.fused, loss, losses)
                (state.zero or self.accelerator).backward(loss / micros)
        if state.exchange:
            state.exchange.finish()
        return losses

    def _loss(self, batch: Batch, place: tuple[int, ...], loss: Loss | None = None) -> Tensor:
        """Return a batch's loss. The same place draws the same random numbers. loss: instead of the method's own."""
        torch.manual_seed(derive(self.config.seed, "model", *place))  # dropout inside the models
        draws = generator(self.config.seed, "noise", *place)
        return (loss or self.method.loss)(batch.to(self.accelerator.device), draws)

    def try_step(self) -> None:
        """Run the next step forward and backward, and leave no trace of it."""
        state, rank, world = self.state, self.accelerator.process_index, self.accelerator.num_processes
        self.dataset.fill(state.step, 1, rank, world)
        norm = state.fused.norm if state.fused else None
        self._measure_gradients(state.fused, self.dataset.batches(state.step, 0, rank, world))
        if state.fused:
            state.fused.norm = norm

    def _measure_gradients(self, fused: FusedBackward | None, batches: list[Batch]) -> None:
        """Find the norm of a step's gradients by passes of its own, for a step that no other one comes before."""
        for part, batch in enumerate(batches):
            loss = self._loss(batch, (self.state.step, 0, part, 0))  # no accumulation, one process
            with fused.measuring() if fused and part == len(batches) - 1 else contextlib.nullcontext():
                self.accelerator.backward(loss)
        self.state.optimizer.zero_grad(set_to_none=True)

    def _step_in_backward(self, fused: FusedBackward, loss: Tensor, losses: list[Tensor]) -> list[Tensor]:
        """Run the backward pass in which the optimizer steps. The loss is checked first, since afterwards it would be
        too late."""
        self._tell()  # also for the norm of the step before
        self._prepare_step()
        self.state.reading(losses)
        try:
            with fused.stepping(limit_at(self.config, self.state.step) if fused.clips else 0.0):
                self.accelerator.backward(loss)
        finally:
            self.state.savable = not fused.has_stepped
        return losses

    def _prepare_step(self) -> None:
        state = self.state
        state.rates = state.schedules.set_rates(state.optimizer, state.step)
        state.single.now = state.step
        state.hold()

    def _optimise(self, losses: list[Tensor]) -> Reading:
        """Take an optimizer step. Returns the loss, and the gradients' global norm before clipping if it was
        computed."""
        state = self.state
        if state.fused:  # the backward pass has taken the step
            reading = state.reading(losses, state.fused.square, is_square=True)
        elif state.zero:
            self._prepare_step()
            state.reading(losses)  # before the step
            state.savable = False
            norm = state.zero.step(limit_at(self.config, state.step), self.config.clip_grad_mode)
            state.savable = not math.isfinite(norm)  # else the step has been taken
            reading = state.reading(losses, norm)
        else:
            self._prepare_step()
            reading = state.reading(losses, self._clip())
            state.savable = False
            (state.single.step_all if steps_singly(self.config) else state.optimizer.step)()
        state.optimizer.zero_grad(set_to_none=True)
        if not state.guard and state.loss_scale.stepped(reading.read()[0]) and state.ema:
            state.ema.step(self.method.averaged())
        return reading

    def _clip(self) -> Tensor | None:
        """Clip the gradients if they are to be; return their global norm before it, on the device."""
        limit = limit_at(self.config, self.state.step)
        if not limit:
            return None
        self.accelerator.unscale_gradients()
        common = self.state.sharded.common_norm if self.state.sharded else None
        return clip(self.state.parameters, limit, self.config.clip_grad_mode, common)

    def _report(self, reading: Reading) -> None:
        """Report a step: at once, or beside the next one if its numbers are read late."""
        state = self.state
        left = (self.total - state.step) / state.pace.per_second
        self.control.update(step=state.step)
        self._tell()
        known = {
            "step": state.step,
            "total": self.total,
            "epoch": round(self.dataset.order.epochs(state.step, self.accelerator.num_processes), 3),
            "lr": state.rates,
            "it_per_s": round(state.pace.per_second, 4),
            "eta_s": round(left, 1),
            "memory": memory.use(self.accelerator.device),
        }
        state.untold = (known, reading)
        if not state.guard:
            self._tell()

    def _tell(self) -> None:
        """Append the event of a step whose numbers are read late, if there is one that has not been told."""
        if not self.state.untold:
            return
        (known, reading), self.state.untold = self.state.untold, None
        if self.state.guard:
            self.state.require_finite(reading, known["step"])
        loss, norm = reading.read()
        if norm is not None and self.state.fused:
            self.state.fused.norm = norm
        self.control.events.append("step", **known, loss=finite(loss), grad_norm=finite(norm))
        self.saver.track(known["step"], loss, known["lr"])

    def _obey(self, commands: list[str]) -> bool:
        """Execute the commands that users sent since the last step. Returns True if the run is to stop."""
        for command in commands:
            if command in ("save", "stop_and_save"):
                self._save_state()
                self._save_model(final=False, stops=command == "stop_and_save")
            elif command == "sample":
                self._sample()
        return any(command in STOPPING for command in commands)

    def _scheduled(self) -> None:
        """Measure, draw previews, validate and save as scheduled for this step. The last step's saves are left to the
        end of the run."""
        config, step = self.config, self.state.step
        self._note_state()
        if self.measurements.fixed.is_due(step):  # first, since it may be the run's last step
            self._measure()
        if config.validation_steps and (step % config.validation_steps == 0 or step == self.total):
            self._sample()
        if self.measurements.validation.is_due(step):
            self._validate()
        if self.saver.is_due(step, self.total):
            self._save_state(meanwhile=True)
            if config.save_intermediate_models:
                self._save_model(final=False)

    def _save_state(self, meanwhile: bool = False, **keeping: int | None) -> None:
        """Write the training state, unless this step already has one. meanwhile: training goes on while it is written,
        if memory has room for a copy. keeping: a `limit` of states other than the run's."""
        state = self.state
        self._tell()
        self._note_state(wait=True)  # one at a time
        if state.step == state.saved or not (state.gathers or state.takes_part):
            return  # also at the start, when nothing has been learned yet
        state.settle()
        batches = self.dataset.order.consumed(state.step, self.accelerator.num_processes)
        trainer, weights = state.trainer(self.method.averaged()), self.method.state_dict()
        if self.accelerator.is_main_process:
            trainer |= self.dataset.place(batches)
            limit = keeping.get("limit", self.config.checkpoints_total_limit)
            saved = (self.control.run.checkpoints, state.step, weights, trainer, limit)
            with self._saving():
                state.writer.begin(*saved, meanwhile=meanwhile, are_copies=state.sharded is not None)
        state.saved = state.step
        self._note_state()

    def _note_state(self, wait: bool = False) -> None:
        """Record the training state that has been written since the last call. wait: for the one being written."""
        try:
            saved = self.state.writer.written(wait)
        except OSError:
            self.state.savable = False
            raise
        if saved:
            self.control.events.append("checkpoint", step=saved.step, path=str(saved.path))

    def _save_model(self, final: bool, stops: bool = False) -> None:
        self._tell()
        if not self.state.takes_part:
            return
        with self._saving(), self._averaged():
            if not self.accelerator.is_main_process:
                self.method.state_dict()  # which the first one exports
                return
            try:
                self.saver.model(self.state.step, final, stops)
            except NothingLearned as error:
                if final:
                    raise
                self.control.warn(error.problem)

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Set the status to "saving" while files are written. A kill before it loses the steps since the last save,
        after it none."""
        self.control.status("saving", step=self.state.step)
        try:
            yield
        except OSError:
            self.state.savable = False
            raise
        self.control.status("training", step=self.state.step)

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        """Use the weights' moving average, if there is one, for saves and previews."""
        return self.state.averaged(self.method.averaged())

    def _sample(self) -> None:
        self._tell()
        if not self.state.takes_part:
            return
        problem = Problem("training.preview_out_of_memory", "validation_prompts")
        with self.state.sparing(problem, self.control.warn), self._averaged():
            self.saver.preview(self.state.step)
        memory.release()

    def _measure(self) -> None:
        """Measure what the run has learned, and end it at this step if that says so."""
        self._tell()
        if self.measurements.measure(self.total):
            self.total = self.state.step
            self.control.status("training", step=self.total, total=self.total)

    def _validate(self) -> None:
        self._tell()
        self.measurements.validate()


def is_common(error: Exception) -> bool:
    """Whether all processes of a run raise this error at the same step: its numbers are common to all."""
    return isinstance(error, UserError) and error.problem.code in COMMON


assert set(events.COMMANDS) == {"stop", "stop_and_save", "save", "sample"}  # all that `_obey` knows
