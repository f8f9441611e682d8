"""What chance does: the demo's creature, learned over and over by the engine and by `reference.py`, each by own draws.

Inside the trainer's environment: `python -m benchmarks.chance --out DIR [--seeds 10] [--method dreambooth lora]`. Both
train on the same pictures, class pictures and settings; `demo.judge` looks at what they draw. Each result goes into
DIR/results.json at once, and what is there is not measured again. Ends with a table of means and spreads.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.guide.demo_recipe import BASE, FOLDER, RECIPE
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.system.files import read_json, write_json
from dreambooth_ext.demo import measure, world
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.models.architecture import TOKENIZER
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.painter import Painter, load_painter
from dreambooth_ext.engine.verbs.convert import to_folder

from .reference import Reference, Step

RANK = 16
SETTINGS_OF = {  # on top of the demo's recipe
    "dreambooth": {},
    "lora": {"method": "lora", "rank": RANK, "learning_rate": 1e-3, "text_encoder_lr": 1e-3},
}


class Pairs(Dataset):
    """An instance and a class picture, as diffusers' train_dreambooth.py pairs them: by the index, modulo both. Each is
    a sample of its posterior (4, h, w), scaled, and its caption."""

    def __init__(self, own: Path, classes: Path, vae: AutoencoderKL):
        self.factor = vae.config.scaling_factor
        self.own, self.classes = ([seen(path, vae) for path in sorted(f.glob("*.png"))] for f in (own, classes))

    def __len__(self) -> int:
        return max(len(self.own), len(self.classes))

    def __getitem__(self, index: int) -> list[tuple[Tensor, str]]:
        pair = (pictures[index % len(pictures)] for pictures in (self.own, self.classes))
        return [(posterior.sample()[0] * self.factor, caption) for posterior, caption in pair]


@torch.no_grad()
def seen(path: Path, vae: AutoencoderKL) -> tuple[DiagonalGaussianDistribution, str]:
    picture = Image.open(path).convert("RGB").resize((world.SIZE, world.SIZE), Image.Resampling.LANCZOS)
    pixels_hwc = torch.from_numpy(np.asarray(picture).copy())
    pixels_bchw = pixels_hwc.permute(2, 0, 1)[None] / 127.5 - 1
    return vae.encode(pixels_bchw).latent_dist, path.with_suffix(".txt").read_text(encoding="utf-8").strip()


def own_draws(pairs: Pairs, batch: int) -> Iterator[Step]:
    """Endless steps by torch's global random numbers."""
    loader = DataLoader(pairs, batch_size=batch, shuffle=True)
    for own, prior in itertools.chain.from_iterable(itertools.repeat(loader)):
        latents_bchw = torch.cat([own[0], prior[0]])
        timesteps_b = torch.randint(0, 1000, (len(latents_bchw),))
        yield Step(latents_bchw, torch.randn_like(latents_bchw), timesteps_b, [*own[1], *prior[1]])


def config_of(method: str, classes: Path, seed: int) -> RunConfig:
    recipe = {key: value for key, value in read_json(RECIPE).items() if method in SETTINGS[key].methods}
    values = {**recipe, **SETTINGS_OF[method], "seed": seed, "class_data_dir": str(classes)}
    values |= {"base_model": str(BASE), "instance_data_dir": str(FOLDER / "pictures"), "report_to": "none"}
    values |= {"keep_back_pictures": False}  # the plain loop trains on all
    config, unreadable = parse(values | {"save_precision": "fp32"})
    config, _, _, problems, _ = config_checks.check(config)
    assert not unreadable and not problems, [*unreadable, *problems]
    return config


def draw_classes(out: Path) -> None:
    """The class pictures that both trainers use, where an earlier call has not drawn them: by a run of one step."""
    classes = out / "classes"
    if not any(classes.glob("*.png")):
        by_engine(replace(config_of("dreambooth", classes, 1), max_train_steps=1, text_encoder_steps=1), out)


def by_engine(config: RunConfig, folder: Path) -> Painter:
    run = run_folder.create(folder / "runs", config)
    assert worker.main([str(run.path)]) == worker.DONE
    file = run.artifacts / config.model_file(config.name)
    if config.method == "lora":
        return load_painter(open_base(BASE), torch.device("cpu"), None, [(file, 1.0)])
    return measure.open_painter(str(file))


def by_reference(config: RunConfig, folder: Path) -> Painter:
    models = folder / "base"
    if not models.exists():
        to_folder(open_base(BASE), models, torch.float32)
    torch.manual_seed(config.seed)
    loop = Reference(models, TOKENIZER, prior_loss_weight=config.prior_loss_weight)
    if config.method == "lora":
        loop.train_lora(RANK, config.learning_rate, config.text_encoder_lr, config.weight_decay)
    else:
        loop.train_all(config.learning_rate, config.text_encoder_lr, config.weight_decay)
    vae = AutoencoderKL.from_pretrained(models, subfolder="vae")
    pairs = Pairs(Path(config.instance_data_dir), Path(config.class_data_dir), vae)
    steps = own_draws(pairs, config.train_batch_size)
    for number, step in enumerate(itertools.islice(steps, config.max_train_steps)):
        if number == config.text_encoder_steps:
            loop.freeze_text()
        loop.step(step, float(config.max_grad_norm))
    painter = measure.open_painter(str(BASE))
    painter.unet, painter.text.encoders = loop.unet.eval(), [encoder.eval() for encoder in loop.encoders]
    return painter


def scores(painter: Painter) -> dict[str, float]:
    """Shares of pictures: with the subject, on the backgrounds of its photographs and on others, and without its word;
    and of the world's pictures that are as told."""
    return {
        "seen": measure.subject_score(painter, world.SUBJECT_BACKGROUNDS, 4),
        "unseen": measure.subject_score(painter, measure.UNSEEN, 2),
        "leak": measure.leak_score(painter, 10),
        "world": measure.world_score(painter, 16)["all"],
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """Mean, standard deviation and range of each score, by method and trainer."""
    lines = ["| method | trainer | runs | seen | unseen | without its word | world |", "| --- " * 7 + "|"]
    for method, trainer in itertools.product(SETTINGS_OF, TRAINERS):
        rows = [row for name, row in results.items() if name.startswith(f"{method} {trainer} ")]
        if rows:
            columns = [[row[part] for row in rows] for part in ("seen", "unseen", "leak", "world")]
            cells = [
                f"{statistics.mean(c):.2f} ± {statistics.pstdev(c):.2f} ({min(c):.2f} to {max(c):.2f})" for c in columns
            ]
            lines.append(f"| {method} | {trainer} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


TRAINERS = {"engine": by_engine, "reference": by_reference}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.chance", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=10, metavar="N")
    parser.add_argument("--method", nargs="+", choices=SETTINGS_OF, default=list(SETTINGS_OF))
    given = parser.parse_args(argv)
    path = given.out / "results.json"
    results = read_json(path) if path.exists() else {}
    draw_classes(given.out)
    for seed, method, trainer in itertools.product(range(1, given.seeds + 1), given.method, TRAINERS):
        name = f"{method} {trainer} {seed}"
        if name not in results:
            config = config_of(method, given.out / "classes", seed)
            results[name] = scores(TRAINERS[trainer](config, given.out))
            write_json(path, results)
            print(name, results[name], file=sys.stderr, flush=True)
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
