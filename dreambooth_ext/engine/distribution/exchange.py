"""The exchange of gradients: torch's DistributedDataParallel (Li et al. 2020, arXiv:2006.15704) averages them over all
processes during the backward pass, bucket by bucket, while earlier layers are still at theirs.

What it wraps is the loss, as one thin module. A method trains parts of several models, adapters beside their layers and
words that belong to none; wrapped one by one, as accelerate's `prepare` does, each would have buckets of its own, and
`prepare` would put its autocast around the whole loss instead of around the models (`Backbone.place`).

Every parameter in it must get a gradient in every step. Text encoders have layers that never do (clip skip, SDXL's
first encoder): those do not learn, so they are not in it (`TextStack.unread`). The other ways are worse here:
find_unused_parameters walks the graph at every step, and misses what only an earlier batch of a step has used;
static_graph fails if gradients are accumulated (pytorch/pytorch#187732, huggingface/accelerate#3679).

Each gradient is divided by the number of processes, then they are added. For two processes this is bit by bit what one
process computes that accumulates two batches: it is the same sum, and to halve is exact. Of more numbers, the order in
which they are added differs, and so the last bit may.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data.batch import Batch

Loss = Callable[[Batch, torch.Generator], Tensor]


class Learning(nn.Module):
    """A loss as a module that has what learns of it as parameters."""

    def __init__(self, loss: Loss, parameters: Iterable[nn.Parameter]):
        super().__init__()
        self.loss = loss
        self.learning = nn.ParameterList(parameter for parameter in parameters if parameter.requires_grad)

    def forward(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.loss(batch, generator)


class Exchange:
    """Averages the gradients of `loss` with respect to these parameters. All processes create it together, and it
    gives them the first one's parameters. Gradients are views of its buckets: they are not there twice."""

    def __init__(self, loss: Loss, parameters: Iterable[nn.Parameter]):
        self._loss = loss
        self._wrapped: DistributedDataParallel | None = None
        self.follow(parameters)

    def follow(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients of these parameters from here on, after others have stopped learning."""
        self._wrapped = None  # its buckets go first
        learning = Learning(self._loss, parameters)
        self._wrapped = DistributedDataParallel(learning, gradient_as_bucket_view=True)

    def loss(self, batch: Batch, generator: torch.Generator, is_last: bool) -> Tensor:
        """Return a batch's loss. The backward pass of a step's last one averages what all of them have added up."""
        assert self._wrapped is not None
        with contextlib.nullcontext() if is_last else self._wrapped.no_sync():
            return self._wrapped(batch, generator)

    def finish(self) -> None:
        """After a step's last backward pass: raise RuntimeError if a gradient was not averaged."""
        assert self._wrapped is not None
        self._wrapped._check_reducer_finalized()
