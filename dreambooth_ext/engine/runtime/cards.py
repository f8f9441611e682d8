"""Which card each process of a run trains on."""

from __future__ import annotations

import os

import torch

from ...core.config import devices
from ...core.errors import UserError
from . import distributed
from .device import choose_device


def of_this_process(wanted: str) -> str:
    """Return the device of this process: that of the setting `device`, or among several processes of this machine the
    card so many places after it or in its list. Raises UserError if there are fewer cards than processes."""
    device = choose_device(wanted)
    if not distributed.launched() or device.type == "cpu":
        return str(device)
    count = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    if device.type != "cuda":
        if count > 1:
            raise UserError("processes.one_card", "processes", count=count)
        return str(device)
    if "," in wanted:
        chosen = devices.listed(wanted)
        if count > len(chosen):
            raise UserError("processes.too_few_chosen", "processes", count=count, device=wanted, most=len(chosen))
        return chosen[int(os.environ["LOCAL_RANK"])]
    first, cards = device.index or 0, torch.cuda.device_count()
    if first + count > cards:
        about = {"count": count, "cards": cards, "first": f"cuda:{first}", "most": cards - first}
        raise UserError("processes.too_few_cards", "processes", **about)
    return f"cuda:{first + int(os.environ['LOCAL_RANK'])}"
