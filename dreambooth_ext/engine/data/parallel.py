"""Process many files in threads, in order, and never far ahead of the consumer."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ...core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers() -> int:
    return min(8, os.cpu_count() or 1)


def ahead(function: Callable[[Item], Result], items: Iterable[Item], window: int) -> Iterator[Result]:
    """Like `map`, but in threads: results in order, and at most `window` items ahead of the consumer."""
    items = iter(items)
    with ThreadPoolExecutor(workers()) as pool:
        pending = collections.deque(pool.submit(function, item) for item in itertools.islice(items, window))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()


def attempt(function: Callable[..., Result], *arguments: Any) -> Result | UserError:
    try:
        return function(*arguments)
    except UserError as error:
        return error
