"""What pixels say of the models that `benchmarks.judged` makes: the truth that the verdict is held to.

`demo.judge` looks at pictures that the verdict never sees, of other prompts and seeds. No neural network has a say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dreambooth_ext.demo import judge, measure, world

SPECS = [world.random_spec(np.random.default_rng([10**6, index])) for index in range(12)]
GROUNDS = (*world.SUBJECT_BACKGROUNDS, *measure.UNSEEN)  # of the pictures by the word
FULL_STYLE = 0.5  # of `judge.has_style`: what a model that has learned the style well reaches
LEARNED, LEAKED, KEPT, WHOLE, COPIED = 0.3, 0.35, 0.8, 0.55, 0.8


@dataclass(frozen=True)
class Pixels:
    """Shares from 0 to 1. subject: how much of what was learned is there by its word; prompt: the background is right;
    leak: how much of it is there without the word; world: other pictures are as told. nearness: the distance to the
    nearest photograph, in that of pictures of the subject that the world's script draws."""

    subject: float
    prompt: float
    leak: float
    world: float
    nearness: float

    @property
    def score(self) -> float:
        """Everything that is wanted, multiplied; copies count less, the closer they are."""
        return min(1.0, self.nearness / COPIED) * self.subject * self.prompt * max(0.0, 1 - self.leak) * self.world

    @property
    def state(self) -> str:
        """In the order of `core.verdict.decision.state_of`; the thresholds were chosen before any verdict was seen."""
        if self.world < WHOLE:
            return "broken"
        if self.subject >= LEARNED and self.nearness < COPIED:
            return "overtrained"
        if self.leak > LEAKED or self.world < KEPT:
            return "drifted"
        return "good" if self.subject >= LEARNED else "undertrained"


def look(kind: str, drawn: Path, photographs: Sequence[Path]) -> Pixels:
    """Judge what one model has drawn. kind: what it was to learn; drawn: as `judged.draw` writes it."""
    arrays = np.load(drawn)
    pictures = {name: [Image.fromarray(pixels) for pixels in arrays[name]] for name in arrays.files}
    if kind == "style":
        return _of_style(pictures)
    has = judge.has_subject if kind == "subject" else heart_in
    right = [
        judge.background_of(judge.pixels(each)) == ground
        for each, ground in zip(pictures["word"], GROUNDS, strict=True)
    ]
    return Pixels(
        subject=mean([has(each) for each in pictures["word"]]),
        prompt=mean(right),
        leak=mean([has(each) for each in pictures["plain"]]),
        world=as_told(pictures["world"]),
        nearness=nearness(pictures["word"], photographs) if kind == "subject" else 1.0,
    )


def _of_style(pictures: dict[str, list[Image.Image]]) -> Pixels:
    styled, plain = (
        [min(1.0, judge.has_style(one) / FULL_STYLE) for one in pictures[name]] for name in ("word", "plain")
    )
    return Pixels(mean(styled), as_told(pictures["word"]), mean(plain), as_told(pictures["plain"]), 1.0)


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def as_told(pictures: Sequence[Image.Image]) -> float:
    """The share of colour, shape, background and size that is as the captions of SPECS say."""
    found = [judge.judge(each, spec) for each, spec in zip(pictures, SPECS, strict=True)]
    return mean([mean([one.colour_ok, one.shape_ok, one.background_ok, one.size_ok]) for one in found])


def heart_in(picture: Image.Image) -> float:
    """How much of a purple heart is there: its shape and its colour."""
    heart = dataclasses.replace(SPECS[0], shape="heart", colour="purple")
    found = judge.judge(picture, heart)
    return mean([found.shape_ok, found.colour_ok])


def nearness(pictures: Sequence[Image.Image], photographs: Sequence[Path]) -> float:
    """How close pictures on the photographs' backgrounds come to one of them, as a share of what chance does."""
    known = [judge.pixels(Image.open(path)) for path in photographs]
    grounds = {judge.background_of(each) for each in known}
    places = [place for place, ground in enumerate(GROUNDS) if ground in grounds]
    fresh = [
        nearest(judge.pixels(fresh_subject(GROUNDS[place], 10 * place + n)), known)
        for place in places
        for n in range(10)
    ]
    own = [nearest(judge.pixels(pictures[place]), known) for place in places]
    return float(np.median(own) / np.median(fresh))


def fresh_subject(ground: str, seed: int) -> Image.Image:
    x, y, radius, angle = np.random.default_rng([55, seed]).uniform((30, 31, 21, -6), (34, 33, 24, 6))
    return world.draw_subject(ground, world.Pose(x, y, radius, angle), seed)


def nearest(pixels_hwc: np.ndarray, known: Sequence[np.ndarray]) -> float:
    """The root mean square difference to the most similar one, in levels of 0..255."""
    return min(float(np.sqrt(((pixels_hwc - other) ** 2).mean())) for other in known)
