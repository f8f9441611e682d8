"""Memory: how much this process uses, freeing it, and recovering when it runs out."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil
import torch

from ...core.errors import Problem

Result = TypeVar("Result")


def use(device: torch.device) -> dict[str, int]:
    """Return the bytes in use now and at the peak: of the graphics card if the run trains on one, else of the process.

    For a card it is what PyTorch has reserved, which is more than the tensors take, and unavailable to other programs.
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
    trim()


def trim() -> None:
    """Return the computer's memory that was freed, but kept for later use, to the system."""
    if give_back := _malloc_trim():
        give_back(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Return the C library's function for it, where it has one (glibc): by itself it gives back only the largest
    tensors' memory, and what no other tensor lies behind."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def total(device: torch.device) -> int:
    """Return the total bytes of memory of this device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def free(device: torch.device) -> int:
    """Return the bytes that this process could use now: free memory, and what it has already reserved."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def spare() -> int:
    """Return the bytes of the computer's memory that no program uses."""
    return psutil.virtual_memory().available


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: CUDA has an exception class for it, the CPU and others only a
    message."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


@contextlib.contextmanager
def spared(problem: Problem, warn: Callable[[Problem], None]) -> Iterator[None]:
    """Turn running out of memory into the warning `problem`, for work that training can do without."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        warn(problem)


def in_batches(
    function: Callable[[Any], Result], items: Sequence[Any], at_once: int, halves: bool = True
) -> Iterator[Result]:
    """Yield `function` of successive batches of `at_once` items, halving the size whenever memory runs out.

    Raises what `function` raises; running out of memory only if a single item was too much, or without `halves`.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + at_once]
        try:
            result, done = function(batch), True
        except (RuntimeError, MemoryError) as error:
            if not halves or len(batch) == 1 or not is_out_of_memory(error):
                raise
            done = False  # retry outside this block: the error keeps all intermediate tensors alive
        if not done:
            release()
            at_once = len(batch) // 2
            continue
        start += len(batch)
        yield result
