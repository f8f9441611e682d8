"""The training loop. It knows no method: it asks one for parameters and losses, and it reports, obeys and saves."""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor

from ...core.config.rates import parse_rate_schedule, value_at
from ...core.config.run_config import RunConfig
from ...core.errors import UserError
from ...core.runs import events
from ..data.dataset import Dataset
from ..data.prefetch import ReadAhead
from ..formats.verified_write import NothingLearned
from ..runtime import distributed, memory
from ..runtime.control import STOPPING, Control, Stopped
from ..runtime.seeds import derive, generator
from . import training_state
from .fused_backward import FusedBackward, is_possible
from .loss_scale import LossScale
from .lr_schedule import RateSchedules
from .optimizers import forget, load_state, make_optimizer
from .run_outputs import Saver
from .validation_loss import Validation, measure


@dataclass
class Pace:
    """Steps a second, smoothed, and the time that is left."""

    per_second: float = 0.0
    _last: float = field(default_factory=time.monotonic)

    def step(self) -> None:
        now = time.monotonic()
        rate = 1 / max(now - self._last, 1e-9)
        self.per_second = rate if not self.per_second else 0.9 * self.per_second + 0.1 * rate
        self._last = now


@dataclass
class Loop:
    """One run's training, from the step after its last checkpoint to `total`."""

    config: RunConfig
    method: Any  # see methods/__init__.py
    dataset: Dataset
    accelerator: Accelerator
    control: Control
    saver: Saver
    total: int
    step: int = 0
    saved: int = 0  # the step of the newest training state
    savable: bool = True  # whether no step is half done, and no save of this one has failed

    def run(self, resumed: training_state.Checkpoint | None) -> str:
        """Train. Returns how it ended: "done", or "stopped" when a command said so."""
        self._set_up(resumed)
        self.control.status("training", step=self.step, total=self.total)
        if resumed and self._is_due() and self.config.save_intermediate_models and not self.saver.has_model(self.step):
            self._save_model(final=False)  # the worker was killed between the two
        self._prepare_validation(resumed)
        with contextlib.closing(ReadAhead(self.dataset, self.config.gradient_accumulation_steps, self.total)) as ahead:
            self.source = ahead if self.dataset.reads_files else self.dataset
            with self._rescuing():
                self._train()
        self._save_state()
        if self.step < self.total:
            return "stopped"
        self._save_model(final=True)
        return "done"

    def _train(self) -> None:
        """The steps, up to the last one or a command to stop."""
        pace = Pace()
        while True:
            stop = self._obey(distributed.from_first(self.control.commands()))
            if stop or self.step >= self.total:
                break
            loss = self._accumulate()
            norm = self._optimise(loss)
            self.step += 1
            self._enter()
            self.savable = True
            pace.step()
            self._report(loss, norm, pace)
            if self.loss_scale.is_of_no_use:
                raise self._not_finite("the gradients overflow in fp16 however they are scaled", self.step)
            self._scheduled()

    @contextlib.contextmanager
    def _rescuing(self) -> Iterator[None]:
        """Around the training: what ends it otherwise than by a command costs no step, if the state is sound."""
        try:
            yield
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # they hold the step's graph, which may fill the memory
            memory.release()
            with contextlib.suppress(Exception):  # whatever this one is, it is `error` that is told
                self.optimizer.zero_grad(set_to_none=True)
                if self.savable and training_state.is_of_use(self.method.state_dict(), self.optimizer.optimizer):
                    self._save_state(limit=None)  # the earlier ones stay until training has gone on from it
            raise

    def _set_up(self, resumed: training_state.Checkpoint | None) -> None:
        groups = self.method.parameter_groups()
        self.schedules = RateSchedules(self.config, groups, self.total)
        self.optimizer = self.accelerator.prepare(make_optimizer(self.config, groups))
        possible = is_possible(self.config, self.accelerator.num_processes)
        self.fused = FusedBackward(self.optimizer.optimizer) if possible else None
        self.ema = None
        if self.config.use_ema:
            self.ema = EMAModel(self.method.averaged(), **average_options(self.config))
            self.ema.to(self.accelerator.device)
        if resumed:
            state = resumed.trainer()
            self.step = self.saved = resumed.step
            if "batches" in state:  # else an earlier version wrote it, with as many processes as there are now
                self.dataset.go_on(resumed.step, state["batches"])
            load_state(self.optimizer.optimizer, state["optimizer"])
            if self.ema:
                self.ema.load_state_dict(state["ema"])
                self.ema.to(self.accelerator.device)
            if self.accelerator.scaler and state["scaler"]:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        self.loss_scale = LossScale(self.accelerator.scaler)

    def _prepare_validation(self, resumed: training_state.Checkpoint | None) -> None:
        self.validation = Validation(self.config, self.dataset, self.total)
        if resumed:
            self.validation.resume(self.control.events.read(), self.step)
        elif self.validation.is_due(0):
            self._validate()

    def _enter(self) -> None:
        """Let go of what stops learning here. A wish to stop meanwhile is heard again before the next step."""
        with contextlib.suppress(Stopped):
            self.method.enter(self.step)
        learning = {group["name"] for group in self.method.parameter_groups()}
        self._leave([group["name"] for group in self.optimizer.param_groups if group["name"] not in learning])

    def _leave(self, names: list[str]) -> None:
        """Forget groups that have stopped learning, with all that the optimizer knows of them."""
        if not names:
            return
        inner = self.optimizer.optimizer
        forget(inner, names)
        if self.fused:
            self.fused.forget(names)
        inner.zero_grad(set_to_none=True)
        memory.release()

    def _accumulate(self) -> float:
        """Forward and backward over the step's pictures; the loss is the mean over the accumulated batches.

        Randomness goes by a batch's place in the step, so that two processes do what one does that accumulates two.
        """
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        micros, losses = self.config.gradient_accumulation_steps, []
        for micro in range(micros):
            batches = self.source.batches(self.step, micro, rank, world)
            for part, batch in enumerate(batches):
                place = (self.step, micro * world + rank, part, 0)
                torch.manual_seed(derive(self.config.seed, "model", *place))  # dropout inside the models
                noise = generator(self.config.seed, "noise", *place)
                loss = self.method.loss(batch.to(self.accelerator.device), noise)
                losses.append(loss.detach())
                last = micro == micros - 1 and part == len(batches) - 1
                with self._stepping(losses) if self.fused and last else contextlib.nullcontext():
                    self.accelerator.backward(loss / micros)
        total = sum(loss.item() / micros for loss in losses)  # to read one is to wait for the card, so not before
        if world > 1:
            distributed.average(p for group in self.optimizer.param_groups for p in group["params"])
            total = distributed.mean(total, self.accelerator.device)
        return total

    @contextlib.contextmanager
    def _stepping(self, losses: list[Tensor]) -> Iterator[None]:
        """Around the backward pass in which the optimizer takes its steps, after which no loss could stop it."""
        self._prepare_step(sum(loss.item() for loss in losses))
        try:
            with self.fused.stepping():
                yield
        finally:
            self.savable = not self.fused.has_stepped

    def _prepare_step(self, loss: float) -> None:
        if not math.isfinite(loss) and self.accelerator.scaler is None:  # fp16's scaler leaves such a step out
            raise self._not_finite(f"the loss became {loss}", self.step + 1)
        self.rates = self.schedules.set_rates(self.optimizer, self.step)

    def _optimise(self, loss: float) -> float | None:
        """One step of the optimizer; the gradients' global norm before clipping, if it was asked for."""
        norm = None
        if not self.fused:  # else it has been taken
            self._prepare_step(loss)
            norm = self._clip()
            self.savable = False
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.loss_scale.stepped(loss) and self.ema:
            self.ema.step(self.method.averaged())
        return norm

    def _clip(self) -> float | None:
        limit = value_at(parse_rate_schedule(self.config.max_grad_norm), self.step)
        if limit <= 0:
            return None
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        by_value = self.config.clip_grad_mode == "value"
        norm = float(self.accelerator.clip_grad_norm_(parameters, math.inf if by_value else limit))
        if by_value:
            torch.nn.utils.clip_grad_value_(parameters, limit)  # the norm's turn has taken fp16's scale off them
        if not math.isfinite(norm) and self.accelerator.scaler is None:
            raise self._not_finite(f"the gradients became {norm}", self.step + 1)
        return norm

    def _not_finite(self, what: str, step: int) -> UserError:
        remedies = ["lower learning_rate (and text_encoder_lr)"]
        if self.config.mixed_precision == "fp16":
            remedies.insert(0, "use mixed_precision bf16 or no")
        if self.config.snr_gamma is None:
            remedies.append("set snr_gamma to 5")
        remedies.append("look for broken pictures")
        return UserError("learning_rate", f"{what} at step {step}.", f"Try: {'; '.join(remedies)}.")

    def _report(self, loss: float, norm: float | None, pace: Pace) -> None:
        left = (self.total - self.step) / pace.per_second
        self.control.update(step=self.step)
        self.control.events.append(
            "step",
            step=self.step,
            total=self.total,
            epoch=round(self.dataset.epochs(self.step, self.accelerator.num_processes), 3),
            loss=finite(loss),
            grad_norm=finite(norm),
            lr=self.rates,
            it_per_s=round(pace.per_second, 4),
            eta_s=round(left, 1),
            memory=memory.use(self.accelerator.device),
        )
        self.saver.track(self.step, loss, self.rates)

    def _obey(self, commands: list[str]) -> bool:
        """Carry out what users asked for since the last step; True if the run is to stop."""
        for command in commands:
            if command in ("save", "stop_and_save"):
                self._save_state()
                self._save_model(final=False, stops=command == "stop_and_save")
            elif command == "sample":
                self._sample()
        return any(command in STOPPING for command in commands)

    def _scheduled(self) -> None:
        """Saves and previews that fall on this step; the last step's belong to the run's end."""
        config = self.config
        if config.validation_steps and (self.step % config.validation_steps == 0 or self.step == self.total):
            self._sample()
        if self.validation.is_due(self.step):
            self._validate()
        if self._is_due():
            self._save_state()
            if config.save_intermediate_models:
                self._save_model(final=False)

    def _is_due(self) -> bool:
        """Whether an intermediate save falls on this step."""
        config, step = self.config, self.step
        if not config.checkpointing_start_step <= step < self.total or step == 0:
            return False
        if every := config.save_every_n_epochs:
            now, before = (self.dataset.epoch_of(n, self.accelerator.num_processes) for n in (step, step - 1))
            return now // every > before // every
        return config.checkpointing_steps > 0 and step % config.checkpointing_steps == 0

    def _save_state(self, **keeping: int | None) -> None:
        """Write the training state, unless this step has one. keeping: the `limit` of states, if not the run's."""
        if self.step == self.saved or not self.accelerator.is_main_process:
            return  # the first is so at the start, too: nothing has been learned yet
        scaler = self.accelerator.scaler
        trainer = {
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "scaler": scaler.state_dict() if scaler else None,
            "batches": self.dataset.consumed(self.step, self.accelerator.num_processes),
        }
        keeping = {"limit": self.config.checkpoints_total_limit, **keeping}
        with self._saving():
            weights = self.method.state_dict()
            saved = training_state.save(self.control.run.checkpoints, self.step, weights, trainer, **keeping)
        self.saved = self.step
        self.control.events.append("checkpoint", step=self.step, path=str(saved.path))

    def _save_model(self, final: bool, stops: bool = False) -> None:
        if not self.accelerator.is_main_process:
            return
        with self._saving(), self.averaged():
            try:
                self.saver.model(self.step, final, stops)
            except NothingLearned as error:
                if final:
                    raise
                self.control.warn(error.problem.message, error.problem.field, error.problem.remedy)

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """The status while files are written; before it a kill costs the steps since the last save, after it none."""
        self.control.status("saving", step=self.step)
        try:
            yield
        except OSError:
            self.savable = False
            raise
        self.control.status("training", step=self.step)

    def _sample(self) -> None:
        if not self.accelerator.is_main_process:
            return
        message = "the memory was not enough for a preview; training goes on."
        with self._spared(message, "validation_prompts"), self.averaged():
            self.saver.preview(self.step)
        memory.release()

    @contextlib.contextmanager
    def _spared(self, message: str, field: str) -> Iterator[None]:
        """Around what training can do without: running out of memory there is a warning."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            self.control.warn(message, field)

    def _validate(self) -> None:
        """The loss on the pictures that are held out, with the weights that would be exported; a word when it turns."""
        if not self.accelerator.is_main_process:
            return
        loss, message = None, "the memory was not enough for the validation loss; training goes on."
        with self._spared(message, "validation_split"), self.averaged():
            loss = measure(self.config, self.method, self.dataset, self.accelerator.device)
        if loss is None:
            memory.release()
        elif math.isfinite(loss):
            self._note_validation(loss)
        elif self.accelerator.scaler is None:  # fp16 may overflow once, and weights that are broken show in the loss
            raise self._not_finite(f"the validation loss became {loss}", self.step)

    def _note_validation(self, loss: float) -> None:
        self.control.events.append("validation", step=self.step, loss=loss)
        self.saver.track_validation(self.step, loss)
        if (best := self.validation.add(self.step, loss)) is not None:
            now, lowest = self.validation.at(self.step), self.validation.at(best)
            self.control.warn(
                f"the validation loss has turned: smoothed, it was {lowest:.4g} at step {best} and is {now:.4g} now.",
                "validation_split",
                f"The model begins to learn pictures by heart. Training goes on: compare models around step {best}.",
            )

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The moving average in place of the weights, where there is one."""
        if not self.ema:
            yield
            return
        parameters = self.method.averaged()
        self.ema.store(parameters)
        try:
            self.ema.copy_to(parameters)
            yield
        finally:
            self.ema.restore(parameters)


def finite(number: float | None) -> float | None:
    """What an event can say of a number: JSON has no infinity, and fp16 does."""
    return number if number is not None and math.isfinite(number) else None


def average_options(config: RunConfig) -> dict[str, Any]:
    """Of diffusers' EMAModel: its decay, and how it grows where the config says that."""
    if config.ema_power is None:
        return {"decay": config.ema_decay}
    warmup = {"use_ema_warmup": True, "inv_gamma": config.ema_inv_gamma, "power": config.ema_power}
    return {"decay": config.ema_decay, **warmup}


assert set(events.COMMANDS) == {"stop", "stop_and_save", "save", "sample"}  # all that `_obey` knows
