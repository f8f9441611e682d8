"""Connects the processes of one run, with patience for long work, but none for processes that never come."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Iterator

import torch
from accelerate.utils import check_cuda_p2p_ib_support

from ...core.errors import UserError

PATIENCE = datetime.timedelta(days=7)  # how long the others wait while the first one draws class pictures or saves
COMING = datetime.timedelta(minutes=5)  # how long processes may differ in the time of their start
PEER_TO_PEER = ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE")


def join(device: str) -> None:
    """Connect this process with the others of its launch, as the launcher's variables say.

    Raises UserError if the others do not come: variables that a launcher left in a shell would hang a run for ever.
    """
    if torch.distributed.is_initialized():
        return
    is_card = device.startswith("cuda")
    if is_card and not check_cuda_p2p_ib_support():  # GeForce RTX 40 with old drivers: else accelerate refuses them
        for name in PEER_TO_PEER:
            os.environ.setdefault(name, "1")
    backend = "nccl" if is_card and torch.distributed.is_nccl_available() else "gloo"  # Windows has no NCCL
    with _meeting():
        store, rank, world = meet()
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)


def meet() -> tuple[torch.distributed.Store, int, int]:
    """Wait for the other processes of this launch. Returns their common store, this process's rank, and how many they
    are. Raises UserError if the others do not come."""
    if sys.platform == "win32":
        os.environ.setdefault("USE_LIBUV", "0")  # which torch asks for in some versions, and has in none
    with _meeting():
        store, rank, world = next(torch.distributed.rendezvous("env://", timeout=COMING))
        wait_for_all(store, rank, world)
        store.set_timeout(PATIENCE)
        return store, rank, world


@contextlib.contextmanager
def _meeting() -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:
        count = int(os.environ["WORLD_SIZE"])
        here = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
        raise UserError("processes.not_met", "processes", count=count, address=here, error=str(error)) from error


def is_exchange_error(error: BaseException) -> bool:
    """Whether this process lost another one, which is the reason rather than the error."""
    if not torch.distributed.is_initialized():
        return False
    return isinstance(error, torch.distributed.DistError) or any(
        word in str(error) for word in ("gloo", "Gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    )


def wait_for_all(store: torch.distributed.Store, rank: int, world: int) -> None:
    """Wait until every process has come to the store."""
    store.set(f"here/{rank}", "1")
    store.wait([f"here/{number}" for number in range(world)], COMING)
