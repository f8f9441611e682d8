"""The loss on pictures that are never trained on, always with the same noise and timesteps, so that it can be compared.

It is the loss that training lowers, of the method's own making, without what changes from time to time: dropout of
layers, tags and captions, mirroring, random crops. Measuring changes nothing of the training.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from ...core.config.stages import ResolvedConfig
from ..data.dataset import Dataset
from ..runtime.seeds import generator
from .method import Backbone, Method

DRAWS = 4  # timesteps, each with its noise, for each picture
TIMES = 20  # in a run, where nothing else is said
SMOOTHED = 3  # measurements whose mean is looked at
PATIENCE = 3  # such means in a row that have to be above the lowest
RISE = 0.01  # by this share at least


@dataclass
class Validation:
    """When to measure, and what was measured: (step, loss), rising steps."""

    config: ResolvedConfig
    dataset: Dataset
    total: int
    history: list[tuple[int, float]] = field(default_factory=list)
    has_turned: bool = False

    def is_due(self, step: int) -> bool:
        every = self.config.validation_loss_steps
        if every is None:
            every = max(1, self.total // TIMES)
        return bool(self.dataset.held) and every > 0 and (step % every == 0 or step == self.total)

    def resume(self, events: list[dict[str, Any]], step: int) -> None:
        """Take over what was measured up to a step, from the run's events; a step that came twice counts once."""
        known = {
            event["step"]: event["loss"] for event in events if event["type"] == "validation" and event["step"] <= step
        }
        for measured in sorted(known.items()):
            self.add(*measured)

    def add(self, step: int, loss: float) -> int | None:
        """Note a measurement. The step of the best ones when the loss turns out to have turned, the first time."""
        self.history.append((step, loss))
        best = None if self.has_turned else turned(self.history)
        self.has_turned = self.has_turned or best is not None
        return best

    def at(self, step: int) -> float:
        """What was measured, smoothed as `turned` does."""
        index = next(i for i, (known, _) in enumerate(self.history) if known == step)
        return smoothed([loss for _, loss in self.history])[index]


def smoothed(losses: list[float]) -> list[float]:
    """The mean of each loss and those before it, SMOOTHED of them; infinite where there are fewer."""
    return [
        math.fsum(losses[i - SMOOTHED + 1 : i + 1]) / SMOOTHED if i >= SMOOTHED - 1 else math.inf
        for i in range(len(losses))
    ]


def turned(history: list[tuple[int, float]]) -> int | None:
    """The step at which the smoothed loss was lowest, if the last PATIENCE ones lie above it by more than RISE."""
    means = smoothed([loss for _, loss in history])
    if len(means) < SMOOTHED + PATIENCE:
        return None
    best = means.index(min(means[:-PATIENCE]))
    if all(mean > means[best] * (1 + RISE) for mean in means[-PATIENCE:]):
        return history[best][0]
    return None


@torch.no_grad()
def measure(config: ResolvedConfig, method: Method, dataset: Dataset, device: torch.device) -> float:
    """The mean loss over the held-out pictures with the method's models as they are."""
    total, count = 0.0, 0
    with resting(method.backbone):
        for number, batch in enumerate(dataset.held_batches()):
            moved = batch.to(device)
            for draw in range(DRAWS):
                noise = generator(config.seed, "validation", number, draw)
                total += method.loss(moved, noise).item() * len(batch)
            count += len(batch) * DRAWS
    return total / count


@contextlib.contextmanager
def resting(backbone: Backbone) -> Iterator[None]:
    """A backbone's models without dropout, for as long as this lasts."""
    modules = {module: module.training for root in backbone.modules() for module in root.modules()}
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, was_training in modules.items():
            module.training = was_training
