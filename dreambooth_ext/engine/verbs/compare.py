"""The verb `compare`: the same prompts and seeds by the base and by each model, a sheet of all, and compare.json."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...core.errors import Problem, UserError
from ...core.system.files import write_json
from ...core.system.terminal import Progress, say
from ...core.verbs import compare_options, generate_options
from ...core.verbs.compare_options import BASE, Given
from ..downloads.progress_thread import Fetch, TerminalStage
from ..formats.model_kind import kind_of_model
from ..models.base_model import LatentBase, open_base
from ..runtime import memory
from ..runtime.device import choose_device
from ..sampling.contact_sheet import contact_sheet
from ..sampling.infotext import infotext, save_png
from ..sampling.model_swap import put_into
from ..sampling.painter import Painter, load_painter
from .generate import batches, counted, drawing_of

SHEET, RESULT = "sheet.png", "compare.json"


@dataclass
class Comparison:
    """What is drawn by each of the models, and where it goes."""

    out: Path
    prompts: list[str]
    seeds: list[int]
    drawing: Mapping[str, Any]  # `Painter.paint`'s options
    batch_size: int
    clip_skip: int | None

    def place(self, name: str, prompt: int, seed: int) -> Path:
        return self.out / f"{name}_{prompt}_{seed}.png"

    def draw(self, painter: Painter, name: str, words: str, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """One model's pictures as compare.json lists them. words: follow the prompt, as in the WebUI."""
        for number, prompt in enumerate(self.prompts):
            for seeds in batches(self.seeds, self.batch_size):
                for seed, picture in zip(seeds, painter.paint(prompt, seeds=seeds, **self.drawing), strict=True):
                    path = self.place(name, number, seed)
                    text = infotext(prompt=prompt + words, seed=seed, clip_skip=self.clip_skip, **self.drawing, **about)
                    save_png(picture, path, text)
                    yield {"model": name, "prompt": number, "seed": seed, "file": path.name, "parameters": text}


def run(arguments: argparse.Namespace) -> list[Path]:
    """Draw the comparison; returns the sheet and compare.json.

    Raises UserError for a value out of range, a model that cannot be opened or does not fit the base, and pictures of
    an earlier comparison that would be replaced.
    """
    for problem in compare_options.problems(arguments):
        raise problem.as_error()
    device = choose_device(arguments.device)
    base = open_base(arguments.base, field="base", fetch=Fetch(TerminalStage()))
    models = compare_options.models(arguments)
    kinds = {model.name: kind_of(model) for model in models}
    comparison = asked(arguments, base)
    names = [BASE, *(model.name for model in models)]
    require_free(comparison, names, arguments.overwrite)
    found: list[dict[str, Any]] = []
    written: list[Path] = []
    total = len(names) * len(comparison.prompts) * len(comparison.seeds)
    with Progress(total, "Drawing") as progress, counted(written, comparison.out):
        for picture in drawn(comparison, base, models, kinds, device):
            found.append(picture)
            written.append(comparison.out / picture["file"])
            progress.update(len(written), picture["file"])
    return [sheet(comparison, names, found), note(comparison, base, models, kinds, names, found)]


def kind_of(model: Given) -> str:
    """Raises UserError for a weight of what has none."""
    kind = kind_of_model(model.path, "model")
    if model.weight is not None and kind not in ("lora", "hypernetwork"):
        raise UserError("command.no_weight", "model", file=model.path.name)
    return kind


def asked(arguments: argparse.Namespace, base: LatentBase) -> Comparison:
    return Comparison(
        out=Path(arguments.out),
        prompts=compare_options.prompts(arguments),
        seeds=[arguments.seed + index for index in range(arguments.num_images)],
        drawing=drawing_of(arguments, base),
        batch_size=arguments.batch_size,
        clip_skip=arguments.clip_skip,
    )


