"""What a verdict costs on a full-size model: `python -m benchmarks.judging [--base sd1] [--models 5] [--size 512]`.

One picture is drawn in one sampling step, encoded, looked at and compared with a prompt, by a base with random weights;
the seconds of each part are multiplied by how often a verdict needs it, and the memory is the highest that was seen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dreambooth_ext.core.guide import tables
from dreambooth_ext.core.verdict.measuring import UNRELATED
from dreambooth_ext.core.verdict.prompts import Prompts, SubjectPrompt
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.engine.verdict import base_judge, drawing, judging
from dreambooth_ext.engine.verdict.base_judge import BaseJudge

from . import bases, machine

PHOTOGRAPHS = 12


def counts(models: int) -> dict[str, int]:
    """How often each part is needed for that many models and the base: UNet passes and pictures through the VAE."""
    guide = tables.test_prompts("person", "sksper")[:4]
    prompts = Prompts("sksper", [SubjectPrompt(text, text) for text in guide], guide[:3], list(UNRELATED))
    asked = drawing.wanted(prompts)
    pictures = len(asked) * (models + 1)
    compared = sum(one.of in ("subject", "world") for one in asked) * (models + 1)
    return {
        "drawing": pictures * judging.STEPS * 2,
        "decoding": pictures,
        "encoding": pictures + PHOTOGRAPHS,
        "looking": (pictures + PHOTOGRAPHS) * base_judge.FEATURE_DRAWS,
        "comparing": compared * 4 * len(base_judge.TIMES),
    }


def measured(file: Path, size: int) -> dict[str, float]:
    """Seconds of each part, once."""
    painter = load_painter(open_base(file), torch.device("cpu"))
    judge = BaseJudge(painter, size)
    options: dict[str, Any] = {"width": size, "height": size, "cfg_scale": 7.5}
    one, (picture,) = timed(lambda: painter.paint("a cat", seeds=[0], steps=1, **options))
    two, _ = timed(lambda: painter.paint("a cat", seeds=[0], steps=2, **options))
    encoding, latents_1chw = timed(lambda: judge.latents([picture]))
    looking, _ = timed(lambda: judge.features(latents_1chw))
    comparing, _ = timed(lambda: judge.losses(latents_1chw, ["a cat"]))
    passes = (two - one) / 2
    return {
        "drawing": passes,
        "decoding": max(0.0, one - 2 * passes),
        "encoding": encoding,
        "looking": looking / base_judge.FEATURE_DRAWS,
        "comparing": comparing / len(base_judge.TIMES),
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="sd1", choices=("sd1", "sdxl", "small-sd1", "small-sdxl"))
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--size", type=int, default=512)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        seconds = measured(bases.make(given.base, Path(folder)), given.size)
    often, total = counts(given.models), 0.0
    print(machine.facts()["cpu"], f"{torch.get_num_threads()} threads")
    print("| part | times | seconds each | minutes |\n| --- | --- | --- | --- |")
    for part, count in often.items():
        total += count * seconds[part]
        print(f"| {part} | {count} | {seconds[part]:.2f} | {count * seconds[part] / 60:.1f} |")
    print(f"{total / 60:.0f} minutes in all; {highest() / 1e9:.1f} GB of memory at most")
    return 0


def highest() -> float:
    """The most memory that this process has had, in bytes; 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0.0
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
