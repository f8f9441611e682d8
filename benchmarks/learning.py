"""Does saved memory cost what is learned? The demo's subject and a style, learned in each precision.

Inside the trainer's environment: `python -m benchmarks.learning make --out DIR [--only PART ...] [--seeds 3]` trains
what is not in DIR/results.json yet, judges it by pixels and notes it there; `learning table --out DIR` prints the
tables of docs/measurements.md. A PART is the beginning of "TASK ROW SEED", such as "style bf16".

The tasks: `subject` and `style` at the demo's rates, judged by `judged_pixels`; `subject-slow`, the subject at a rate
that loses most updates of weights in bfloat16 unless they are rounded at random; and `guide`, the guide's rate of 2e-6,
at which the demo's base would take hours: there the weights' movement is compared with that in float32 (same draws).
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.guide.demo_recipe import BASE, PICTURES, RECIPE
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.core.system.files import read_json, write_json
from dreambooth_ext.demo import measure, world
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.optimization import single_steps
from dreambooth_ext.engine.sampling.painter import Painter
from dreambooth_ext.engine.training import training_state

from . import judged, judged_pixels

DRAWN = 2  # pictures for each prompt of the pixels' judgement: 72 of a model
STYLED = 40  # pictures of the style
BF16 = {"weight_precision": "bf16", "mixed_precision": "bf16"}
LORA = {"method": "lora", "network_type": "locon", "rank": 16, "learning_rate": 1e-3, "text_encoder_lr": 1e-3}


@dataclass(frozen=True)
class Row:
    """A way to train. is_unrounded: updates are rounded to the nearest bfloat16, which no setting does."""

    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    is_unrounded: bool = False


UNTRAINED = "base"
ROWS = {
    UNTRAINED: Row("the base, untrained"),
    "fp32": Row("fp32, AdamW"),
    "autocast": Row("fp32, computed in bf16, AdamW", {"mixed_precision": "bf16"}),
    "bf16": Row("bf16, AdamW", BF16),
    "bf16-8bit": Row("bf16, 8-bit AdamW", BF16 | {"optimizer": "adamw8bit"}),
    "bf16-adafactor": Row("bf16, Adafactor", BF16 | {"optimizer": "adafactor"}),
    "unrounded": Row("bf16 without stochastic rounding, AdamW", BF16, is_unrounded=True),
    "lora": Row("LoRA on a base in fp32", LORA),
    "lora-int8": Row("LoRA on a base in int8", LORA | {"frozen_precision": "int8"}),
    "lora-nf4": Row("LoRA on a base in nf4", LORA | {"frozen_precision": "nf4"}),
}


@dataclass(frozen=True)
class Task:
    """What is learned. kind: for `judged_pixels`; None: only the weights' movement is looked at."""

    kind: str | None
    settings: dict[str, Any]
    rows: tuple[str, ...]


MOVED = ("fp32", "bf16", "bf16-8bit", "unrounded")
STYLE = {
    "subject_type": "style",
    "offset_noise": 0,
    "max_train_steps": 200,
    "text_encoder_steps": 200,
    "learning_rate": 5e-4,
    "text_encoder_lr": 1e-3,
}
TASKS = {
    "subject": Task("subject", {"max_train_steps": 160, "text_encoder_steps": 53}, tuple(ROWS)),
    "style": Task("style", STYLE, tuple(ROWS)),
    "subject-slow": Task(
        "subject",
        {"max_train_steps": 400, "text_encoder_steps": 133, "learning_rate": 1e-4, "text_encoder_lr": 1e-4},
        ("fp32", "bf16", "unrounded"),
    ),
    "guide": Task(None, {"max_train_steps": 100, "text_encoder_steps": 0, "learning_rate": 2e-6}, MOVED),
}


def config_of(out: Path, task: str, row: str, seed: int) -> RunConfig:
    own = TASKS[task].settings | ROWS[row].settings
    method = own.get("method", "dreambooth")
    recipe = {key: value for key, value in read_json(RECIPE).items() if method in SETTINGS[key].methods}
    values = {**recipe, "mixed_precision": "no", "optimizer": "adamw", **own, "seed": seed}
    values |= {"base_model": str(BASE), "report_to": "none", "keep_back_pictures": False, "save_precision": "fp32"}
    values |= {"checkpointing_steps": 0, "measure_progress": False}
    if TASKS[task].kind == "style":  # class pictures would make it take four times as long
        values |= {"instance_data_dir": str(styled(out)), "with_prior_preservation": False, "class_prompt": None}
        del values["num_class_images"], values["validation_guidance_scale"]
    else:
        values |= {"instance_data_dir": str(PICTURES), "class_data_dir": str(out / "classes")}
        values |= {"with_prior_preservation": True}
    if not values["text_encoder_steps"]:
        values.pop("text_encoder_lr")
    config, unreadable = parse(values)
    config, _, _, problems, _ = config_checks.check(config)
    assert not unreadable and not problems, [*map(str, unreadable), *map(str, problems)]
    return config


def styled(out: Path) -> Path:
    """The folder of the style's pictures, each with its caption, drawn where they are not there."""
    folder = out / "style"
    if not folder.exists():
        folder.mkdir(parents=True)
        for index in range(STYLED):
            spec = world.random_spec(np.random.default_rng([15, index]))
            world.draw_style(spec).save(folder / f"{index:02}.png")
            words = f"{world.caption(spec)} in {world.STYLE} style"
            (folder / f"{index:02}.txt").write_text(words, encoding="utf-8")
    return folder


@contextlib.contextmanager
def unrounded() -> Iterator[None]:
    """Round weights in bfloat16 to the nearest, as they are without stochastic rounding."""
    with mock.patch.object(single_steps, "rounded", side_effect=lambda values, _: values.to(torch.bfloat16)) as nearest:
        yield
    assert nearest.called, "steps are rounded elsewhere now: this row would be the one with rounding"