def require_free(comparison: Comparison, names: list[str], overwrite: bool) -> None:
    """Raise UserError where a picture would replace one that is there."""
    pictures = (
        comparison.place(name, prompt, seed)
        for name in names
        for prompt in range(len(comparison.prompts))
        for seed in comparison.seeds
    )
    results = (comparison.out / SHEET, comparison.out / RESULT)
    if not overwrite and (there := next((path for path in (*results, *pictures) if path.exists()), None)):
        raise UserError("command.exists", "out", path=there)


def drawn(
    comparison: Comparison, base: LatentBase, models: list[Given], kinds: Mapping[str, str], device: torch.device
) -> Iterator[dict[str, Any]]:
    """Every model's pictures. Files that change the base are put into it in turn, so that it is loaded once; whole
    checkpoints follow when it has left memory."""
    painter = load_painter(base, device, comparison.clip_skip)
    about = {"model": base.name, "model_hash": base.short_hash()}
    yield from comparison.draw(painter, BASE, "", about)
    for model in models:
        if (kind := kinds[model.name]) != "checkpoint":
            weight = 1.0 if model.weight is None else model.weight
            with put_into(painter, kind, model.path, weight):
                warn_of_word(comparison, painter, model)
                yield from comparison.draw(painter, model.name, words_of(model, kind, weight), about)
    del painter
    for model in models:
        if kinds[model.name] == "checkpoint":
            memory.release()
            other = open_base(model.path, field="model")
            about = {"model": other.name, "model_hash": other.short_hash()}
            yield from comparison.draw(load_painter(other, device, comparison.clip_skip), model.name, "", about)
            other.close()


def words_of(model: Given, kind: str, weight: float) -> str:
    """What the WebUI reads at a prompt's end to draw the same."""
    words = {"lora": "lora", "hypernetwork": "hypernet"}.get(kind)
    return generate_options.lora_words([(model.path, weight)], words) if words else ""


def warn_of_word(comparison: Comparison, painter: Painter, model: Given) -> None:
    """Of a learned word that no prompt holds: its pictures are the base's."""
    words = painter.text.embeddings.words
    if words and not any(painter.text.learned_in(prompt) for prompt in comparison.prompts):
        found = Problem("command.word_not_in_prompts", "prompt", word=words[0].word, file=model.path.name)
        say(f"warning: {found}")


def sheet(comparison: Comparison, names: list[str], found: list[dict[str, Any]]) -> Path:
    """All pictures on one sheet, a column for each model. The WebUI's PNG Info reads the first picture's settings."""
    path = comparison.out / SHEET
    rows = [(number, seed) for number in range(len(comparison.prompts)) for seed in comparison.seeds]
    pictures = [[comparison.place(name, *row) for name in names] for row in rows]
    captions = [f"{comparison.prompts[number]}\nseed {seed}" for number, seed in rows]
    first = next(one["parameters"] for one in found if one["model"] == BASE)
    save_png(contact_sheet(names, captions, pictures), path, f"{first}, Script: compare, X Values: {quoted(names)}")
    return path


def quoted(names: list[str]) -> str:
    return '"' + ", ".join(name.replace('"', "'") for name in names) + '"'


def note(
    comparison: Comparison,
    base: LatentBase,
    models: list[Given],
    kinds: Mapping[str, str],
    names: list[str],
    found: list[dict[str, Any]],
) -> Path:
    """compare.json: what was drawn with what. It names files, and no folders of this machine."""
    path = comparison.out / RESULT
    listed: list[dict[str, Any]] = [{"name": BASE, "file": base.name, "kind": "checkpoint", "weight": None}]
    listed += [
        {"name": one.name, "file": one.path.name, "kind": kinds[one.name], "weight": one.weight} for one in models
    ]
    drawing = {**comparison.drawing, "clip_skip": comparison.clip_skip}
    order = {name: place for place, name in enumerate(names)}
    pictures = sorted(found, key=lambda one: (one["prompt"], one["seed"], order[one["model"]]))
    content = {"models": listed, "prompts": comparison.prompts, "seeds": comparison.seeds, **drawing}
    write_json(path, {**content, "sheet": SHEET, "pictures": pictures})
    return path
