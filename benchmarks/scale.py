"""What each card of several takes and exchanges, as the table in docs/scale.md: `python -m benchmarks.scale --write`.

Counted from the models' sizes. A ring, by which NCCL and gloo average, sends and receives 2 (N - 1) / N times the
gradients' bytes on each card in a step (Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms, 2009). That is a
reduce-scatter and an all-gather of (N - 1) / N each; a sharded model takes a reduce-scatter of its gradients, and two
all-gathers of its weights, in the forward and in the backward pass. ZeRO's first two stages take one of each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.engine.memory_estimate import estimate, weight_bytes
from dreambooth_ext.engine.methods import METHODS
from dreambooth_ext.engine.models.base_model import LatentBase

from .cards import resolved
from .fake_card import full_size

DOCUMENT = Path(__file__).parents[1] / "docs" / "scale.md"
BEGINS, ENDS = "<!-- bill: written by benchmarks.scale -->", "<!-- end of bill -->"
COUNTS = (1, 2, 8, 16)  # cards
NETWORKS = {"1 Gbit/s": 1e9 / 8, "10 Gbit/s": 1e10 / 8, "100 Gbit/s": 1e11 / 8}  # bytes a second
SETTINGS = {
    "SDXL in full": ("Full", {}),
    "SDXL in full, `weight_precision` bf16": ("Full", {"weight_precision": "bf16"}),
    "SDXL in full, AdamW": ("Full", {"optimizer": "adamw"}),
    "SDXL in full, AdamW, `distribution` fsdp": ("Full", {"optimizer": "adamw", "distribution": "fsdp"}),
    "SDXL in full, AdamW, `distribution` zero2": ("Full", {"optimizer": "adamw", "distribution": "zero2"}),
    "LoRA of SDXL, rank 16": ("LoRA, rank 16", {}),
}


def exchanged(gradients: float, count: int, distribution: str = "ddp") -> float:
    """Return the bytes that each of so many cards sends, and receives, in a step of so many bytes of gradients, which
    are as many as those of weights."""
    return (3 if distribution == "fsdp" else 2) * (count - 1) / count * gradients


def bill(config: RunConfig, base: LatentBase, count: int) -> tuple[float, float]:
    """Return the bytes of memory that a card takes, and that it sends in a step."""
    memory = estimate(config.replace(processes=count), base, Subjects.of(config), draws=False)
    gradients = METHODS[config.method].share(config, base).learning * weight_bytes(config)
    return memory, exchanged(gradients, count, config.distribution)


def table() -> str:
    lines = ["| | cards | memory of each | sent a step | " + " | ".join(NETWORKS) + " |"]
    lines.append("| --- " * (4 + len(NETWORKS)) + "|")
    base = full_size("sdxl")
    for title, (method, settings) in SETTINGS.items():
        config = resolved(method, "sdxl").replace(**settings)
        counts = COUNTS if config.distribution == "ddp" else COUNTS[1:]
        for count in counts:
            memory, sent = bill(config, base, count)
            times = [seconds(sent / speed) for speed in NETWORKS.values()] if sent else [""] * len(NETWORKS)
            cells = [title if count == counts[0] else "", str(count), f"{memory / 1e9:.1f} GB", size(sent), *times]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def size(count: float) -> str:
    return "" if not count else f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def seconds(time: float) -> str:
    return f"{time:.0f} s" if time >= 10 else f"{time:.1f} s" if time >= 1 else f"{1000 * time:.0f} ms"


def write() -> None:
    """Put the table into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGINS)
    _, _, after = rest.partition(ENDS)
    DOCUMENT.write_text(f"{before}{BEGINS}\n\n{table()}\n\n{ENDS}{after}", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/scale.md")
    if parser.parse_args().write:
        write()
    print(table())
