"""The two sets of weights of a Schedule-Free optimizer: those that it trains with, and the averages that are learned.

Schedule-Free (Defazio et al. 2024, arXiv:2405.15682) takes gradients at y = (1 - beta) z + beta x, between the steps'
own sequence z and its average x. The model's weights are y and the optimizer keeps z, from which x follows. What is
drawn, validated and saved is x; what training goes on with is y.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def averages(optimizer: Any) -> Iterator[None]:
    """Replace the weights by their averages inside the `with` block; afterwards they are, to the bit, what they were.
    Those of groups that the optimizer has lost meanwhile stay averages.

    optimizer: one with `eval` and `train`. Computed back from x, y would be rounded, and a run that is saved would
    learn something else than one that is not: so y is kept, in the computer's memory.
    """
    kept = {id(p): p.detach().to("cpu", copy=True) for group in optimizer.param_groups for p in group["params"]}
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()
        for parameter in [p for group in optimizer.param_groups for p in group["params"]]:
            parameter.data.copy_(kept[id(parameter)])
