"""The training loop's state: everything that changes from step to step, created fresh or from a training state."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from ...core.checks.kept_gradients import BEFORE, are_freed
from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem
from ...core.facts.distribution import FSDP, STAGES
from ...core.facts.optimizer_facts import optimizer_facts
from ..data.dataset import Dataset
from ..data.prefetch import ReadAhead
from ..distribution.exchange import Exchange
from ..distribution.sharded_loss import ShardedLoss
from ..distribution.zero import ZeroLoss
from ..optimization.fused_backward import FusedBackward
from ..optimization.loss_scale import LossScale
from ..optimization.lr_schedule import RateSchedules
from ..optimization.not_finite import not_finite
from ..optimization.optimizer_creation import forget, load_state, make_optimizer
from ..optimization.readings import Guard, Reading, is_late
from ..optimization.schedule_free import averages
from ..optimization.single_steps import SingleSteps
from ..runtime import distributed, memory
from ..runtime.diffusers_models import EMAModel
from ..streaming.average import AverageInMemory, make_average
from ..streaming.streaming import Streaming
from .method import Method
from .training_state import Checkpoint, StateWriter


@dataclass
class Pace:
    """Training speed in steps per second, smoothed."""

    per_second: float = 0.0
    _last: float = 0.0

    def start(self) -> None:
        """Start the clock. Called right before the first step, so that the time before it does not count."""
        self._last = time.monotonic()

    def step(self) -> None:
        now = time.monotonic()
        rate = 1 / max(now - self._last, 1e-9)
        self.per_second = rate if not self.per_second else 0.9 * self.per_second + 0.1 * rate
        self._last = now


@dataclass
class LoopState:
    """The loop's variables, apart from the trained weights, which the method holds. `trainer` returns what a training
    state stores of them."""

    config: ResolvedConfig
    processes: int
    optimizer: AcceleratedOptimizer
    schedules: RateSchedules
    single: SingleSteps  # the optimizer, parameter by parameter
    fused: FusedBackward | None  # None: the optimizer steps after the backward pass, as usual
    exchange: Exchange | ShardedLoss | ZeroLoss | None  # of gradients; None: there is one process
    ema: EMAModel | None  # moving average of the method's `averaged()`
    averages: bool  # what the optimizer learns are averages of its own
    scaler: torch.amp.GradScaler | None  # fp16's
    loss_scale: LossScale
    guard: Guard | None  # None: a step's numbers are read before it is taken
    source: Dataset | ReadAhead
    step: int = 0  # steps taken
    saved: int = 0  # the step of the newest training state
    savable: bool = True  # False while a step is half done, or after saving it failed
    rates: dict[str, float] = field(default_factory=dict)  # learning rates of the last step, by parameter group
    untold: tuple[dict[str, Any], Reading] | None = None  # the event of a step whose numbers are still to be read
    streamings: list[Streaming] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    writer: StateWriter = field(default_factory=StateWriter)

    @property
    def sharded(self) -> ShardedLoss | None:
        """The exchange of models that are sharded, whose passes, averages and saves all processes run together."""
        return self.exchange if isinstance(self.exchange, ShardedLoss) else None

    @property
    def zero(self) -> ZeroLoss | None:
        """The exchange that takes the optimizer's steps itself, of which each process has a part."""
        return self.exchange if isinstance(self.exchange, ZeroLoss) else None

    @property
    def gathers(self) -> bool:
        """Whether a training state is gathered from all processes, so that all of them have to save it together."""
        return self.sharded is not None or self.zero is not None

    @property
    def takes_part(self) -> bool:
        """Whether this process does what only the first one's files show: of sharded models all do it together."""
        return distributed.is_first() or self.sharded is not None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters that learn at this step."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def reading(self, losses: list[Tensor], norm: Tensor | None = None, is_square: bool = False) -> Reading:
        """Return a step's numbers before it changes the weights: read at once, and required to be finite, or on their
        way, with a guard on the device against others. norm: of the gradients, or its square."""
        reading = Reading(losses, self.config.gradient_accumulation_steps, norm, is_square)
        if self.guard:
            self.guard.watch([*losses, *([] if norm is None else [norm])])
            return reading
        if self.processes > 1:
            reading.average(lambda loss: distributed.mean(loss, losses[0].device))
        self.require_finite(reading, self.step + 1)
        return reading

    def require_finite(self, reading: Reading, step: int) -> None:
        """Raise UserError if the loss of `step` or its gradients' norm is not finite; fp16's scaler leaves such a step
        out. If this is read late, the guard has left it out, and all that came after it: there are step - 1 steps."""
        loss, norm = reading.read()
        if self.scaler is not None or (math.isfinite(loss) and (norm is None or math.isfinite(norm))):
            return
        if self.guard:
            self.step = step - 1
            self.savable = not (self.fused and math.isfinite(loss))  # else its backward pass has stepped
        if norm is not None and math.isfinite(loss):
            raise not_finite(self.config, "training.gradients_not_finite", norm=norm, step=step)
        raise not_finite(self.config, "training.loss_not_finite", loss=loss, step=step)

    def leave(self, names: list[str]) -> None:
        """Remove parameter groups that have stopped learning, together with their optimizer state."""
        if not names:
            return
        inner = self.optimizer.optimizer
        forget(inner, names)
        if self.fused:
            self.fused.forget(names)
        inner.zero_grad(set_to_none=True)
        if self.exchange:
            self.exchange.follow(self.parameters)
        memory.release()

    def trainer(self, averaged: list[nn.Parameter]) -> dict[str, Any]:
        """Return what a training state stores beside the weights: optimizer, moving average and loss scale. Where
        processes have parts of it (`gathers`), all of them call this together, and the first one's is whole. averaged:
        by the moving average.
        """
        trainer = {
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "norm": self.fused.norm if self.fused else None,
        }
        parts = self.sharded or self.zero
        return parts.whole_trainer(trainer, self.parameters, averaged) if parts else trainer

    def settle(self) -> None:
        """Wait until what lives in the computer's memory is whole there, before it is read or changed."""
        for streaming in self.streamings:
            streaming.settle()

    def hold(self) -> None:
        """Before weights change: let the device finish what still reads them."""
        if isinstance(self.ema, AverageInMemory):
            self.ema.hold()

    @contextlib.contextmanager
    def averaged(self, parameters: list[nn.Parameter]) -> Iterator[None]:
        """Replace the weights by their average, if there is one, inside the `with` block."""
        self.settle()
        if not self.ema:
            with self.averaged_by_optimizer():
                yield
            return
        self.ema.store(parameters)
        try:
            self.ema.copy_to(parameters)
            yield
        finally:
            self.settle()
            self.ema.restore(parameters)

    def sparing(self, problem: Problem, warn: Callable[[Problem], None]) -> contextlib.AbstractContextManager[None]:
        """Warn where memory runs out for work that training can do without. Not of sharded models: the other processes
        would wait in the passes that this one has left."""
        return contextlib.nullcontext() if self.sharded else memory.spared(problem, warn)

    def averaged_by_optimizer(self) -> contextlib.AbstractContextManager[None]:
        """The same, for averages that the optimizer makes by itself."""
        return averages(self.optimizer.optimizer) if self.averages else contextlib.nullcontext()

    def close(self) -> None:
        """Stop the threads that read ahead, and wait for the one that writes."""
        self.writer.close()
        if isinstance(self.source, ReadAhead):
            self.source.close()


