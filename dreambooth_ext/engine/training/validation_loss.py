"""Validation loss: measured on held-out pictures, always with the same noise and timesteps so that values are
comparable.

It is the method's own training loss without its random parts: dropout, changes to tags and captions, mirroring, random
crops. Measuring does not affect training.
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

DRAWS = 4  # timesteps per picture, each with its own noise
TIMES = 20  # measurements per run, by default
SMOOTHED = 3  # measurements in a running mean
PATIENCE = 3  # consecutive means that must exceed the lowest
RISE = 0.01  # by at least this fraction


@dataclass
class Validation:
    """The schedule and history of the validation loss. history: (step, loss) pairs, by step."""

    config: ResolvedConfig
    dataset: Dataset
    total: int
    history: list[tuple[int, float]] = field(default_factory=list)
    has_turned: bool = False

    def is_due(self, step: int) -> bool:
        every = self.config.validation_loss_steps
        if every is None:
            every = max(1, self.total // TIMES)
        held = self.config.validation_split and self.dataset.held  # those kept back for the verdict are measured by it
        return bool(held) and every > 0 and (step % every == 0 or step == self.total)

    def resume(self, events: list[dict[str, Any]], step: int) -> None:
        """Restore the history up to `step` from the run's events. Of a step measured twice, the later value counts."""
        known = {
            event["step"]: event["loss"] for event in events if event["type"] == "validation" and event["step"] <= step
        }
        for measured in sorted(known.items()):
            self.add(*measured)

    def add(self, step: int, loss: float) -> int | None:
        """Record a measurement. The first time the loss has turned upwards, return the step where it was lowest, else
        None."""
        self.history.append((step, loss))
        best = None if self.has_turned else turned(self.history)
        self.has_turned = self.has_turned or best is not None
        return best

    def at(self, step: int) -> float:
        """Return the loss at a step, smoothed as in `turned`."""
        index = next(i for i, (known, _) in enumerate(self.history) if known == step)
        return smoothed([loss for _, loss in self.history])[index]


def smoothed(losses: list[float]) -> list[float]:
    """Return the mean of each loss and the ones before it, SMOOTHED in all; infinite where there are fewer."""
    return [
        math.fsum(losses[i - SMOOTHED + 1 : i + 1]) / SMOOTHED if i >= SMOOTHED - 1 else math.inf
        for i in range(len(losses))
    ]


def turned(history: list[tuple[int, float]]) -> int | None:
    """Return the step with the lowest smoothed loss if the last PATIENCE ones all exceed it by more than RISE, else
    None."""
    means = smoothed([loss for _, loss in history])
    if len(means) < SMOOTHED + PATIENCE:
        return None
    best = means.index(min(means[:-PATIENCE]))
    if all(mean > means[best] * (1 + RISE) for mean in means[-PATIENCE:]):
        return history[best][0]
    return None


@torch.no_grad()
def measure(config: ResolvedConfig, method: Method, dataset: Dataset, device: torch.device) -> float:
    """Return the mean loss over the held-out pictures with the method's current weights."""
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
    """Switch a backbone's models to evaluation mode (no dropout) inside the `with` block."""
    modules = {module: module.training for root in backbone.modules() for module in root.modules()}
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, was_training in modules.items():
            module.training = was_training
