"""What each saved model of a run draws to be judged: the same prompts and seeds as the base and all the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.verdict.prompts import Prompts
from ..models.base_model import LatentBase, open_base
from ..runtime import memory
from ..sampling.model_swap import put_into
from ..sampling.painter import DrawingOptions, Painter, load_painter

# The subject in other settings, as photographs show it, the same without its word, and everything else
Of = Literal["subject", "photo", "class", "world"]
SEEDS: dict[Of, int] = {"subject": 3, "photo": 2, "class": 2, "world": 2}  # pictures of each prompt
FIRST_SEED = 1000
PIXELS_AT_ONCE = {"cuda": 4 * 512 * 512, "cpu": 14 * 64 * 64}
BASE_STEP = 0
Told = Callable[[int, int, Message], None]  # (done, of, what is going on)
By = tuple[int, float]  # what drew: step and weight
BASE: By = (BASE_STEP, 1.0)


@dataclass(frozen=True)
class Wanted:
    """One picture to draw. number: of its prompt among those of the same kind."""

    of: Of
    number: int
    prompt: str
    seed: int


@dataclass(frozen=True)
class Saved:
    """A saved model of the run. kind: as `core.facts.methods.MODEL_KINDS`. weight: at which a LoRA draws."""

    step: int
    path: Path
    kind: str
    weight: float = 1.0


@dataclass(frozen=True)
class Drawn:
    """A picture by the model of a step, BASE_STEP for the base, at a weight."""

    step: int
    weight: float
    wanted: Wanted
    picture: Image.Image

    @property
    def by(self) -> By:
        return self.step, self.weight


def wanted(prompts: Prompts) -> list[Wanted]:
    """Everything that one model draws. A class prompt has the seeds of the prompt that it was made from."""
    of: dict[Of, list[str]] = {
        "subject": [each.prompt for each in prompts.subject],
        "photo": prompts.photo,
        "class": prompts.plain,
        "world": prompts.world,
    }
    return [
        Wanted(kind, number, prompt, FIRST_SEED + 10 * number + seed)
        for kind, texts in of.items()
        for number, prompt in enumerate(texts)
        for seed in range(SEEDS[kind])
    ]


def drawn(
    base: LatentBase,
    models: Sequence[Saved],
    asked: Sequence[Wanted],
    device: torch.device,
    options: DrawingOptions,
    clip_skip: int | None,
    told: Callable[[int], None],
    with_base: bool = True,
) -> Iterator[Drawn]:
    """Draw everything by the base and by each model, with one of them in memory at a time.

    told: called with the number of pictures since the last call.
    """
    if with_base or any(model.kind != "checkpoint" for model in models):
        painter = load_painter(base, device, clip_skip)
        if with_base:
            yield from _by(painter, BASE, asked, options, told)
        for model in models:
            if model.kind != "checkpoint":
                with put_into(painter, model.kind, model.path, model.weight):
                    yield from _by(painter, (model.step, model.weight), asked, options, told)
        del painter
    for model in models:
        if model.kind == "checkpoint":
            memory.release()
            other = open_base(model.path, field="run", prediction_type=base.prediction_type)
            yield from _by(load_painter(other, device, clip_skip), (model.step, 1.0), asked, options, told)
            other.close()
    memory.release()


def _by(
    painter: Painter, by: By, asked: Sequence[Wanted], options: DrawingOptions, told: Callable[[int], None]
) -> Iterator[Drawn]:
    """Nothing comes, or nothing more, from a model that draws what is not finite."""
    area = options["width"] * options["height"]
    at_once = max(1, PIXELS_AT_ONCE.get(painter.unet.device.type, area) // area)
    for begin in range(0, len(asked), at_once):
        part = asked[begin : begin + at_once]
        try:
            pictures = painter.paint_each([one.prompt for one in part], seeds=[one.seed for one in part], **options)
        except UserError as error:
            if error.problem.code != "training.picture_not_finite":
                raise
            return
        yield from (Drawn(*by, one, picture) for one, picture in zip(part, pictures, strict=True))
        told(len(part))
