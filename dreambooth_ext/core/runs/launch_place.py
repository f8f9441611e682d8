"""Which place a command has among several that were started to train one run together, on one machine or several.

It is told by options, by `torchrun` and `accelerate launch`, or by Slurm's `srun`, in this order.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError

MOST = 1024  # machines
BY_TORCH = ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
BY_SLURM = ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
SPLITTING = {  # by the environment variable of `accelerate launch`
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_TP": "tensor parallelism",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "ParallelismConfig",
}


@dataclass(frozen=True)
class LaunchPlace:
    """The `rank`-th, from 0, of so many `machines`, or of commands that a launcher started, the `local`-th of `here` on
    its machine. They meet at `address`, HOST:PORT."""

    machines: int
    rank: int
    address: str
    local: int = 0
    here: int = 1

    @property
    def words(self) -> list[str]:
        """The launcher's options."""
        words = [f"--machines={self.machines}", f"--machine-rank={self.rank}", f"--main-address={self.address}"]
        return [*words, f"--local={self.local}", f"--locals={self.here}"]


def chosen(machines: int | None, rank: int | None, address: str | None) -> LaunchPlace | None:
    """The place that the options say, or the environment; None for a command by itself. Raises UserError."""
    if machines is None:
        if rank is not None:
            raise UserError("machines.needs_machines", "machine_rank")
        return of_torch() or of_slurm(address)
    if not 1 <= machines <= MOST:
        raise UserError("machines.out_of_range", "machines", value=machines, low=1, high=MOST)
    rank = rank or 0
    if not 0 <= rank < machines:
        raise UserError("machines.out_of_range", "machine_rank", value=rank, low=0, high=machines - 1)
    return LaunchPlace(machines, rank, checked(address)) if machines > 1 else None


def checked(address: str | None) -> str:
    """HOST:PORT. Raises UserError."""
    if not address:
        raise UserError("machines.needs_address", "main_address")
    host, _, port = address.strip().rpartition(":")
    if not host or not re.fullmatch(r"[\w.:\[\]-]+", host) or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UserError("machines.no_address", "main_address", value=address)
    return f"{host}:{port}"


def of_torch() -> LaunchPlace | None:
    """The place that torch's launcher gave, which `accelerate launch` uses, too. None where it has ended long since and
    only left its variables. Raises UserError if it is to split the model."""
    known = numbers(BY_TORCH[1:5])
    address = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not known or known["WORLD_SIZE"] < 2 or not os.environ.get(BY_TORCH[0]) or not answers(*address):
        return None
    for variable, name in SPLITTING.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes"):
            raise UserError("device.split_model", "device", name=name)
    meeting = f"{address[0]}:{int(address[1]) + 1}"  # beside its own, which only torch may use
    local = known["LOCAL_RANK"], known["LOCAL_WORLD_SIZE"]
    return LaunchPlace(known["WORLD_SIZE"], known["RANK"], meeting, *own_card(*local))


def of_slurm(address: str | None) -> LaunchPlace | None:
    """The place of a task that `srun` started; None for a script that `sbatch` runs once. Raises UserError."""
    known = numbers(BY_SLURM[1:])
    if not known or not os.environ.get(BY_SLURM[0]) or known["SLURM_NTASKS"] < 2:
        return None
    local = known["SLURM_LOCALID"]
    here = max(tasks_here(), local + 1)
    return LaunchPlace(known["SLURM_NTASKS"], known["SLURM_PROCID"], checked(address), *own_card(local, here))


def tasks_here() -> int:
    """How many tasks Slurm starts on this node: "2(x3),1" are two on three nodes, and one on the fourth; 0 if it does
    not say."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")):
        counts += [int(count)] * min(int(times or 1), 10**5)
    with contextlib.suppress(ValueError, IndexError):
        return counts[int(os.environ.get("SLURM_NODEID", ""))]
    return 0


def own_card(local: int, here: int) -> tuple[int, int]:
    """(0, 1) for a process to which its launcher shows one card alone."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return (0, 1) if shown and "," not in shown else (local, here)


def numbers(names: tuple[str, ...], variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """These variables as numbers; {} if one is missing, or is none."""
    variables = os.environ if variables is None else variables
    try:
        return {name: int(variables[name]) for name in names}
    except (KeyError, ValueError):
        return {}


def answers(host: str, port: str) -> bool:
    """Whether a program listens there: a launcher does as long as it lives."""
    try:
        with socket.create_connection((host, int(port)), timeout=5.0):
            return True
    except (OSError, ValueError, OverflowError):
        return False