def begin(
    config: ResolvedConfig,
    method: Method,
    dataset: Dataset,
    accelerator: Accelerator,
    total: int,
    resumed: Checkpoint | None,
) -> LoopState:
    """Create the state before the first step, or after the last step of `resumed`. total: number of steps of the
    run."""
    groups = method.parameter_groups()
    learning = [parameter for group in groups for parameter in group["params"]]
    optimizer = accelerator.prepare(make_optimizer(config, groups))
    facts = optimizer_facts(config.optimizer)
    single = SingleSteps(optimizer.optimizer, config.seed, facts.steps_alone, facts.is_elementwise)
    clips = config.clip_grad_mode == BEFORE
    fused = FusedBackward(single, clips) if are_freed(config) else None
    ema = average_of(method, config, accelerator.device) if config.use_ema else None
    step, scaler, stage = 0, accelerator.scaler, STAGES.get(config.distribution)
    zero = ZeroLoss(method.loss, optimizer.optimizer, stage) if stage else None
    sharded = ShardedLoss(method.loss, method.backbone.modules()) if config.distribution == FSDP else None
    if resumed:
        step, known = resumed.step, trainer_of(resumed, learning, method, sharded, mapped=zero is not None)
        if "batches" in known:  # else an earlier version wrote it, with as many processes as there are now
            dataset.go_on(step, known)
        if zero:
            zero.load(known["optimizer"])
        else:
            load_state(optimizer.optimizer, known["optimizer"])
        load_rest(known, ema, scaler, fused, accelerator.device)
    memory.release()  # what only the preparation needed
    if streams := method.backbone.streamings:
        assert fused or not any(streaming.learns for streaming in streams), "streaming.conditions"
        for streaming in streams:
            streaming.carry(optimizer.optimizer)
    several = accelerator.num_processes > 1
    exchange = sharded or zero or (Exchange(method.loss, learning) if several else None)
    ahead = ReadAhead(dataset, config.gradient_accumulation_steps, total) if dataset.reads_files else None
    return LoopState(
        config=config,
        processes=accelerator.num_processes,
        optimizer=optimizer,
        schedules=RateSchedules(config, groups, total),
        single=single,
        fused=fused,
        exchange=exchange,
        ema=ema,
        averages=facts.averages,
        scaler=scaler,
        loss_scale=LossScale(scaler),  # it notes the scale that the training state had
        guard=Guard.of(optimizer.optimizer) if is_late(config, accelerator.num_processes) else None,
        source=ahead or dataset,
        step=step,
        saved=step,
        streamings=streams,
    )


