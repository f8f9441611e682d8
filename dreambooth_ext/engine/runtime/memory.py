"""How much memory this process uses, and giving back what is free."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil
import torch

Result = TypeVar("Result")


def use(device: torch.device) -> dict[str, int]:
    """Bytes in use now and at the most: of the graphics card where the run trains on one, else of the process.

    Of a card, what PyTorch has reserved: it is more than the tensors, and what other programs cannot have.
    """
    if device.type == "cuda":
        return {"now": torch.cuda.memory_reserved(device), "peak": torch.cuda.max_memory_reserved(device)}
    process = psutil.Process()
    now = process.memory_info().rss
    return {"now": now, "peak": _peak_rss(process, now)}


def _peak_rss(process: psutil.Process, now: int) -> int:
    if os.name == "nt":
        return process.memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(now, peak if os.uname().sysname == "Darwin" else peak * 1024)  # macOS counts bytes, Linux kilobytes


def release() -> None:
    """Return freed memory to the system, for other programs and for the next large tensor."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def total(device: torch.device) -> int:
    """Bytes that a run can have at the most on this device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def free(device: torch.device) -> int:
    """Bytes that this process could have at this moment: what nobody uses, and what it has reserved already."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch says it with a class of its own on CUDA, and in words on the CPU and elsewhere."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def in_batches(function: Callable[[Any], Result], items: Sequence[Any], at_once: int) -> Iterator[Result]:
    """`function` of `at_once` items, of the next ones, and so on; of half as many from where memory did not do.

    Raises what `function` raises, an error for the want of memory only where one item alone was too much.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + at_once]
        try:
            result, done = function(batch), True
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            done = False  # no more here: the error holds on to all that was computed
        if not done:
            release()
            at_once = len(batch) // 2
            continue
        start += len(batch)
        yield result
