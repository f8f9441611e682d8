"""Processes that never come are not waited for."""

from __future__ import annotations

import datetime
import socket

import pytest

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.runtime import process_group


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_of_an_earlier_launch_says_what_it_lacks(monkeypatch, rank):
    """Variables that were left in a shell, all of them, would keep it waiting for ever."""
    monkeypatch.setattr(process_group, "COMING", datetime.timedelta(seconds=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"the 2 processes of the run did not all meet at 127.0.0.1:{port}") as refused:
        process_group.join("cpu")
    assert "remove RANK, WORLD_SIZE and LOCAL_RANK" in str(refused.value)
