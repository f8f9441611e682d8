"""What a step takes with each type of LoRA on SD 1.5's UNet, and what it would take with its change written out as
large as the weight: `python -m benchmarks.adapters [--resolution 256] [--type dora ...]`. Prints a table.

Of this machine's CPU, in a process for each row: the time of a step, what its forward pass keeps beside the weights,
and the process's peak. Rank 16, on attention and feed-forward layers; the base in bfloat16, mixed precision, no
checkpointing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from unittest import mock

import torch
from torch import Tensor, nn

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.facts.lora_types import LORA_TYPES
from dreambooth_ext.engine.networks import layer_adapters, lora_network
from dreambooth_ext.engine.networks.adapter import Adapter, apply, exact

from . import bases

STEPS = 4
SETTINGS = {"method": "lora", "rank": 16, "alpha": 16.0, "target_modules": ["attention", "feed_forward"]}


@contextlib.contextmanager
def written_out(is_so: bool) -> Iterator[None]:
    """Adapters compute their change and apply it like a weight, as they all did once."""

    def plain(made: Adapter, inputs: Tensor, layer: nn.Linear | nn.Conv2d, output: Tensor | None = None) -> Tensor:
        with exact(inputs):
            changed = made.change(layer.weight)
        return apply(layer, inputs, changed)

    with contextlib.ExitStack() as patches:
        for kind in (Adapter, *layer_adapters.ADAPTERS) if is_so else ():
            if "forward" in vars(kind):
                patches.enter_context(mock.patch.object(kind, "forward", plain))
        yield


def random_unet() -> nn.Module:
    unet = bases.empty_models(bases.architecture("sd1"))["unet"].to(torch.bfloat16).to_empty(device="cpu")
    for parameter in unet.parameters():
        bound = 1 / math.sqrt(max(1, math.prod(parameter.shape[1:])))
        nn.init.uniform_(parameter, -bound, bound)
    return unet.requires_grad_(False).train()


class Kept:
    """Adds up what autograd keeps for the backward pass, without parameters; what is kept twice counts once."""

    def __init__(self, parameters: Iterable[Tensor]):
        self.known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        self.bytes = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def measure(kind: str, resolution: int) -> dict[str, float]:
    """The median time of a step in seconds, and in bytes what the forward pass keeps and the process's peak."""
    unet, side = random_unet(), resolution // 8
    made = lora_network.create(RunConfig(network_type=kind, **SETTINGS), "unet", unet)
    lora_network.attach(unet, made, 0.0)
    given = torch.randn(1, 4, side, side), torch.tensor([500]), torch.randn(1, 77, unet.config.cross_attention_dim)
    times = []
    for _ in range(STEPS):
        kept, began = Kept([*unet.parameters(), *unet.buffers()]), time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                predicted = unet(*given).sample
            loss = predicted.float().square().mean()
        loss.backward()
        for adapter in made.values():
            adapter.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(times[1:]), "kept": kept.bytes, "peak": peak}


def apart(kind: str, resolution: int, before: bool) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.adapters", "--resolution", str(resolution), "--one", kind]
    done = subprocess.run([*command, *(["--before"] if before else [])], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--type", nargs="+", choices=tuple(LORA_TYPES), default=("lora", "dora", "loha", "lokr", "oft"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--before", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.one:
        with written_out(given.before):
            print(json.dumps(measure(given.one, given.resolution)))
        return 0
    print("| type | kept by the forward pass | s a step | peak, process |\n|---|---|---|---|")
    for kind in given.type:
        cells = []
        for before in (False, True) if kind != "lora" else (False,):
            found = apart(kind, given.resolution, before)
            sizes = [f"{found[name] / 1e9:.2f} GB" for name in ("kept", "peak")]
            cells.append((sizes[0], f"{found['seconds']:.2f}", sizes[1]))
        print(
            f"| {kind} | "
            + " | ".join(" (".join(pair) + ")" * (len(pair) - 1) for pair in zip(*cells, strict=True))
            + " |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