def trainer_of(
    resumed: Checkpoint, learning: list[nn.Parameter], method: Method, sharded: ShardedLoss | None, mapped: bool
) -> dict[str, Any]:
    """Return what a training state has beside the weights; of sharded models this process's parts, and no more of the
    file is read. mapped: so it is with what is read of it later."""
    known = resumed.trainer(mapped=mapped or sharded is not None)
    return sharded.own_trainer(known, learning, method.averaged()) if sharded else known


def load_rest(
    known: dict[str, Any],
    ema: EMAModel | None,
    scaler: torch.amp.GradScaler | None,
    fused: FusedBackward | None,
    device: torch.device,
) -> None:
    """Load what a training state has beside the weights and the optimizer's."""
    if ema:
        ema.load_state_dict(known["ema"])
        ema.to(device)
    if scaler and known["scaler"]:
        scaler.load_state_dict(known["scaler"])
    if fused:
        fused.norm = known.get("norm")


def average_of(method: Method, config: ResolvedConfig, device: torch.device) -> EMAModel:
    """Return the moving average of what `method` has averaged."""
    homeward = [streaming.lanes.outbound for streaming in method.backbone.streamings]
    return make_average(method.averaged(), device, homeward, average_options(config))


def average_options(config: ResolvedConfig) -> dict[str, Any]:
    """Return the options of diffusers' EMAModel: its decay, and its warm-up if the config has one."""
    if config.ema_power is None:
        return {"decay": config.ema_decay}
    warmup = {"use_ema_warmup": True, "inv_gamma": config.ema_inv_gamma, "power": config.ema_power}
    return {"decay": config.ema_decay, **warmup}
