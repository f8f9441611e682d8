"""What it costs that two processes exchange their gradients: `python -m benchmarks.exchange`. Prints a table.

Two processes of one thread each, by gloo, on the UNet of `small-sd1`, all of which learns. In turns they take the same
steps without an exchange, with torch's DistributedDataParallel during the backward pass (as runs do), and with the mean
taken after it (as runs did before). Others on the machine change times more than the exchange does: so ratios within a
pair of neighbours are what counts, and their median; and processor time, of all threads, beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

PROCESSES = 2
STEPS = 2  # without a break
AT_ONCE = 32 * 2**20  # numbers in an exchange after the backward pass
SIZES = (128, 256)  # pixels: the exchange stays the same, and the step grows
WAYS = ("none", "within", "after")


def after_the_pass(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes, some at once."""
    portion: list[Tensor] = []
    for gradient in [p.grad for p in parameters if p.grad is not None]:
        portion.append(gradient)
        if sum(each.numel() for each in portion) >= AT_ONCE:
            _mean(portion)
            portion = []
    if portion:
        _mean(portion)


def _mean(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= PROCESSES
    for gradient, mean in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def measure(size: int, pairs: int) -> list[dict[str, float]]:
    """Seconds of a step by way, in each round."""
    from dreambooth_ext.engine.distribution.exchange import Exchange
    from dreambooth_ext.engine.runtime.diffusers_models import UNet2DConditionModel

    from . import bases

    torch.manual_seed(0)
    parts = bases.architecture("small-sd1")
    unet = UNet2DConditionModel.from_config(parts.unet).train()
    latents, text = torch.randn(1, 4, size // 8, size // 8), torch.randn(1, 77, parts.unet["cross_attention_dim"])

    def loss(batch: object = None, draws: object = None) -> Tensor:
        return unet(latents, torch.tensor([500]), encoder_hidden_states=text).sample.square().mean()

    exchange = Exchange(loss, list(unet.parameters()))

    def within() -> None:
        exchange.loss(None, None, is_last=True).backward()
        exchange.finish()

    def after() -> None:
        loss().backward()
        after_the_pass(unet.parameters())

    ways: dict[str, Callable[[], None]] = {"none": lambda: loss().backward(), "within": within, "after": after}
    found = []
    for number in range(pairs + 1):  # the first warms up
        times = {}
        for way in WAYS if number % 2 else WAYS[::-1]:
            torch.distributed.barrier()
            begun, worked = time.perf_counter(), time.process_time()
            for _ in range(STEPS):
                ways[way]()
                unet.zero_grad(set_to_none=True)
            torch.distributed.barrier()
            times[f"{way} cpu"] = (time.process_time() - worked) / STEPS
            times[way] = (time.perf_counter() - begun) / STEPS
        found.append(times)
    return found[1:]


def work(pairs: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    for size in SIZES:
        found = measure(size, pairs)
        if torch.distributed.get_rank() == 0:
            print(json.dumps([size, found]), flush=True)
    torch.distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    pairs = parser.parse_args().pairs
    if "RANK" in os.environ:
        work(pairs)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(PROCESSES)}
    command = [sys.executable, "-m", "benchmarks.exchange", "--pairs", str(pairs)]
    shared |= {**os.environ, **shared, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, env={**shared, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(PROCESSES)
    ]
    print("| pixels | step, s | exchange within the pass | after it | of processor time: within | after |")
    print("| --- | --- | --- | --- | --- | --- |")
    assert started[0].stdout is not None
    for line in started[0].stdout:
        size, found = json.loads(line)

        def share(way: str, to: str, found: list[dict[str, float]] = found) -> float:
            return statistics.median(times[way] / times[to] for times in found)

        plain = statistics.median(times["none"] for times in found)
        pairs_of = [(way + unit, f"none{unit}") for unit in ("", " cpu") for way in WAYS[1:]]
        shares = [f"{share(*pair) - 1:+.0%}" for pair in pairs_of]
        print(f"| {size} | {plain:.2f} | {' | '.join(shares)} |", flush=True)
    sys.exit(max(process.wait() for process in started))


if __name__ == "__main__":
    main()
