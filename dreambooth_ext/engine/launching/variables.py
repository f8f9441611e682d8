"""The environment variables by which launchers tell a process its place among several."""

from __future__ import annotations

import os

PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # without any of them, torch cannot meet
BESIDE = ("LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK", "ROLE_RANK", "ROLE_NAME")
OF_MPI = ("PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")  # accelerate follows them; this program does not


def drop_leftovers() -> None:
    """Remove what is left of another launch in a shell or container, if it is no place among several processes: torch
    or accelerate would wait for processes that never come."""
    for name in [name for name in os.environ if name.startswith(OF_MPI)]:
        del os.environ[name]
    if all(os.environ.get(name) for name in PLACE) and os.environ["WORLD_SIZE"] != "1":
        return
    for name in (*PLACE, *BESIDE):
        os.environ.pop(name, None)