def train(out: Path, task: str, row: str, seed: int) -> Run:
    run = run_folder.create(out / "runs", config_of(out, task, row, seed))
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate refuses another precision in its process
    PartialState._reset_state()
    with unrounded() if ROWS[row].is_unrounded else contextlib.nullcontext():
        assert worker.main([str(run.path)]) == worker.DONE, run.path
    return run


def result(out: Path, task: str, row: str, seed: int) -> dict[str, Any]:
    """Train, and say what pixels, or weights, show of it."""
    if row == UNTRAINED:
        return pixels(out, task, measure.open_painter(str(BASE)))
    run = train(out, task, row, seed)
    found: dict[str, Any] = {"eight_bit": eight_bit_share(run)}
    if kind := TASKS[task].kind:
        return found | pixels(out, task, judged.opened(drawn(kind), run.config.method, model_of(run)))
    moved = movement(run)
    if row == "fp32":
        torch.save(moved, out / f"moved-{seed}.pt")
    return found | compared(moved, torch.load(out / f"moved-{seed}.pt", weights_only=True))


def drawn(kind: str) -> judged.Made:
    return judged.Made("", "", 0, kind=kind)


def pixels(out: Path, task: str, painter: Painter) -> dict[str, float]:
    """The judgement of `judged_pixels`, over DRAWN pictures for each of its prompts."""
    kind = TASKS[task].kind
    assert kind, "nothing is drawn for this task"
    photographs = sorted((styled(out) if kind == "style" else PICTURES).glob("*.png"))
    file = out / "drawn.npz"
    seen = []
    for number in range(DRAWN):
        wanted = judged.asked(drawn(kind)).items()
        found = {name: judged.paint(painter, prompts, 10**6 * (number + 1)) for name, prompts in wanted}
        np.savez(file, **{name: np.stack([np.asarray(one) for one in each]) for name, each in found.items()})
        seen.append(judged_pixels.look(kind, file, photographs))
    file.unlink()
    return {name: statistics.mean(getattr(each, name) for each in seen) for name in PIXEL_HEADINGS}


def model_of(run: Run) -> Path:
    return run.artifacts / run.config.model_file(run.config.name)


def eight_bit_share(run: Run) -> float:
    """The share of the numbers of the optimizer's state that take 8 bits."""
    tensors = list(tensors_in(training_state.found(run.checkpoints)[-1].trainer()["optimizer"]))
    small = sum(tensor.numel() for tensor in tensors if tensor.dtype == torch.uint8)
    return small / max(1, sum(tensor.numel() for tensor in tensors))


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from tensors_in(one)


def movement(run: Run) -> Tensor:
    """By how much each number of the UNet has moved from where the run began, (n,): the base's weights, which a run in
    bfloat16 rounds to it when it loads them."""
    began = torch.bfloat16 if run.config.weight_precision == "bf16" else torch.float32
    before = open_base(BASE).unet(began).float().state_dict()
    after = open_base(model_of(run), field="model").unet(torch.float32).state_dict()
    return torch.cat([(after[name] - before[name]).flatten() for name in sorted(before)]).double()


def compared(moved: Tensor, expected: Tensor) -> dict[str, float]:
    """A movement beside that in float32, both (n,). along: how far it went in that one's direction, as a share of its
    length (1: all the way; what rounding at random adds is at right angles to it, nearly); norm: its whole length as
    such a share; still: the share of weights that did not move."""
    length = expected.norm()
    return {
        "along": float(moved @ expected / length**2),
        "norm": float(moved.norm() / length),
        "cosine": float(moved @ expected / (moved.norm() * length)) if moved.any() else 0.0,
        "still": float((moved == 0).double().mean()),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Each task's scores by row; a row's runs in the order of their seeds, of which each makes the same draws in every
    row."""
    parts = [(task, PIXEL_HEADINGS if TASKS[task].kind else MOVED_HEADINGS) for task in TASKS]
    return "\n\n".join(task_table(results, task, headings) for task, headings in parts)


PIXEL_HEADINGS = {
    "subject": "learned",
    "prompt": "right ground or figure",
    "leak": "without its word",
    "world": "world",
}
MOVED_HEADINGS = {
    "along": "along fp32's way",
    "norm": "length",
    "cosine": "cosine",
    "still": "weights that stood still",
}


def task_table(results: dict[str, dict[str, Any]], task: str, headings: dict[str, str]) -> str:
    lines = [f"| {task} | {' | '.join(headings.values())} |", "| --- " * (1 + len(headings)) + "|"]
    for row in TASKS[task].rows:
        names = sorted(name for name in results if name.rpartition(" ")[0] == f"{task} {row}")
        cells = [", ".join(f"{results[name][score]:.2f}" for name in names) for score in headings]
        if names:
            lines.append(f"| {ROWS[row].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.learning", description=__doc__.splitlines()[0])
    parser.add_argument("verb", nargs="?", choices=("make", "table"), default="make")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="*", default=[""], metavar="PART")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    given = parser.parse_args(argv)
    path = given.out / "results.json"
    results = read_json(path) if path.exists() else {}
    if given.verb == "table":
        print(table(results))
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    asked = [(name, row) for name, task in TASKS.items() for row in task.rows]
    for seed in range(1, given.seeds + 1):
        for task, row in asked:
            if row == UNTRAINED and seed > 1:
                continue
            name = f"{task} {row} {seed}"
            if name in results or not name.startswith(tuple(given.only)):
                continue
            results[name] = result(given.out, task, row, seed)
            write_json(path, results)
            print(name, results[name], file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
