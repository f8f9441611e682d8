"""What the loop does otherwise where models are sharded: gradients, their common norm, and what a training state keeps
of optimizer and moving average, which is gathered and divided again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from .exchange import Loss
from .sharding import Shards, shards_of

Change = Callable[[Tensor, Shards, str], Tensor]


class ShardedLoss:
    """The counterpart of `Exchange` for sharded models, whose own hooks average the gradients in each backward pass, so
    that of no more than a unit's all are there. All processes run the same passes together.

    modules: all that take part in the loss.
    """

    def __init__(self, loss: Loss, modules: Iterable[nn.Module]):
        self._loss = loss
        self._shards: list[Shards] = [shards for module in modules if (shards := shards_of(module))]

    def follow(self, parameters: Sequence[nn.Parameter]) -> None:
        """Let go of models that have none of these parameters, the parts that still learn."""
        left = set(map(id, parameters))
        self._shards = [shards for shards in self._shards if left & shards.names().keys()]

    def loss(self, batch: Batch, generator: torch.Generator, is_last: bool) -> Tensor:
        """Return a batch's loss. is_last: of its step; it does not matter here."""
        return self._loss(batch, generator)

    def finish(self) -> None:
        """After a step's last backward pass: the parts get their gradients."""
        for shards in self._shards:
            shards.take_gradients()

    def common_norm(self, norm: Tensor) -> Tensor:
        """Return the norm of all processes' gradients, of which each gives that of its parts' (a scalar)."""
        square = norm.double().square()
        torch.distributed.all_reduce(square)
        return square.sqrt().to(norm.dtype)

    # --- training states

    def whole_trainer(self, trainer: dict[str, Any], parameters: Sequence[nn.Parameter], averaged: Any) -> Any:
        """Return what a training state keeps beside the weights (`LoopState.trainer`) as one process has it. All
        processes call it together; only the first one's result is whole.

        parameters: the optimizer's, in their order; averaged: those of the moving average.
        """
        first = torch.distributed.get_rank() == 0

        def gather(part: Tensor, shards: Shards, name: str) -> Tensor:
            whole = shards.whole(part, name)
            return whole.cpu() if first else part

        return self._changed(trainer, parameters, averaged, gather, lambda shards, name: shards.shape_of(name, True))

    def own_trainer(self, trainer: dict[str, Any], parameters: Sequence[nn.Parameter], averaged: Any) -> Any:
        """Return this process's parts of what a training state keeps. The inverse of `whole_trainer`."""

        def divide(whole: Tensor, shards: Shards, name: str) -> Tensor:
            return shards.part_of(whole).clone()

        return self._changed(trainer, parameters, averaged, divide, lambda shards, name: shards.shape_of(name, False))

    def _changed(
        self,
        trainer: dict[str, Any],
        parameters: Sequence[nn.Parameter],
        averaged: Sequence[nn.Parameter],
        change: Change,
        shape: Callable[[Shards, str], torch.Size],
    ) -> dict[str, Any]:
        """Return the same with each tensor changed that is divided as its parameter is: of its shape."""
        known = {place: (shards, name) for shards in self._shards for place, name in shards.names().items()}

        def changed(value: Any, parameter: nn.Parameter) -> Any:
            shards, name = known[id(parameter)]
            if not isinstance(value, Tensor):
                return value
            is_divided = value.dim() and value.shape == shape(shards, name)
            return change(value, shards, name) if is_divided else value.clone()  # a file's is not to be written to

        optimizer, ema = trainer["optimizer"], trainer["ema"]
        places = [place for group in optimizer["param_groups"] for place in group["params"]]
        state = {
            place: {key: changed(value, parameter) for key, value in optimizer["state"][place].items()}
            for place, parameter in zip(places, parameters, strict=True)
            if place in optimizer["state"]
        }
        if ema:
            pairs = zip(ema["shadow_params"], averaged, strict=True)
            ema = {**ema, "shadow_params": [changed(value, parameter) for value, parameter in pairs]}
        return {**trainer, "optimizer": {**optimizer, "state": state}, "ema": ema}
