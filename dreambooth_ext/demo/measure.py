"""Measures how well a model draws world, subject and style: `python -m dreambooth_ext.demo.measure MODEL ...`.

Prints, for each model, the share of pictures in which colour, shape, background and size are as the prompt says, and
the share that shows the subject, on backgrounds of its photographs and on others. `judge` decides, not a network.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..engine.models.base_model import open_base
from ..engine.sampling.painter import Painter, load_painter
from . import judge, world

SAMPLING: dict[str, Any] = {
    "steps": 20,
    "cfg_scale": 3.0,
    "sampler": "DPM++ 2M Karras",
    "width": world.SIZE,
    "height": world.SIZE,
}
SUBJECT_PROMPT = f"a big {world.SUBJECT} figure"
SURE = 0.5  # of `judge.has_subject` and `judge.has_style`
UNSEEN = tuple(name for name in world.BACKGROUNDS if name not in world.SUBJECT_BACKGROUNDS)


def open_painter(model: str) -> Painter:
    return load_painter(open_base(model, field="model"), torch.device("cpu"))


def generate_pictures(painter: Painter, prompt: str, seeds: Sequence[int]) -> list[Image.Image]:
    return painter.paint(prompt, seeds=seeds, **SAMPLING)


def world_score(painter: Painter, count: int = 64, seed: int = 10**6) -> dict[str, float]:
    """Shares of `count` pictures of random specs that match their spec, for each part and for all parts together."""
    verdicts = []
    for index in range(count):
        spec = world.random_spec(np.random.default_rng([seed, index]))
        (picture,) = generate_pictures(painter, world.caption(spec), [index])
        verdicts.append(judge.judge(picture, spec))
    parts = ("colour_ok", "shape_ok", "background_ok", "size_ok", "all_ok")
    return {part.removesuffix("_ok"): sum(getattr(v, part) for v in verdicts) / count for part in parts}


def subject_score(painter: Painter, backgrounds: Sequence[str], each: int = 4) -> float:
    """The share of pictures, `each` on every background, that show the subject and that background around it."""
    found = [
        judge.has_subject(picture) > SURE and judge.background_of(judge.pixels(picture)) == background
        for background in backgrounds
        for picture in generate_pictures(painter, f"{SUBJECT_PROMPT} on a {background} background", range(each))
    ]
    return sum(found) / len(found)


def leak_score(painter: Painter, count: int = 32) -> float:
    """The share of pictures of "a figure", without the rare word, that show the subject all the same."""
    backgrounds = [world.BACKGROUNDS[i % len(world.BACKGROUNDS)] for i in range(count)]
    pictures = [
        generate_pictures(painter, f"a big figure on a {b} background", [i])[0] for i, b in enumerate(backgrounds)
    ]
    return sum(judge.has_subject(picture) > SURE for picture in pictures) / count


def style_score(painter: Painter, word: str, count: int = 32, seed: int = 2 * 10**6) -> float:
    """The share of pictures that show the style, for random captions followed by `word` (" in zqx style", or "")."""
    found = 0
    for index in range(count):
        spec = world.random_spec(np.random.default_rng([seed, index]))
        (picture,) = generate_pictures(painter, world.caption(spec) + word, [index])
        found += judge.has_style(picture) > SURE
    return found / count


def main(models: list[str]) -> int:
    for model in models:
        painter = open_painter(model)
        scores = world_score(painter)
        scores["subject, seen backgrounds"] = subject_score(painter, world.SUBJECT_BACKGROUNDS)
        scores["subject, other backgrounds"] = subject_score(painter, UNSEEN)
        scores["subject without its word"] = leak_score(painter)
        print(model, *(f"{name} {100 * share:.0f} %" for name, share in scores.items()), sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
