"""A model of which each process holds a part: what it holds, what it computes, and how it becomes whole again."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreambooth_ext.engine.distribution import sharding
from dreambooth_ext.engine.distribution.sharded_loss import ShardedLoss
from dreambooth_ext.engine.optimization.clipping import clip
from dreambooth_ext.engine.runtime.diffusers_models import UNet2DModel
from tests import tiny

WORLD = 3  # rows are not divisible by it
CONFIG = {**tiny.PIXELS, "out_channels": 2}  # the last layer has fewer rows than there are processes


def unet() -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel.from_config(CONFIG).train()


def loss_of(model: nn.Module, number: int) -> Tensor:
    draw = torch.Generator().manual_seed(number)
    return model(torch.randn(1, 3, 32, 32, generator=draw), torch.tensor([10 * number])).sample.square().mean()


def hold(rank: int, port: int, folder: str) -> None:
    """What one process of a few does, which all do together."""
    torch.set_num_threads(1)
    store = torch.distributed.TCPStore("127.0.0.1", port, WORLD, is_master=rank == 0)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    cpu, model = torch.device("cpu"), unet()
    shards = sharding.Shards(model, cpu)
    held = sum(part.untyped_storage().nbytes() for part in shards.own())
    about: dict[str, Any] = {"held": held, "numbers": [part.numel() for part in shards.own()]}
    loss = ShardedLoss(lambda batch, generator: loss_of(model, batch), [model])
    for micro in range(2):
        about[f"loss {micro}"] = loss.loss(micro * WORLD + rank, torch.Generator(), micro == 1)
        (about[f"loss {micro}"] / 2).backward()
        about[f"loss {micro}"] = about[f"loss {micro}"].item()
    loss.finish()
    about["gradients"] = sum(part.grad.numel() for part in shards.own() if part.grad is not None)
    norm = clip(sharding.own(model), 0.01, "norm", loss.common_norm)
    optimizer = torch.optim.AdamW(shards.own(), lr=1e-3, fused=True)
    optimizer.step()
    trainer = {"optimizer": optimizer.state_dict(), "ema": {"shadow_params": [p.detach() * 2 for p in shards.own()]}}
    whole = loss.whole_trainer(trainer, shards.own(), shards.own())
    weights = sharding.whole_state(model)
    about["weights elsewhere"] = 0 if rank == 0 else len(weights)
    if rank == 0:
        torch.save({"weights": weights, "norm": norm, **whole}, f"{folder}/whole.pt")
    torch.distributed.barrier()
    saved = torch.load(f"{folder}/whole.pt", mmap=True)
    own = loss.own_trainer(saved, shards.own(), shards.own())
    pairs = zip(own["ema"]["shadow_params"], shards.own(), strict=True)
    about["ema came back"] = all(torch.equal(part, 2 * weight.detach()) for part, weight in pairs)
    states = [trainer["optimizer"]["state"], own["optimizer"]["state"]]
    about["state came back"] = all(
        torch.equal(states[0][place][key], states[1][place][key]) for place in states[0] for key in states[0][place]
    )
    with torch.device("meta"):
        other = UNet2DModel.from_config(CONFIG)
    empty = sharding.Shards(other, cpu)
    for name, tensor in saved["weights"].items():
        empty.put(name, tensor)
    with torch.no_grad():
        about["filled"] = loss_of(other, 7).item() - loss_of(model, 7).item()
    sharding.load_whole(model, unet().state_dict())
    with torch.no_grad():
        about["loaded"] = loss_of(model, 7).item()
    Path(folder, f"{rank}.json").write_text(json.dumps(about))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("shards")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(hold, (port, str(folder)), WORLD)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)], torch.load(folder / "whole.pt")


def test_each_process_holds_its_part_of_weights_and_gradients(told):
    total = sum(parameter.numel() for parameter in unet().parameters())
    numbers = [sum(process["numbers"]) for process in told[0]]
    assert sum(numbers) == total and max(numbers) < 0.4 * total  # few rows are not divided evenly
    assert [process["gradients"] for process in told[0]] == numbers
    assert all(process["held"] < 4 * 0.4 * total for process in told[0])
    assert any(0 in process["numbers"] for process in told[0])


def test_together_they_step_as_one_process_that_accumulates(told):
    model = unet()
    for number in range(2 * WORLD):
        (loss_of(model, number) / (2 * WORLD)).backward()
    norm = clip(model.parameters(), 0.01, "norm")
    torch.testing.assert_close(told[1]["norm"], norm, rtol=1e-6, atol=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    optimizer.step()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(told[1]["weights"][name], weight, rtol=1e-4, atol=1e-5, msg=name)
    state, expected = told[1]["optimizer"], optimizer.state_dict()
    assert state["param_groups"] == expected["param_groups"]
    for place, values in expected["state"].items():
        for key, value in values.items():
            torch.testing.assert_close(state["state"][place][key], value, rtol=1e-4, atol=1e-6)
    for micro in range(2):
        for rank, process in enumerate(told[0]):
            assert process[f"loss {micro}"] == pytest.approx(loss_of(unet(), micro * WORLD + rank).item(), rel=1e-6)


def test_what_was_gathered_can_be_divided_again(told):
    assert all(process["ema came back"] and process["state came back"] for process in told[0])
    assert [process["weights elsewhere"] for process in told[0]] == [0] * WORLD
    assert [process["filled"] for process in told[0]] == [0.0] * WORLD
    with torch.no_grad():
        whole = loss_of(unet(), 7).item()
    assert [process["loaded"] for process in told[0]] == [whole] * WORLD


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_blocks_are_units_and_hold_nearly_all(family):
    model = tiny.models(tiny.architecture(family))["unet"]
    units = dict(sharding.units_of(model))
    assert len(units) > 10 and {type(unit).__name__ for unit in units.values()} <= sharding.UNITS
    named = {name for name in units if "transformer_blocks" in name or "resnets" in name}
    assert named == {
        name
        for name, module in model.named_modules()
        if type(module).__name__ in ("ResnetBlock2D", "BasicTransformerBlock")
    }
